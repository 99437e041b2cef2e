"""When to try again: exponential backoff with full jitter, bounded."""

import random
from datetime import datetime

backoff_first_ms = 1_000
backoff_max_ms = 600_000
#: A call that is not answered is an outage far more often than a document's own doing: for so long after a record has
#: first been held up no such attempt counts. A document that the target dies of is given up all the same.
outage_free_ms = 300_000
#: A stage that raises something nobody planned for is given this many attempts before a person is asked.
unexpected_attempts_max = 3


def backoff_ms(attempt: int, *, draw: float | None = None) -> int:
    """How long to wait after attempt number `attempt` (from 1): half fixed, half jitter, doubling up to the bound.

    `draw` in [0, 1) stands in for the random number.
    """
    ceiling = min(backoff_first_ms * 2 ** min(attempt - 1, 30), backoff_max_ms)
    return int(ceiling / 2 * (1 + (random.random() if draw is None else draw)))


def waited_ms(since: datetime | None, now: datetime) -> int:
    """How long something has been waited for, up to the bound.

    Waiting as long again each time looks often at first and seldom later: what stays as it is for weeks costs a few
    looks, not one a second.
    """
    return min(max(int((now - since).total_seconds() * 1000), 0), backoff_max_ms) if since else 0
