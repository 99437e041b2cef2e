"""Tieout as it is deployed: the full runner, ledger and lineage on PostgreSQL, one record per message.

The five stages only pass the record on, as the hops of the others do. An event is accepted in the ledger and its
message owed in the same transaction before it is published, so this is more than the others do before their first hop.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.contender import Arrangement, Contender, Publish
from benchmarks.events import HOPS, number_of, time_entry
from contracts.channels import Reconciled
from contracts.envelope import BULK
from contracts.money import Money
from contracts.time_entry import TimeEntry
from ops.bootstrap import Engine, open_engine
from ops.ingest.layout import MappingFile, MappingRules
from ops.ingest.records import Origin
from ops.ingest.run import publishings_max, records_per_transaction_max
from ops.ingest.translation import Mapped
from ops.machine import give_way, spare_the_collector
from ops.processes import stand_back
from pipeline.settings import read_settings
from pipeline.stage import Stage

DOCUMENT_TYPE = "time_entry.v1"
_WORTH = Money(amount=Decimal(0), currency="EUR")


class Tieout(Contender):
    """The engine of two `tieout worker` processes; settings are the defaults of `pipeline/settings.py`.

    On the bulk lane the records of a transaction travel in batches through the same stages.
    """

    libraries = ("tieout", "dramatiq", "pika", "msgspec", "sqlalchemy", "psycopg")
    settings: ClassVar[Mapping[str, str]] = {
        "everything": "the defaults: they are meant for production",
        "acknowledgement": "when the next message is confirmed and the ledger entry is committed",
    }

    #: Who the records come from.
    source = "benchmark"

    def __init__(self, arrangement: Arrangement) -> None:
        super().__init__(arrangement)
        self._tally = arrangement.tally()

    def environment(self) -> dict[str, str]:
        """The variables that a deployment would set."""
        arrangement = self.arrangement
        return {
            "AMQP_URL": arrangement.amqp_url,
            "DATABASE_URL": arrangement.database_url,
            "TIEOUT_PREFIX": arrangement.prefix,
        }

    def document(self, number: int) -> TimeEntry:
        return time_entry(number)

    def stages(self) -> tuple[Stage, ...]:
        """Four that pass the record on, and one that closes it."""

        def last(entry: TimeEntry, context: Any) -> Reconciled:
            self._tally.count(number_of(entry.id))
            return Reconciled(target="benchmark", target_id=entry.id, amount=_WORTH)

        passing = [
            Stage(name=f"hop{number}", consumes=TimeEntry, emits=TimeEntry, handle=_pass_on, waits=False)
            for number in range(1, HOPS)
        ]
        return (*passing, Stage(name=f"hop{HOPS}", consumes=TimeEntry, emits=Reconciled, handle=last, waits=False))

    def queues(self) -> tuple[str, ...]:
        return tuple(f"{self.arrangement.prefix}.{stage.name}.{self.arrangement.lane}" for stage in self.stages())

    def leftovers(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return self._other_queues, self._exchanges

    async def work(self) -> None:
        lane, settings = self.arrangement.lane, read_settings(self.environment())
        if lane == BULK:
            settings = stand_back(settings)
        async with open_engine(settings, work=True, lanes=(lane,), stages=self.stages(), stands_back=lane == BULK):
            spare_the_collector()
            await asyncio.Event().wait()

    @asynccontextmanager
    async def publisher(self) -> AsyncIterator[Publish]:
        if self.arrangement.lane == BULK:
            give_way()
        bulk = self.arrangement.lane == BULK
        async with open_engine(read_settings(self.environment()), stages=self.stages(), stands_back=bulk) as engine:
            topology = engine.broker.topology
            self._other_queues = tuple(queue.name for queue in topology.queues if queue.name not in self.queues())
            self._exchanges = tuple(exchange.name for exchange in topology.exchanges)
            yield await self._ingest(engine)

    async def _ingest(self, engine: Engine) -> Publish:
        """What `tieout ingest` does behind the reading of files: accept in transactions, publish what is owed."""
        lane, stage = self.arrangement.lane, self.stages()[0].name
        origin = Origin(mapping=_mapping(self.source), settings=engine.settings, lane=lane, started=datetime.now(UTC))
        run_id = await engine.intake.open_run(
            actor="benchmark", origin="benchmark", source=self.source, document_type=DOCUMENT_TYPE, lane=lane
        )
        room = asyncio.Semaphore(publishings_max)

        async def accept(numbers: range, publishing: asyncio.TaskGroup) -> None:
            records = [origin.record(self._mapped(number), number) for number in numbers]
            count = len(records)
            accepted = await engine.intake.accept(
                run_id,
                records,
                [],
                rows=count,
                filtered=0,
                read=count,
                messages=lambda new: origin.messages(new, stage),
            )
            await room.acquire()
            task = publishing.create_task(engine.publish_when_room(accepted.outbox))
            task.add_done_callback(lambda _: room.release())

        async def publish(first: int, count: int) -> None:
            async with asyncio.TaskGroup() as publishing:
                for start in range(first, first + count, records_per_transaction_max):
                    await accept(range(start, min(start + records_per_transaction_max, first + count)), publishing)

        return publish

    def _mapped(self, number: int) -> Mapped:
        entry = self.document(number)
        return Mapped(document=entry, subject=entry.id, revision="1")


def _pass_on(entry: TimeEntry, context: Any) -> TimeEntry:
    return entry


def _mapping(source: str) -> MappingRules:
    """The records come as documents, so nothing is mapped: it only says what they are and whose."""
    file = MappingFile(document_type="time_entry", source=source, id="id", fields={})
    return MappingRules(
        path=Path("benchmark"),
        document_type=DOCUMENT_TYPE,
        contract=TimeEntry,
        source=source,
        id=("id",),
        revision=None,
        conditions=(),
        fields={},
        file=file,
    )


CONTENDER = Tieout
