"""Group commit: who waits for others to join, and who does not. An hour's wait would end the test, not the wait."""

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from pipeline.errors import TransientError
from store.group_commit import GroupCommit, Rest, no_rest
from tests.conformance.store.given import Given

AN_HOUR_MS = 3_600_000


class Groups:
    """Notes which orders were written together."""

    def __init__(self, given: Given, linger_ms: int, rest_s: Rest = no_rest) -> None:
        self.written: list[list[str]] = []
        self.commits: GroupCommit[str, None] = GroupCommit(
            given.db, self._write, rows_max=10, linger_ms=linger_ms, rest_s=rest_s
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


async def test_after_a_commit_the_database_is_left_alone_as_long_as_asked(given: Given) -> None:
    took: list[float] = []

    def an_hour_s(took_s: float) -> float:
        took.append(took_s)
        return AN_HOUR_MS / 1000

    groups = Groups(given, 0, an_hour_s)
    await groups.commits.submit("a")
    later = groups.commits.submit("b")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(later), timeout=0.2)
    assert groups.written == [["a"]]
    await groups.commits.close()
    assert later.done()
    assert groups.written == [["a"], ["b"]]
    assert all(took_s > 0 for took_s in took)


async def test_what_comes_after_the_close_is_refused(given: Given) -> None:
    groups = Groups(given, AN_HOUR_MS)
    await groups.commits.close()
    with pytest.raises(TransientError, match="closing"):
        await groups.commits.submit("a")
