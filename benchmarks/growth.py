"""The growth curve: so many events are queued before a worker starts; what each costs must not depend on how many."""

from collections.abc import Callable
from typing import Any

from benchmarks.contenders import ENTRANTS
from benchmarks.figures import spread
from benchmarks.plan import GROWTH_AT_MOST, Plan
from benchmarks.servers import Servers
from benchmarks.session import session

MEASURED = ("broker", "tieout")


def growth(names: tuple[str, ...], servers: Servers, plan: Plan, tell: Callable[[str], None]) -> dict[str, Any]:
    """Rate and cost by the number of events queued, for each of these contenders.

    Raises:
      Failed: a contender did not do its work.
    """
    found: dict[str, Any] = {}
    for name in names:
        curve: dict[str, Any] = {}
        for queued in plan.growth:
            curve[str(queued)] = _drain(name, servers, queued)
            tell(f"growth, {name} with {queued:,} queued: {curve[str(queued)]['events_per_s']:,.0f} events/s")
        steepness = spread(point["cpu_s_per_1000"] for point in curve.values())
        found[name] = {"queued": curve, "cost_spread": steepness, "flat": steepness <= GROWTH_AT_MOST}
    return found


def _drain(name: str, servers: Servers, queued: int) -> dict[str, Any]:
    with session(ENTRANTS[name], servers, slots=2 * queued) as contender:
        published = contender.publish(queued)
        drained = contender.drain()
    return {
        "events_per_s": drained.events_per_s,
        "publish_per_s": queued / (published.ended - published.began),
        "cpu_s_per_1000": drained.cpu_s_per_1000,
        "servers_cpu_s_per_1000": {
            server: 1000 * seconds / drained.events for server, seconds in drained.servers_cpu_s.items()
        },
        "seconds": drained.seconds,
    }
