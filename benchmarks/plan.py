"""What is measured, how much of it, and what is to be reached."""

import msgspec

from benchmarks.contenders import ENTRANTS
from benchmarks.figures import Target

#: Everything a run can measure; `--parts` chooses.
PARTS = ("throughput", "latency", "growth", "lanes")


def _rows(peer: str) -> tuple[str, ...]:
    return tuple(entrant.name for entrant in ENTRANTS.values() if entrant.peer == peer)


#: A peer with several rows is taken at its best one.
TARGETS = (
    Target(name="broker / dramatiq", ours="broker", theirs=_rows("dramatiq"), at_least=4.5),
    Target(name="broker / faststream", ours="broker", theirs=_rows("faststream"), at_least=4.5),
    Target(name="broker / celery", ours="broker", theirs=_rows("celery"), at_least=9),
    Target(name="broker / taskiq", ours="broker", theirs=_rows("taskiq")),
    Target(name="broker / pika", ours="broker", theirs=("pika",), at_least=0.5),
    Target(name="tieout / dramatiq", ours="tieout", theirs=_rows("dramatiq"), at_least=3),
    Target(name="bulk / live, tieout", ours="tieout-bulk", theirs=("tieout",), at_least=10),
    Target(name="bulk / live, broker", ours="broker-bulk", theirs=("broker",)),
    *(
        # A classic queue confirms what it has not put on disk yet, so at the same durability the quorum row counts.
        Target(name=f"p50 of {ours} / {theirs}", ours=ours, theirs=(theirs,), at_most=1, figure="p50_ms")
        for ours in ("broker", "tieout")
        for theirs in _rows("dramatiq")
    ),
)

#: How much worse the p99 of live events may be while a bulk import is under way.
LANES_P99_AT_MOST = 3.0
#: Cost per event may differ so much between the smallest and the largest backlog and still count as flat.
GROWTH_AT_MOST = 1.25


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much of everything. `import_records` is the bulk import of the lane test."""

    rounds: int
    events: int
    paced_events: int
    growth: tuple[int, ...]
    import_records: int
    per_s: float = 50.0
    parts: tuple[str, ...] = PARTS


FULL = Plan(rounds=3, events=3_000, paced_events=400, growth=(1_000, 10_000, 100_000), import_records=100_000)
QUICK = Plan(rounds=1, events=300, paced_events=100, growth=(1_000, 5_000), import_records=5_000)
