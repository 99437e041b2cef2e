"""Comparison: what the ledger says is on its way, held against what the broker has of it; the rest is lost."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from broker.binding import queue_of
from broker.embedded import EmbeddedBroker
from broker.search import Search
from store.recovery import Candidate, Standing, candidates, unmoved

if TYPE_CHECKING:
    from ops.bootstrap import Engine

records_per_comparison_max = 50_000

#: Outcomes of a step after which the record is still at the stage that wrote it, and at no other.
_STAYS = ("retried", "released", "requeued", "in_doubt")


class Undecided(msgspec.Struct, frozen=True, kw_only=True):
    """So many records of which nothing can be told, and why. `stuck`: that will not change by itself."""

    records: int
    why: str
    stuck: bool


class Compared(msgspec.Struct, kw_only=True):
    """`slow`: in the broker, or moved meanwhile. `lost`: in the ledger only, with the parts of each that are."""

    candidates: int
    slow: int
    lost: list[Candidate]
    undecided: list[Undecided]


class Comparison:
    """A comparison under way. It may be gone on with later: what it was begun for stays the same."""

    def __init__(self, engine: "Engine", noted: Sequence[Candidate], search: Search) -> None:
        self.noted, self.search = noted, search
        self._engine = engine
        self._held: dict[str, set[str]] = {}
        self._places = {
            (one.id, target): _places(engine, one, part) for one in noted for target, part in one.parts.items()
        }

    @classmethod
    async def begin(cls, engine: "Engine", noted: Sequence[Candidate]) -> "Comparison":
        """Raises TransientError: the broker can't be asked."""
        places = {queue for one in noted for part in one.parts.values() for queue in _places(engine, one, part)}
        return cls(engine, noted, await engine.broker.search(places))

    async def finish(self, timeout_s: float) -> Compared | None:
        """The outcome; None when it takes longer than this, and may be gone on with.

        Raises:
          TransientError: the search is lost; begin another one.
        """
        return await self.decide() if await self.search.finish(timeout_s) else None

    async def decide(self) -> Compared:
        """The outcome of a search that is done."""
        # Only now: whatever the broker had and has no more has left a step in the ledger.
        still = await unmoved(self._engine.db, self.noted)
        self._held = defaultdict(set)
        for record_id, target in self.search.held:
            self._held[record_id].add(target)
        reasons: Counter[str] = Counter()
        lost: list[Candidate] = []
        for one in still:
            if closed := self._closed(one):
                reasons[closed] += 1
            elif parts := self._missing(one):
                lost.append(msgspec.structs.replace(one, parts=parts))
        return Compared(
            candidates=len(self.noted),
            slow=len(self.noted) - len(lost) - reasons.total(),
            lost=lost,
            undecided=[Undecided(records=count, why=why, stuck=True) for why, count in sorted(reasons.items())],
        )

    def unfinished(self) -> Compared:
        """What to say when there is no time to finish."""
        count = len(self.noted)
        why = self.search.hindrance
        undecided = [Undecided(records=count, why=why, stuck=not why.startswith("still"))]
        return Compared(candidates=count, slow=0, lost=[], undecided=undecided)

    async def close(self) -> None:
        await self.search.close()

    def _missing(self, one: Candidate) -> dict[str, Standing]:
        """The parts that are nowhere. A message without a target drives all of them, and each stands for the whole."""
        held = self._held.get(one.id, set())
        if "" in held:
            return {}
        return {target: part for target, part in one.parts.items() if target not in held and (target or not held)}

    def _closed(self, one: Candidate) -> str | None:
        """Why nothing can be told of a missing part of the record."""
        closed = self.search.closed
        if "" in closed:
            return closed[""]
        places = (queue for target in self._missing(one) for queue in self._places[one.id, target])
        return next((f"they may wait in {queue}: {closed[queue]}" for queue in places if queue in closed), None)


def _places(engine: "Engine", one: Candidate, part: Standing) -> list[str]:
    """The queues that the part can be in, by its last step: that stage's own, if its message came back, or the next."""
    stages, following = engine.runner.stages, engine.runner.next_stage
    if part.outcome == "accepted":
        at: Iterable[str] = [next(iter(stages))]
    elif part.stage not in stages:
        at = stages
    elif part.outcome in _STAYS or following[part.stage] is None:
        at = [part.stage]
    else:
        at = [part.stage, following[part.stage].name]
    return [queue_of(stage, one.lane) for stage in at]


async def stranded_counts(engine: "Engine") -> Mapping[str, int]:
    """How many records are certainly stranded, by document type: a quick look that never counts what is slow.

    A record that has not moved for long is stranded when the queues it may be in are empty and no worker has it.
    Where that can't be told at once it is not counted; `recover` takes the time to find out.
    """
    found = await candidates(engine.db, engine.settings.stranded_after_s, records_per_comparison_max)
    if not found:
        return {}
    if isinstance(engine.broker, EmbeddedBroker) and not engine.works:
        # Its messages are in the memory of another process, if there is one.
        return Counter(one.document_type for one in found)
    comparison = await Comparison.begin(engine, found)
    try:
        if not await comparison.search.glance():
            return {}
        compared = await comparison.decide()
    finally:
        await comparison.close()
    return Counter(one.document_type for one in compared.lost)
