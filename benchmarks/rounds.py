"""One turn of one contender: up, warmed, a burst, a while at a steady pace, and down again."""

import msgspec

from benchmarks.contenders import Entrant
from benchmarks.figures import Round, percentile
from benchmarks.plan import Plan
from benchmarks.servers import Servers
from benchmarks.session import WARM_UP_EVENTS, Burst, session


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a turn, and what the contender says about itself."""

    figures: Round
    settings: dict[str, str]
    versions: dict[str, str]


def take_turn(entrant: Entrant, servers: Servers, plan: Plan) -> Turn:
    """Measure what the plan asks for.

    Raises:
      Failed: the contender did not do its work.
    """
    events = round(plan.events * entrant.weight)
    # As many again: what is delivered twice takes a slot each time.
    slots = 2 * (WARM_UP_EVENTS + events + plan.paced_events)
    found = Round()
    with session(entrant, servers, slots=slots) as contender:
        contender.start_workers()
        contender.warm_up()
        with contender.watch_memory() as peak:
            if "throughput" in plan.parts:
                _note(found, contender.burst(events))
            if "latency" in plan.parts and not entrant.bulk:
                latencies = contender.paced(plan.paced_events, plan.per_s)
                found.p50_ms, found.p99_ms = percentile(latencies, 0.50), percentile(latencies, 0.99)
        found.rss_mb = peak.mb
        found.repeated = contender.repeated
        return Turn(figures=found, settings=contender.about.settings, versions=contender.about.versions)


def _note(found: Round, burst: Burst) -> None:
    found.events_per_s = burst.events_per_s
    found.publish_per_s = burst.events / burst.publish_s
    found.cpu_s_per_1000 = burst.cpu_s_per_1000
    found.servers_cpu_s_per_1000 = {
        name: 1000 * seconds / burst.events for name, seconds in burst.servers_cpu_s.items()
    }
