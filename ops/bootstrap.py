"""The composition root: reads nothing but the settings it is given, opens everything once, and hands it down."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from loguru import logger

from actors import STAGES
from broker.binding import BrokerPublisher, bind
from broker.dead_letters import DeadLetterArchiver
from broker.embedded import EmbeddedBroker
from broker.gauges import Depth
from broker.rabbitmq import RabbitBroker
from broker.topology import TopologyMismatch
from broker.transport import Transport
from broker.worker import WorkerGroup
from connectors.ledger import EmbeddedLedger, LedgerTranslator
from connectors.masterdata import MasterDataTranslator
from contracts.envelope import BULK, LANES, LIVE, Batch
from ops.archiving import archive
from ops.connecting import Connected
from ops.freshness import keep_fresh
from ops.pacing import StandsBack
from ops.recovery import Recovered, Recovery, drive_what_was_left, publish_owed, publish_rows_max, quiet_s
from pipeline.errors import TransientError
from pipeline.history import History
from pipeline.ports import Connector, Publisher, Target, Translator
from pipeline.rules import Rules, load_rules
from pipeline.runner import Runner, Services
from pipeline.settings import Settings
from pipeline.stage import Stage
from store.database import Database, migrate
from store.dead_letters import DeadLetters
from store.group_commit import AT_ONCE
from store.history import HistoryKey, HistoryReader
from store.intake import Intake
from store.ledger import LedgerWriter
from store.masterdata import MasterData
from store.outbox import Outbox, OutboxRow
from store.postings import StorePostings
from store.reference import ReferenceStore

#: How long a look at the reference data that is under way may hold up the end.
refresh_ends_within_s = 2


class NotReady(Exception):
    """A server is missing or its schema is old; the text says what to do."""


#: Targets that are always there, one line each; others are set up with `tieout target add`. The routing rules decide
#: what goes where.
CONNECTORS: tuple[Connector, ...] = (
    Connector(name="ledger", open=EmbeddedLedger, translator=LedgerTranslator()),
    Connector(name="masterdata", open=MasterData, translator=MasterDataTranslator()),
)


class Engine:
    """Everything one process works with. Opened and closed by `open_engine`, never by itself."""

    def __init__(
        self,
        settings: Settings,
        rules: Rules,
        db: Database,
        stages: Sequence[Stage] = STAGES,
        environment: Mapping[str, str] = os.environ,
        *,
        stands_back: bool = False,
    ) -> None:
        worker = f"{socket.gethostname()}:{os.getpid()}"
        self.settings = settings
        self.rules = rules
        self.db = db
        self.outbox = Outbox(db)
        pace = StandsBack(lambda: self.broker.live_at_work) if stands_back else AT_ONCE
        self.intake = Intake(db, self.outbox, pace=pace)
        self.dead_letters = DeadLetters(db, self.outbox)
        self.connected = Connected(db, settings, environment, CONNECTORS)
        self.targets: dict[str, Target] = self.connected.targets
        self.translators: dict[str, Translator] = self.connected.translators
        self.reference = ReferenceStore(db, fallback=rules.mappings, follow=self.connected.follow)
        self.history = HistoryReader(db)
        self.ledger = LedgerWriter(
            db,
            worker=worker,
            rows_max=settings.ledger_commit_rows_max,
            linger_ms=settings.ledger_linger_ms,
            pace=pace,
        )
        self.postings = StorePostings(
            db, self.outbox, worker=worker, rows_max=settings.ledger_commit_rows_max, on_outbox=self._owe, pace=pace
        )
        self.broker = self._make_broker(worker)
        self.publisher: Publisher = BrokerPublisher(self.broker)
        self.runner = Runner(stages, self._services(), settings, asyncio.get_running_loop())
        self.works = False
        self.workers: WorkerGroup | None = None
        self.starting: asyncio.Task[None] | None = None
        self._publishing: set[asyncio.Task[None]] = set()
        bind(self.broker, stages, lambda stage, body, info: self.runner.handle(stage, body, info.setbacks))

    def _make_broker(self, worker: str) -> Transport:
        settings = self.settings
        bounds: dict[str, Any] = {
            "prefetch": {LIVE: settings.live_prefetch, BULK: settings.bulk_prefetch},
            "records_max": {LIVE: settings.live_records_max, BULK: settings.bulk_records_max},
            "time_limit_ms": settings.stage_time_limit_ms,
            # What a stage makes of a record may be larger than the record, and travels alone then.
            "body_bytes_max": 8 * settings.message_bytes_max,
        }
        if settings.amqp_url is None:
            return EmbeddedBroker(**bounds)
        return RabbitBroker(settings.amqp_url, prefix=settings.prefix, name=f"tieout {worker}", **bounds)

    def _services(self) -> Services:
        return Services(
            ledger=self.ledger,
            publisher=self.publisher,
            reference=self.reference,
            history=self._history_of,
            release=self._release,
            postings=self.postings,
            rules=self.rules,
            targets=self.targets,
            translators=self.translators,
            unopened=self.connected.unopened,
        )

    async def _history_of(self, batch: Batch) -> dict[str, History]:
        envelope = batch.envelope
        return await self.history.of(
            [
                HistoryKey(record_id=item.id, source=envelope.source, document_type=envelope.type, subject=item.subject)
                for item in batch.items
            ]
        )

    async def _release(self, keys: Sequence[str]) -> None:
        await self.publish_outbox(await self.outbox.release_if_waiting(keys))

    def _owe(self, rows: Sequence[OutboxRow]) -> None:
        """Publish what a commit has just made us owe, without keeping the committer waiting."""
        task = asyncio.get_running_loop().create_task(self._publish_or_leave(rows))
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    async def _publish_or_leave(self, rows: Sequence[OutboxRow]) -> None:
        try:
            await self.publish_outbox(rows)
        except TransientError as error:
            logger.bind(event="outbox_left").warning(
                "{} messages stay owed until the clock publishes them: {}", len(rows), error
            )
        except Exception as error:
            logger.bind(event="outbox_left").opt(exception=error).error("{} messages stay owed", len(rows))

    async def publish_outbox(self, rows: Sequence[OutboxRow]) -> None:
        """Publish what the outbox owes, and forget it once confirmed.

        Embedded, a process that runs no stages has nobody to publish to: it stays owed for the one that does.

        Raises:
          TransientError: not everything was confirmed; it stays in the outbox and the clock publishes it.
        """
        if self.works or not self.settings.embedded:
            await publish_owed(self.publisher, self.outbox, rows)

    async def publish_when_room(self, rows: Sequence[OutboxRow]) -> None:
        """The same for whoever brings in more: waits while too much is under way, or the broker has an alarm. Never
        called by a stage.

        Raises: as `publish_outbox` does.
        """
        for start in range(0, len(rows), publish_rows_max):
            await self._publish_with_patience(rows[start : start + publish_rows_max])

    async def _publish_with_patience(self, rows: Sequence[OutboxRow]) -> None:
        while True:
            await self.broker.has_room()
            try:
                return await self.publish_outbox(rows)
            except TransientError:
                # An alarm that came up only now is waited out as well; it is known by the first message it stops.
                if not self.broker.blocked:
                    raise

    async def settle_publishing(self) -> None:
        """Wait for the publishings that commits of this process have set off."""
        publishing = tuple(self._publishing)
        await asyncio.gather(*publishing, return_exceptions=True)
        self._publishing.difference_update(publishing)

    @property
    def consuming(self) -> bool:
        """This process runs stages, and every queue of its lanes is consumed at this moment."""
        return self.workers is not None and self.workers.consuming

    async def depths(self) -> dict[str, Depth]:
        """Every queue by its short name: how many messages are ready, how many consumers there are."""
        return await self.broker.depths()

    async def recover(
        self, older_than_s: float | None = None, *, dry_run: bool = False, timeout_s: float = 60
    ) -> Recovered:
        """Drive again what was accepted, is not finished and is nowhere in the broker; see `ops.recovery`.

        Args:
          older_than_s: only what has not moved for so long; by default a few seconds.
        """
        age_s = min(quiet_s, self.settings.stranded_after_s) if older_than_s is None else older_than_s
        return await Recovery(self).everything(age_s, timeout_s=timeout_s, dry_run=dry_run)

    async def drain(self) -> None:
        """Embedded: wait until everything accepted is at rest (finished, parked, or waiting for a person)."""
        assert isinstance(self.broker, EmbeddedBroker), "only an embedded engine knows when its queues are empty"
        if self.starting is not None:
            await asyncio.wait([self.starting])
        while True:
            await self.broker.join()
            if not self._publishing:
                return
            await self.settle_publishing()


@asynccontextmanager
async def open_engine(
    settings: Settings,
    *,
    work: bool = False,
    lanes: Sequence[str] = LANES,
    stages: Sequence[Stage] = STAGES,
    environment: Mapping[str, str] = os.environ,
    stands_back: bool = False,
) -> AsyncIterator[Engine]:
    """Open the store, the broker and the targets; with `work`, run the stages of these lanes as well.

    With `stands_back` this process asks less of the database while a worker of the deployment has live work.

    Embedded, the schema is brought up to date and whatever an earlier process left unfinished is driven again first.
    Of the environment only the variables that targets name for their secrets are read.

    Raises:
      NotReady: a server is out of reach, or the schema is not current.
      InvalidRules: the rules file can't be used.
    """
    rules = load_rules(settings.rules_file)
    async with AsyncExitStack() as stack:
        db = await _open_database(settings, stack)
        engine = Engine(settings, rules, db, stages, environment, stands_back=stands_back)
        await _open_broker(engine, stack)
        if stands_back and not work:
            await engine.broker.listen()
        stack.push_async_callback(engine.settle_publishing)
        stack.push_async_callback(engine.intake.close)
        stack.push_async_callback(engine.ledger.close)
        stack.push_async_callback(engine.postings.close)
        stack.push_async_callback(engine.connected.close)
        await engine.reference.refresh()
        if work:
            await _start_work(engine, lanes, stack)
        yield engine


async def _open_database(settings: Settings, stack: AsyncExitStack) -> Database:
    if settings.embedded:
        await asyncio.to_thread(migrate, settings.database_url)
    try:
        db = await Database.open(settings.database_url)
    except TransientError as error:
        raise NotReady(f"DATABASE_URL: {error}; see `tieout doctor`") from None
    stack.push_async_callback(db.close)
    if not await db.schema_is_current():
        raise NotReady("the database schema is not current: run `tieout migrate`")
    return db


async def _open_broker(engine: Engine, stack: AsyncExitStack) -> None:
    try:
        await engine.broker.open()
    except (TransientError, TopologyMismatch) as error:
        raise NotReady(f"AMQP_URL: {error}; see `tieout doctor`") from None
    stack.push_async_callback(engine.broker.aclose)


async def _start_work(engine: Engine, lanes: Sequence[str], stack: AsyncExitStack) -> None:
    settings = engine.settings
    engine.works = True
    stop = asyncio.Event()
    fresh = _in_background(keep_fresh(engine.reference, settings.reference_refresh_ms, stop), stack)

    async def end_freshness() -> None:
        # Let it finish what it reads: a query that is cut off costs its connection.
        stop.set()
        await asyncio.wait([fresh], timeout=refresh_ends_within_s)

    stack.push_async_callback(end_freshness)
    archiver = DeadLetterArchiver(engine.broker, partial(archive, engine))
    await archiver.start()
    stack.push_async_callback(archiver.stop)
    # Embedded, no other process serves the other lane.
    threads = {LIVE: settings.live_threads, BULK: settings.bulk_threads}
    workers = WorkerGroup(engine.broker, LANES if settings.embedded else lanes, threads)
    workers.start()
    engine.workers = workers
    stack.push_async_callback(workers.stop, settings.shutdown_grace_ms)
    if settings.embedded:
        engine.starting = _in_background(_start_again(engine), stack)


def _in_background(work: Coroutine[Any, Any, None], stack: AsyncExitStack) -> asyncio.Task[None]:
    """Run it beside everything else until the stack is closed."""
    task = asyncio.create_task(work)

    async def end() -> None:
        task.cancel()
        await asyncio.wait([task])

    stack.push_async_callback(end)
    return task


async def _start_again(engine: Engine) -> None:
    """Drive what an earlier process left; what can't be driven now is left to the clock."""
    try:
        await drive_what_was_left(engine)
    except TransientError as error:
        logger.bind(event="start_delayed").warning("not everything unfinished is driven yet: {}", error)
    except Exception as error:
        logger.bind(event="start_failed").opt(exception=error).error("what was left unfinished is not driven")
