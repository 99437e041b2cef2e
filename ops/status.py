"""The status: what is moving and how fast, what is stuck and what that is worth."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from connectors.http.standing import Snapshot
from ops.causes import Cause, causes
from ops.comparison import stranded_counts
from pipeline.states import DEAD, IN_DOUBT, IN_FLIGHT, PARKED
from store.balance import StageRate, throughput
from store.dead_letter_filter import DeadLetterFilter
from store.record_states import Flagged, Standings, flagged, standings
from store.targets import unfinished
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


class TargetStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A target that somebody has set up. `unopened` says why this process can't open it, `guard` how it stands where it
    can, `unfinished` how many deliveries to it are in which state.
    """

    target: str
    kind: str
    unopened: str | None
    guard: Snapshot | None
    unfinished: Mapping[str, int]

    @property
    def waiting(self) -> int:
        """Deliveries that the target has to be called for."""
        return self.unfinished.get(IN_FLIGHT, 0) + self.unfinished.get(IN_DOUBT, 0)


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an operator looks at first. `owed` messages wait in the outbox for the broker; `alarm` says why the
    broker takes none ("low on memory"), and is empty while it does.
    """

    alarm: str
    queues: list[QueueDepth]
    rates: list[StageRate]
    unsettled: list[Standings]
    waiting: list[Waiting]
    flagged: list[Flagged]
    dead: Sequence[Cause]
    targets: list[TargetStatus]
    owed: int
    stranded: int

    @property
    def unattended(self) -> bool:
        """Messages are ready that nobody takes."""
        return any(
            one.ready and not one.consumers and one.queue != "dead" and not one.queue.startswith("retry.")
            for one in self.queues
        )

    @property
    def stuck(self) -> bool:
        """Something will not go on by itself: the broker's alarm, stranded records, messages that nobody takes, or
        deliveries to a target that can't be opened.
        """
        return bool(self.alarm or self.stranded or self.unattended or self.shut_out)

    @property
    def shut_out(self) -> list[TargetStatus]:
        """Targets that can't be opened while something waits for them."""
        return [one for one in self.targets if one.unopened is not None and one.waiting]


async def status(engine: "Engine") -> Status:
    """The status of this moment; the rates are those of the last minute."""
    depths = await engine.depths()
    return Status(
        alarm=await engine.broker.alarm(),
        queues=[QueueDepth(queue=name, ready=one.ready, consumers=one.consumers) for name, one in depths.items()],
        rates=await throughput(engine.db, throughput_s),
        unsettled=await standings(engine.db, UNSETTLED),
        waiting=await waiting(engine.db),
        flagged=await flagged(engine.db),
        dead=await causes(engine, DeadLetterFilter()),
        targets=await target_statuses(engine),
        owed=await engine.outbox.count(),
        stranded=sum((await stranded_counts(engine)).values()),
    )


async def target_statuses(engine: "Engine") -> list[TargetStatus]:
    """The targets that somebody has set up, by name."""
    connected = engine.connected
    if not connected.rows:
        return []
    counts = await unfinished(engine.db, list(connected.rows))
    return [
        TargetStatus(
            target=name,
            kind=row.kind,
            unopened=connected.unopened.get(name),
            guard=await connected.guards[name].snapshot() if name in connected.guards else None,
            unfinished=counts[name],
        )
        for name, row in connected.rows.items()
    ]
