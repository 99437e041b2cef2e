"""The report of a run as plain values: what `latest.json` holds. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from benchmarks.contenders import ENTRANTS
from benchmarks.figures import Round, ratio, summary
from benchmarks.plan import TARGETS


class Measured(msgspec.Struct, kw_only=True):
    """What a run has measured so far, by contender: its rounds, what it says about itself, why it failed.

    `growth` and `lanes` are None until they have been measured.
    """

    rounds: dict[str, list[Round]]
    about: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    growth: dict[str, Any] | None = None
    lanes: dict[str, Any] | None = None


def report(measured: Measured, **origin: Any) -> dict[str, Any]:
    """One object per contender below `contenders` (and `bulk`), medians over its rounds, and the ratios of those.

    Args:
      origin: further keys, as they are: versions, machine, plan, seconds.
    """
    rows = {name: _row(name, rounds, measured) for name, rounds in measured.rounds.items()}
    return {
        "contenders": {name: row for name, row in rows.items() if not ENTRANTS[name].bulk},
        "bulk": {name: row for name, row in rows.items() if ENTRANTS[name].bulk},
        "ratios": ratios(rows),
        "growth": measured.growth,
        "lanes": measured.lanes,
        "failed": dict(measured.failed),
        **origin,
    }


def ratios(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Every target that the rows allow to be computed; a row that failed takes no part."""
    sound = {name: row for name, row in rows.items() if "failed" not in row}
    found = {target.name: ratio(target, sound) for target in TARGETS}
    return {name: one for name, one in found.items() if one is not None}


def _row(name: str, rounds: Sequence[Round], measured: Measured) -> dict[str, Any]:
    row = summary(rounds) | measured.about.get(name, {}) | {"rounds": msgspec.to_builtins(rounds)}
    return row | ({"failed": measured.failed[name]} if name in measured.failed else {})
