"""Group commit: who waits for others to join, and who does not. An hour's wait would end the test, not the wait."""

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from pipeline.errors import TransientError
from store.group_commit import AT_ONCE, GroupCommit, Pace
from tests.conformance.store.given import Given

AN_HOUR_MS = 3_600_000


class Groups:
    """Notes which orders were written together."""

    def __init__(self, given: Given, linger_ms: int, pace: Pace = AT_ONCE) -> None:
        self.written: list[list[str]] = []
        self.commits: GroupCommit[str, None] = GroupCommit(
            given.db, self._write, rows_max=10, linger_ms=linger_ms, pace=pace
        )

    async def _write(self, connection: AsyncConnection, group: Sequence[str]) -> list[None]:
        self.written.append(list(group))
        return [None] * len(group)


async def test_who_is_in_a_hurry_takes_along_those_that_linger(given: Given) -> None:
    groups = Groups(given, AN_HOUR_MS)
    patient = [groups.commits.submit("a"), groups.commits.submit("b")]
    await groups.commits.submit("c", hurry=True)
    assert groups.written == [["a", "b", "c"]]
    assert all(one.done() for one in patient)


async def test_the_next_ones_linger_again(given: Given) -> None:
    groups = Groups(given, AN_HOUR_MS)
    await groups.commits.submit("a", hurry=True)
    patient = groups.commits.submit("b")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(patient), timeout=0.2)
    await groups.commits.close()
    assert patient.done()
    assert groups.written == [["a"], ["b"]]


async def test_a_full_group_waits_for_nobody(given: Given) -> None:
    groups = Groups(given, AN_HOUR_MS)
    await asyncio.gather(groups.commits.submit("a", 6), groups.commits.submit("b", 6))
    assert groups.written == [["a"], ["b"]]


async def test_a_group_ends_to_linger_by_itself(given: Given) -> None:
    groups = Groups(given, 1)
    await groups.commits.submit("a")
    assert groups.written == [["a"]]


class Slow(Pace):
    """Half as many rows, and an hour's rest after each commit."""

    def __init__(self) -> None:
        self.took: list[float] = []

    def rows_max(self, rows_max: int) -> int:
        return rows_max // 2

    def rest_s(self, took_s: float) -> float:
        self.took.append(took_s)
        return AN_HOUR_MS / 1000


async def test_after_a_commit_the_database_is_left_alone_as_long_as_asked(given: Given) -> None:
    pace = Slow()
    groups = Groups(given, 0, pace)
    await groups.commits.submit("a")
    later = groups.commits.submit("b")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(later), timeout=0.2)
    assert groups.written == [["a"]]
    await groups.commits.close()
    assert later.done()
    assert groups.written == [["a"], ["b"]]
    assert all(took_s > 0 for took_s in pace.took)


async def test_a_commit_is_as_small_as_asked(given: Given) -> None:
    groups = Groups(given, AN_HOUR_MS, Slow())
    first = [groups.commits.submit(name, 3) for name in "abcd"]
    await first[0]
    assert groups.written == [["a"]], "of the five rows that it may have"
    await groups.commits.close()
    assert groups.written == [["a"], ["b"], ["c"], ["d"]]


async def test_what_comes_after_the_close_is_refused(given: Given) -> None:
    groups = Groups(given, AN_HOUR_MS)
    await groups.commits.close()
    with pytest.raises(TransientError, match="closing"):
        await groups.commits.submit("a")
