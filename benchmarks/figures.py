"""The arithmetic: rounds to medians, medians to ratios. Pure; every figure of a report comes through here."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import msgspec

#: The figures of one round, and of the medians over rounds.
FIGURES = ("events_per_s", "p50_ms", "p99_ms", "cpu_s_per_1000", "rss_mb")


class Round(msgspec.Struct, kw_only=True):
    """One turn of one contender; None is what was not measured. CPU is that of its workers and its publisher."""

    events_per_s: float | None = None
    publish_per_s: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    cpu_s_per_1000: float | None = None
    servers_cpu_s_per_1000: dict[str, float] = {}
    rss_mb: float | None = None
    repeated: int = 0


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A ratio that is to be reached: `ours` by `theirs` (the best of several), of this figure."""

    name: str
    ours: str
    theirs: tuple[str, ...]
    at_least: float | None = None
    at_most: float | None = None
    figure: str = "events_per_s"


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least this share (0 to 1) of the values does not exceed (nearest rank).

    Raises:
      ValueError: there are no values.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values, no percentile")
    return ordered[max(1, math.ceil(share * len(ordered))) - 1]


def summary(rounds: Sequence[Round]) -> dict[str, Any]:
    """The medians over the rounds, figure by figure; a figure that no round has is None."""
    found: dict[str, Any] = {}
    for name in (*FIGURES, "publish_per_s"):
        found[name] = _median(getattr(one, name) for one in rounds)
    servers = {server for one in rounds for server in one.servers_cpu_s_per_1000}
    found["servers_cpu_s_per_1000"] = {
        server: _median(one.servers_cpu_s_per_1000.get(server) for one in rounds) for server in sorted(servers)
    }
    found["repeated"] = sum(one.repeated for one in rounds)
    return found


def ratio(target: Target, figures: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """What the run gives for a target; None when one of its sides was not measured.

    The best of theirs is the fastest, or the lowest where the figure is a time.
    """
    ours = figures.get(target.ours, {}).get(target.figure)
    rows = {name: value for name in target.theirs if (value := figures.get(name, {}).get(target.figure))}
    if not ours or not rows:
        return None
    best = (max if target.figure == "events_per_s" else min)(rows, key=lambda name: rows[name])
    value = ours / rows[best]
    return {
        "value": value,
        "figure": target.figure,
        "ours": target.ours,
        "theirs": best,
        "at_least": target.at_least,
        "at_most": target.at_most,
        "reached": _reached(target, value),
    }


def _reached(target: Target, value: float) -> bool:
    if target.at_least is not None and value < target.at_least:
        return False
    return target.at_most is None or value <= target.at_most


def spread(values: Iterable[float]) -> float:
    """The largest value by the smallest: 1 is perfectly flat.

    Raises:
      ValueError: there are no values.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values, no spread")
    return ordered[-1] / ordered[0]


def _median(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return median(there) if there else None
