"""The lane test: what a bulk import of the same deployment does to the latency of live events."""

from collections.abc import Callable
from typing import Any

from benchmarks.contenders import ENTRANTS
from benchmarks.figures import percentile
from benchmarks.plan import LANES_P99_AT_MOST, Plan
from benchmarks.servers import Servers
from benchmarks.session import WARM_UP_EVENTS, session
from ops.machine import processes_by_default, usable_cpus

#: Live events are paced in stretches of so many, one after the other for as long as the import is under way.
STRETCH_EVENTS = 100
#: Keeps the import's event numbers away from the live ones.
BULK_FIRST = 10_000_000


def lanes(servers: Servers, plan: Plan, tell: Callable[[str], None]) -> dict[str, Any]:
    """p99 of live events at the plan's pace, idle and during the import, and the one by the other.

    Two processes work on the live lane, and on the bulk lane as many as its worker starts by default; both share
    broker, database and machine. The import counts as under way from the first record that is accepted until the last
    one has been through its last hop.

    Raises:
      Failed: it did not do its work.
    """
    records = plan.import_records
    with (
        session(ENTRANTS["tieout"], servers, slots=20 * (plan.paced_events + records)) as live,
        session(
            ENTRANTS["tieout-bulk"],
            servers,
            slots=2 * records,
            beside=live.arrangement,
            first=BULK_FIRST,
            processes=processes_by_default(usable_cpus(), gives_way=True),
        ) as bulk,
    ):
        live.start_workers()
        bulk.start_workers()
        live.warm_up()
        bulk.burst(WARM_UP_EVENTS)
        idle = live.paced(plan.paced_events, plan.per_s)
        tell(f"lanes: p99 {percentile(idle, 0.99):,.0f} ms idle; now importing {records:,} records")
        during: list[float] = []

        def keep_pace(finished: Callable[[], bool]) -> None:
            while not finished():
                stretch = live.paced(STRETCH_EVENTS, plan.per_s)
                # One that the import has ended in would be half idle; the first one counts anyhow.
                if not during or not finished():
                    during.extend(stretch)

        imported = bulk.burst(records, meanwhile=keep_pace)
        tell(f"lanes: p99 {percentile(during, 0.99):,.0f} ms while {imported.events_per_s:,.0f} records/s came in")
    ratio = percentile(during, 0.99) / percentile(idle, 0.99)
    return {
        "live_per_s": plan.per_s,
        "idle": _figures(idle),
        "during_import": _figures(during),
        "import_records": records,
        "import_records_per_s": imported.events_per_s,
        "p99_ratio": ratio,
        "at_most": LANES_P99_AT_MOST,
        "reached": ratio <= LANES_P99_AT_MOST,
    }


def _figures(latencies: list[float]) -> dict[str, float]:
    return {
        "events": len(latencies),
        "p50_ms": percentile(latencies, 0.50),
        "p99_ms": percentile(latencies, 0.99),
    }
