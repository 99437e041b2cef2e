"""Pacing: who does bulk work drives the database gently while somebody waits for live work.

Niceness does not reach the database: it works as hard for an import as for a person. So the import's commits become
short, and after each it leaves the database alone for a while; live work comes in between.
"""

from collections.abc import Callable

from store.group_commit import Pace

#: A commit has at most this part of the rows that it might have: live work waits for the end of one at most.
rows_part = 4
#: The database is left alone for so many times as long as it was kept, up to this long.
rest_factor = 2
rest_max_s = 0.5


class StandsBack(Pace):
    """Gentle as long as `live_at_work` says so."""

    def __init__(self, live_at_work: Callable[[], bool]) -> None:
        self._live_at_work = live_at_work

    def rows_max(self, rows_max: int) -> int:
        return max(rows_max // rows_part, 1) if self._live_at_work() else rows_max

    def rest_s(self, took_s: float) -> float:
        return min(rest_factor * took_s, rest_max_s) if self._live_at_work() else 0.0
