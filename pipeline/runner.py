"""The runner: takes a message to a stage, maps the stage over its records, and makes everything it caused durable.

A worker thread judges; what is to become durable is begun on the event loop, many messages at once. The message may be
acknowledged when the next messages are confirmed by the broker and the ledger entry is committed. A stage that waits
runs on the event loop altogether and holds no worker thread.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec
from loguru import logger

from contracts.envelope import Batch, Envelope
from pipeline.codes import NO_ROUTE
from pipeline.entries import Entry, Step
from pipeline.errors import TransientError, UndecodableMessage
from pipeline.history import NO_HISTORY, History
from pipeline.judgement import Failed, Judged, Parked, judge, judge_waiting
from pipeline.messages import apart, decode
from pipeline.ports import Ledger, Message, Postings, Publisher, Target, Translator
from pipeline.reference import Reference
from pipeline.rules import Rules
from pipeline.settings import Settings
from pipeline.settlement import Settlement, settle
from pipeline.stage import Context, Stage

T = TypeVar("T")

#: Called on the event loop, it begins the rest of the work; the message is done when all of these futures are.
Begin = Callable[[], Sequence[asyncio.Future[None]]]

lookup_timeout_s = 60
#: So often a message of several records may come back before they go on one by one.
apart_after = 2


class ReferenceSource(Protocol):
    """Where the newest reference data comes from."""

    @property
    def snapshot(self) -> Reference: ...

    async def refresh(self, at_least: int = 0) -> None: ...


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """What the runner hands down to the stages and reports to; put together once, in `ops/bootstrap.py`.

    `history` looks up the neighbours of a batch's records; `release` lets go whoever is parked under a key that has
    arrived after all. `unopened` says of targets that are set up why this process can't open them; it may change.
    """

    ledger: Ledger
    publisher: Publisher
    reference: ReferenceSource
    history: Callable[[Batch], Coroutine[Any, Any, dict[str, History]]]
    release: Callable[[Sequence[str]], Awaitable[None]]
    postings: Postings
    rules: Rules
    targets: dict[str, Target]
    translators: dict[str, Translator]
    unopened: dict[str, str] = {}


class Runner:
    """Runs the stages of one process. `handle` may be called from any thread; everything else is on the loop."""

    def __init__(
        self,
        stages: Sequence[Stage],
        services: Services,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        lookup_timeout_s: float = lookup_timeout_s,
    ) -> None:
        self.stages = {stage.name: stage for stage in stages}
        self.next_stage = dict(zip(self.stages, [*stages[1:], None], strict=True))
        self.services = services
        self.settings = settings
        self.loop = loop
        self.lookup_timeout_s = lookup_timeout_s
        self._ledger_writes = True

    def handle(self, stage_name: str, body: bytes, setbacks: int = 0) -> Begin:
        """Work on one message as far as a thread can; what it returns begins the rest, on the event loop.

        The message may be acknowledged when the futures of that are done; when one has failed it must come again.

        Args:
          setbacks: how often this very message has come back, since it raised something nobody planned for or its
            worker died. One of its records may be poison: from `apart_after` on each goes on in a message of its own.

        Raises:
          UndecodableMessage: the bytes are not a batch: no attempt will ever succeed.
        """
        stage = self.stages[stage_name]
        try:
            batch = decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UndecodableMessage(f"{stage_name}: {error}") from None
        if setbacks >= apart_after and len(batch.items) > 1:
            return _begins(partial(self._take_apart, stage, batch, setbacks))
        if stage.waits:
            return _begins(partial(self._run_waiting, stage, batch))
        return partial(self._make_durable, self._settle(stage, batch, self._judge(stage, batch)))

    async def _take_apart(self, stage: Stage, batch: Batch, setbacks: int) -> None:
        """One poisonous record must not take its neighbours with it."""
        bound = logger.bind(event="taken_apart", stage=stage.name, message_id=batch.envelope.id)
        bound.warning("came back {} times: its {} records go on one by one", setbacks, len(batch.items))
        # Without a step nothing would tell these records from lost ones: the message that held them is about to go.
        detail = f"its message came back {setbacks} times: goes on alone"
        steps = [
            Step(record_id=item.id, stage=stage.name, outcome="retried", target=item.target, detail=detail)
            for item in batch.items
        ]
        # Each by itself: what can't be written of the poisonous one must not keep its neighbours here.
        record = self.services.ledger.record
        for error in await asyncio.gather(*(record(Entry(steps=[step])) for step in steps), return_exceptions=True):
            if isinstance(error, TransientError):
                raise error
            if error is not None:
                bound.warning("no step for one of them: {!r}", error)
        await self.services.publisher.publish([Message(stage=stage.name, batch=one) for one in apart(batch)])

    def _judge(self, stage: Stage, batch: Batch) -> list[Judged]:
        """Map the stage over the batch. What seems to be missing is judged again on fresh reference data."""
        if batch.envelope.referenceversion > self.services.reference.snapshot.version:
            self._wait_for(self._prepare(batch.envelope))
        history = self._wait_for(self.services.history(batch)) if stage.reads_history else {}
        version = self.services.reference.snapshot.version
        judged = [self._judge_one(stage, context) for context in self._contexts(batch, history)]
        if any(_something_missing(one) for one in judged):
            self._wait_for(self.services.reference.refresh())
            if self.services.reference.snapshot.version != version:
                contexts = self._contexts(batch, history)
                judged = [
                    self._judge_one(stage, context) if _something_missing(one) else one
                    for one, context in zip(judged, contexts, strict=True)
                ]
        return judged

    def _judge_one(self, stage: Stage, context: Context) -> Judged:
        return Judged(context.item, judge(stage, context, self.settings.retry_attempts_max))

    async def _run_waiting(self, stage: Stage, batch: Batch) -> None:
        await self._prepare(batch.envelope)
        judged = await self._judge_waiting(stage, self._contexts(batch, {}))
        # All of them, also when one fails: nothing may still be under way when the message is given back.
        done = self._make_durable(self._settle(stage, batch, judged))
        await asyncio.wait(done)
        for future in done:
            future.result()

    async def _judge_waiting(self, stage: Stage, contexts: Sequence[Context]) -> list[Judged]:
        """Map a stage that waits. A target that seems not to be there is looked for again in fresh reference data:
        nothing has been called yet for such a record, and whoever routed it may have known more than we do.
        """
        attempts_max, limit_s = self.settings.retry_attempts_max, self.settings.stage_time_limit_ms / 1000

        async def judge_all(some: Sequence[Context]) -> list[Judged]:
            verdicts = await asyncio.gather(*(judge_waiting(stage, one, attempts_max, limit_s) for one in some))
            return [Judged(one.item, verdict) for one, verdict in zip(some, verdicts, strict=True)]

        version = self.services.reference.snapshot.version
        judged = await judge_all(contexts)
        if nowhere := [number for number, one in enumerate(judged) if _not_connected(one)]:
            await self.services.reference.refresh()
            if self.services.reference.snapshot.version != version:
                again = await judge_all([contexts[number] for number in nowhere])
                for number, one in zip(nowhere, again, strict=True):
                    judged[number] = one
        return judged

    def _settle(self, stage: Stage, batch: Batch, judged: list[Judged]) -> Settlement:
        settlement = settle(
            stage,
            self.next_stage[stage.name],
            batch.envelope,
            judged,
            bytes_max=self.settings.message_bytes_max,
        )
        _log(stage, batch, settlement)
        return settlement

    def _make_durable(self, settlement: Settlement) -> Sequence[asyncio.Future[None]]:
        """Begin to make everything the message caused durable: side by side, where nothing depends on the order.

        While the ledger can't be written, it comes first: a message published beside it would be published again with
        each attempt, and its copies at the next stage as well.
        """
        entry, messages = settlement.entry, settlement.messages
        if entry.goes_first or not self._ledger_writes:
            return [asyncio.ensure_future(self._make_durable_in_order(settlement))]
        recorded = asyncio.ensure_future(self.services.ledger.record(entry))
        recorded.add_done_callback(self._recorded)
        return [recorded, asyncio.ensure_future(self.services.publisher.publish(messages))] if messages else [recorded]

    async def _make_durable_in_order(self, settlement: Settlement) -> None:
        """The next stage, and whoever listens for dead letters, must find what they are told about."""
        entry = settlement.entry
        recorded = asyncio.ensure_future(self.services.ledger.record(entry))
        recorded.add_done_callback(self._recorded)
        await recorded
        if settlement.messages:
            await self.services.publisher.publish(settlement.messages)
        if settlement.letters:
            await self.services.publisher.publish_dead(settlement.letters)
        if entry.parkings:
            await self._look_again({parking.key for parking in entry.parkings})

    def _recorded(self, recorded: asyncio.Future[None]) -> None:
        self._ledger_writes = not recorded.cancelled() and not isinstance(recorded.exception(), TransientError)

    async def _look_again(self, keys: set[str]) -> None:
        """The record waited for may have arrived between the look-up and the parking: nobody else would notice."""
        await self.services.reference.refresh()
        arrived = [key for key in keys if self.services.reference.snapshot.has(key)]
        if arrived:
            await self.services.release(arrived)

    async def _prepare(self, envelope: Envelope) -> None:
        """Never judge a message by older reference data than its sender had."""
        if envelope.referenceversion > self.services.reference.snapshot.version:
            await self.services.reference.refresh(envelope.referenceversion)

    def _contexts(self, batch: Batch, history: dict[str, History]) -> list[Context]:
        services, now = self.services, datetime.now(UTC)
        return [
            Context(
                envelope=batch.envelope,
                item=item,
                reference=services.reference.snapshot,
                rules=services.rules,
                history=history.get(item.id, NO_HISTORY),
                translators=services.translators,
                targets=services.targets,
                unopened=services.unopened,
                postings=services.postings,
                now=now,
            )
            for item in batch.items
        ]

    def _wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Wait, in a worker thread, for a look-up on the loop.

        Raises:
          TransientError: it takes too long, as when a database has gone silent: no fault of the message.
        """
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result(self.lookup_timeout_s)
        except TimeoutError as error:
            future.cancel()
            raise TransientError(f"a look-up took longer than {self.lookup_timeout_s:g} s") from error


def _begins(work: Callable[[], Coroutine[Any, Any, None]]) -> Begin:
    return lambda: [asyncio.ensure_future(work())]


def _something_missing(judged: Judged) -> bool:
    match judged.verdict:
        case Parked():
            return True
        case Failed(failure=failure):
            return failure.code.endswith("_MISSING") or _not_connected(judged)
        case _:
            return False


def _not_connected(judged: Judged) -> bool:
    return isinstance(judged.verdict, Failed) and judged.verdict.failure.code == NO_ROUTE.name


def _log(stage: Stage, batch: Batch, settlement: Settlement) -> None:
    logger.bind(
        event="stage_done",
        stage=stage.name,
        message_id=batch.envelope.id,
        document_type=batch.envelope.type,
        lane=batch.envelope.lane,
        attempt=batch.envelope.attempt,
    ).debug("{} records, {} dead, {} parked", len(batch.items), len(settlement.letters), len(settlement.entry.parkings))
