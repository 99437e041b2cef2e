"""Backoff: how long to wait before trying again, longer each time, never in step with others."""

import random
from collections.abc import Iterator


def pauses_s(first_ms: int, ms_max: int) -> Iterator[float]:
    """Seconds to wait before each next try: doubling from `first_ms` to `ms_max`, each drawn from its upper half."""
    pause_ms = first_ms
    while True:
        yield random.uniform(pause_ms / 2, pause_ms) / 1000
        pause_ms = min(pause_ms * 2, ms_max)
