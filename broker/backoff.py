"""Backoff: how long to wait before trying again, longer each time, never in step with others."""

import random
from collections.abc import Iterator

#: How long a message waits before its n-th requeue; the last pause repeats.
REQUEUE_PAUSES_MS = (1_000, 5_000, 5_000, 5_000, 30_000)

#: With the pauses above: about fifty minutes of one and the same unplanned error.
FAULTS_MAX = 100

#: While a message can't be put back, it is held and tried again: given back to its queue, it would come to the queue's
#: delivery limit within minutes, and an outage is not the message's fault.
HOLD_MS_FIRST = 1_000
HOLD_MS_MAX = 30_000


def pauses_s(first_ms: int, ms_max: int) -> Iterator[float]:
    """Seconds to wait before each next try: doubling from `first_ms` to `ms_max`, each drawn from its upper half."""
    pause_ms = first_ms
    while True:
        yield random.uniform(pause_ms / 2, pause_ms) / 1000
        pause_ms = min(pause_ms * 2, ms_max)
