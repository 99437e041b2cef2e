"""Recover: what the ledger knows as unfinished and the broker does not have is driven again, and nothing else."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from loguru import logger

from broker.delivery import Unroutable
from contracts.envelope import LANES
from ops.comparison import Compared, Comparison, Undecided, records_per_comparison_max
from ops.driving import can_be_driven, rows_for
from pipeline.errors import TransientError
from pipeline.messages import decode
from pipeline.ports import Message, Publisher
from store.continuation import to_drive
from store.outbox import Outbox, OutboxRow
from store.recovery import candidates, mark_recovered

if TYPE_CHECKING:
    from ops.bootstrap import Engine

publish_rows_max = 200

#: A record that had a step this short ago is moving, and no further question is asked.
quiet_s = 10


class Homeless(TransientError):
    """Owed messages are for stages without a queue: a stage was renamed, or its processes are older than we are."""


async def publish_owed(publisher: Publisher, outbox: Outbox, rows: Sequence[OutboxRow]) -> None:
    """Publish these rows, a bounded number at a time, and forget each once it is confirmed.

    Raises:
      TransientError: not all were confirmed; those stay owed.
    """
    homeless: list[OutboxRow] = []
    for start in range(0, len(rows), publish_rows_max):
        some = rows[start : start + publish_rows_max]
        try:
            await publisher.publish([_message(row) for row in some])
        except Unroutable:
            stuck = await _without_a_queue(publisher, some)
            homeless += stuck
            some = [row for row in some if row not in stuck]
        await outbox.delete([row.number for row in some])
    if homeless:
        stages = ", ".join(sorted({row.stage for row in homeless}))
        raise Homeless(f"{len(homeless)} owed messages are for stages that have no queue: {stages}")


async def _without_a_queue(publisher: Publisher, rows: Sequence[OutboxRow]) -> list[OutboxRow]:
    """Publish one by one, so that those without a queue hold up no others; returns them."""
    stuck = []
    for row in rows:
        try:
            await publisher.publish([_message(row)])
        except Unroutable:
            stuck.append(row)
    return stuck


def _message(row: OutboxRow) -> Message:
    return Message(stage=row.stage, batch=decode(row.body))


async def relay(engine: "Engine", older_than_s: float) -> None:
    """Publish everything that has been owed for so long, a bounded number at a time.

    Raises:
      TransientError: something could not be published; it stays owed, but holds up nothing else.
    """
    last, homeless = 0, None
    while rows := await engine.outbox.pending(publish_rows_max, older_than_s, last):
        last = rows[-1].number
        try:
            await engine.publish_when_room(rows)
        except Homeless as error:
            homeless = error
    if homeless is not None:
        raise homeless


class Recovered(msgspec.Struct, kw_only=True):
    """What became of the records that had not moved for a while.

    `slow` are in the broker or moved meanwhile; `lost` are in the ledger only, of which `driven` (with `dry_run`: would
    be) were driven again: fewer when somebody else was faster.
    """

    candidates: int = 0
    slow: int = 0
    lost: int = 0
    driven: int = 0
    undecided: list[Undecided] = []

    @property
    def stuck(self) -> bool:
        """Something needs a person: a worker to be started, a payload that is gone."""
        return any(one.stuck for one in self.undecided)

    def add(self, other: "Recovered") -> None:
        for name in ("candidates", "slow", "lost", "driven"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.undecided = [*self.undecided, *other.undecided]


async def drive_what_was_left(engine: "Engine", records_max: int = records_per_comparison_max) -> None:
    """Embedded, when a process starts: everything unfinished lost its message with the process before.

    Recovered before the outbox is relayed, since what is owed is being driven already.
    """
    await Recovery(engine, records_max).everything(0, timeout_s=0)
    await relay(engine, 0)


class Recovery:
    """Finds what is lost and drives it again, so many records at a time.

    A comparison that takes longer than there is time for is kept, and gone on with the next time: whoever calls again
    and again has one marker under way in a queue, not many. Nothing is decided before the longest of the queues has
    been looked through, so whoever has little time gives each of the `lanes` a recovery of its own.
    """

    def __init__(
        self, engine: "Engine", records_max: int = records_per_comparison_max, lanes: Sequence[str] = LANES
    ) -> None:
        self._engine, self._records_max, self._lanes = engine, records_max, lanes
        self._after = 0
        self._comparison: Comparison | None = None

    async def everything(self, older_than_s: float, *, timeout_s: float, dry_run: bool = False) -> Recovered:
        """All that has not moved for so long, at most for about `timeout_s`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        began, done = loop.time(), Recovered()
        while True:
            # What moves from now on, or is accepted, is not looked for: this comes to an end.
            age_s = older_than_s + loop.time() - began
            done.add(await self.some(age_s, timeout_s=max(0.0, deadline - loop.time()), dry_run=dry_run))
            if self._comparison is not None:
                await self.close()
                return done
            if not self._after:
                return done

    async def some(self, older_than_s: float, *, timeout_s: float, dry_run: bool = False) -> Recovered:
        """The next so many records; after the last ones it begins with the first again.

        Raises:
          TransientError: broker or store can't be asked now.
        """
        comparison = self._comparison or await self._begin(older_than_s)
        if comparison is None:
            return Recovered()
        self._comparison = comparison
        try:
            compared = await comparison.finish(timeout_s)
        except BaseException:
            await self.close()
            raise
        if compared is None:
            return _told(comparison.unfinished())
        await self.close()
        return await self._drive(compared, dry_run)

    async def close(self) -> None:
        """Give up what is under way."""
        comparison, self._comparison = self._comparison, None
        if comparison is not None:
            await comparison.close()

    async def _begin(self, older_than_s: float) -> Comparison | None:
        engine = self._engine
        noted = await candidates(
            engine.db,
            older_than_s,
            self._records_max,
            lanes=self._lanes,
            after=self._after,
            waiting_too=engine.settings.embedded,
        )
        self._after = noted[-1].number if len(noted) == self._records_max else 0
        return await Comparison.begin(engine, noted) if noted else None

    async def _drive(self, compared: Compared, dry_run: bool) -> Recovered:
        engine, done = self._engine, _told(compared)
        found = await to_drive(engine.db, compared.lost)
        drivable = [record for record in found if can_be_driven(record)]
        if gone := len(found) - len(drivable):
            why = "lost, and nothing is left to build their messages from"
            done.undecided.append(Undecided(records=gone, why=why, stuck=True))
        if dry_run or not drivable:
            done.driven = len(drivable)
            return done
        async with engine.db.begin() as connection:
            ours = await mark_recovered(connection, drivable)
            rows = await engine.outbox.add(connection, rows_for(engine, ours))
        done.driven = len(ours)
        logger.bind(event="recovered").info("{} lost records are driven again", len(ours))
        await engine.publish_when_room(rows)
        return done


def _told(compared: Compared) -> Recovered:
    return Recovered(
        candidates=compared.candidates,
        slow=compared.slow,
        lost=len(compared.lost),
        undecided=list(compared.undecided),
    )
