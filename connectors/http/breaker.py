"""The circuit breaker: who is let through, and what the end of a call means.

Plain rules over a `Standing`, in Lua as well: `keeper_in_redis`.
"""

from collections.abc import Container

from connectors.http.standing import Change, End, GuardLimits, Standing, Turn


def bars(standing: Standing, lease: str, alive: Container[str], now: int) -> Turn | None:
    """Why this call may not go; None where it may. While a probe is alive, it alone may."""
    match standing.state(now):
        case "open":
            wait_us = standing.open_until - now
        case "half_open" if standing.probe != lease and standing.probe in alive:
            wait_us = 0
        case _:
            return None
    return Turn("open" if wait_us else "probing", wait_us, now - standing.down_since, standing.error)


def learn_of_health(standing: Standing, limits: GuardLimits, lease: str, end: End, now: int, draw: float) -> Change:
    """Count a failure, or forget them; open, open again for longer, or close. `draw` in [0, 1) is the jitter's."""
    probed = standing.openings > 0 and standing.probe == lease
    if standing.probe == lease:
        standing.probe = ""
    if end.kind == "failed":
        standing.error, standing.error_at = end.error, now
        standing.failures += 1
        if probed or (not standing.openings and standing.failures >= limits.failures_max):
            return _open(standing, limits, now, draw)
    elif end.kind != "unknown" and not standing.openings:
        standing.failures = 0
    elif end.kind != "unknown" and probed:
        standing.failures = standing.openings = standing.down_since = standing.open_until = 0
        standing.since = now
        return "closed"
    return ""


def _open(standing: Standing, limits: GuardLimits, now: int, draw: float) -> Change:
    """Let nobody through for a while, longer each time."""
    first = not standing.openings
    standing.openings += 1
    ceiling_ms = min(limits.open_first_ms * 2 ** min(standing.openings - 1, 30), limits.open_max_ms)
    standing.open_until = now + int(ceiling_ms * 500 * (1 + draw))
    standing.since = now
    if first:
        standing.down_since = now
    return "opened" if first else "reopened"
