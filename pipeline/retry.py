"""When to try again: exponential backoff with full jitter, bounded."""

import random

backoff_first_ms = 1_000
backoff_max_ms = 600_000
#: A stage that raises something nobody planned for is given this many attempts before a person is asked.
unexpected_attempts_max = 3


def backoff_ms(attempt: int, *, draw: float | None = None) -> int:
    """How long to wait after attempt number `attempt` (from 1): half fixed, half jitter, doubling up to the bound.

    `draw` in [0, 1) stands in for the random number.
    """
    ceiling = min(backoff_first_ms * 2 ** min(attempt - 1, 30), backoff_max_ms)
    return int(ceiling / 2 * (1 + (random.random() if draw is None else draw)))
