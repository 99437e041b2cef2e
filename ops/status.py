"""The status: what is moving and how fast, what is stuck and what that is worth."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from ops.causes import Cause, causes
from ops.recovery import find_stranded
from pipeline.states import DEAD, IN_DOUBT, IN_FLIGHT, PARKED
from store.balance import StageRate, throughput
from store.dead_letter_filter import DeadLetterFilter
from store.record_states import Flagged, Standings, flagged, standings
from store.waiting import Waiting, waiting

if TYPE_CHECKING:
    from ops.bootstrap import Engine

#: Not at rest, or at rest where somebody must act.
UNSETTLED = (IN_FLIGHT, IN_DOUBT, PARKED, DEAD)
throughput_s = 60


class QueueDepth(msgspec.Struct, frozen=True, kw_only=True):
    """A queue by its short name: messages that are ready, and who takes them."""

    queue: str
    ready: int
    consumers: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an operator looks at first. `owed` messages wait in the outbox for the broker."""

    queues: list[QueueDepth]
    rates: list[StageRate]
    unsettled: list[Standings]
    waiting: list[Waiting]
    flagged: list[Flagged]
    dead: Sequence[Cause]
    owed: int
    stranded: int

    @property
    def stuck(self) -> bool:
        """Something will not go on by itself: stranded records, or messages that nobody takes."""
        unattended = any(
            one.ready and not one.consumers and one.queue != "dead" and not one.queue.startswith("retry.")
            for one in self.queues
        )
        return bool(self.stranded) or unattended


async def status(engine: "Engine") -> Status:
    """The status of this moment; the rates are those of the last minute."""
    depths = await engine.depths()
    return Status(
        queues=[QueueDepth(queue=name, ready=one.ready, consumers=one.consumers) for name, one in depths.items()],
        rates=await throughput(engine.db, throughput_s),
        unsettled=await standings(engine.db, UNSETTLED),
        waiting=await waiting(engine.db),
        flagged=await flagged(engine.db),
        dead=await causes(engine, DeadLetterFilter()),
        owed=await engine.outbox.count(),
        stranded=len(await find_stranded(engine, engine.settings.stranded_after_s)),
    )
