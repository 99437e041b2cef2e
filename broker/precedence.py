"""Precedence: live work before bulk work, on whatever machine and server the two share.

Niceness settles it between our own processes. The database and the broker know nothing of lanes, so whoever does bulk
work asks less of them while live work is being done: a worker that is given some says so, a few times a second.
"""

import time
from collections.abc import Callable

#: Live work is told of so often at most, and counts as being done for so long: two notes may be late or lost.
TELL_EVERY_S = 0.5
HOLDS_S = 1.75


class Precedence:
    """What one process says and hears of live work; `tell` says it to all, `clock` gives seconds."""

    def __init__(self, tell: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell, self._clock = tell, clock
        self._told_at = self._heard_at = float("-inf")

    @property
    def live_at_work(self) -> bool:
        """Whether somebody has been given live work in the last moments."""
        return self._clock() - self._heard_at < HOLDS_S

    def live_arrived(self) -> None:
        """This process has been given live work."""
        now = self._clock()
        if now - self._told_at >= TELL_EVERY_S:
            self._told_at = now
            self._tell()

    def heard(self) -> None:
        """Somebody has been given live work."""
        self._heard_at = self._clock()
