"""Throttling: the token bucket. Plain rules over a `Standing`, in Lua as well: `keeper_in_redis`."""

from connectors.http.standing import End, GuardLimits, Standing

#: A target that throttles without saying for how long is left alone for so long, doubling while it keeps throttling.
shut_first_us, shut_max_us = 1_000_000, 60_000_000


def token_wait_us(standing: Standing, limits: GuardLimits, now: int) -> int:
    """How long until the bucket has a token that nobody has taken yet."""
    return max(standing.full_at - (limits.burst - 1) * limits.interval_us - now, 0)


def take_token(standing: Standing, limits: GuardLimits, now: int) -> None:
    """Take the next one, also one that is not there yet: whoever takes it waits for it."""
    standing.full_at = max(standing.full_at, now) + limits.interval_us


def learn_of_throttling(standing: Standing, limits: GuardLimits, end: End, now: int) -> None:
    """Shut the bucket for as long as the target asks, for everybody; what it had is spent by then."""
    if end.kind == "answered":
        standing.throttles = 0
    wait_us = 1_000 * end.retry_after_ms if end.retry_after_ms is not None else 0
    # Those who were on their way when it was shut say nothing new.
    if end.kind == "throttled" and now >= standing.shut_until:
        standing.throttles += 1
        if end.retry_after_ms is None:
            wait_us = min(shut_first_us * 2 ** min(standing.throttles - 1, 30), shut_max_us)
    if wait_us:
        standing.shut_until = max(standing.shut_until, now + wait_us)
        standing.full_at = max(standing.full_at, standing.shut_until + (limits.burst - 1) * limits.interval_us)
