"""Group commit: what many coroutines want written shares one transaction.

While one transaction commits, the next group gathers; no timer is needed. A commit costs a sync to the disk, so sharing
it is what makes durable bookkeeping affordable.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from pipeline.errors import OutcomeUnknown, TransientError
from store.database import Database

Order = TypeVar("Order")
Answer = TypeVar("Answer")


class Pace:
    """How hard the database is driven: this one as hard as there is work."""

    def rows_max(self, rows_max: int) -> int:
        """How many rows a commit may have now, of so many at most."""
        return rows_max

    def rest_s(self, took_s: float) -> float:
        """How long to leave the database alone, in seconds, after a commit that took so many."""
        return 0.0


AT_ONCE = Pace()


class _Waiting(msgspec.Struct, Generic[Order, Answer]):
    order: Order
    rows: int
    answer: asyncio.Future[Answer]


class GroupCommit(Generic[Order, Answer]):
    """Writes orders in groups of at most `rows_max` rows (always at least one order).

    `write` is given the orders of one group in the order they came and returns one answer for each; it may be called
    again with some of them after its transaction was rolled back, so it must keep nothing between calls.

    With `linger_ms` a group waits so long for more to join it, unless it is full or somebody is in a hurry: each commit
    costs a sync to the disk, which the broker needs as well. `pace` is asked before and after each commit.
    """

    def __init__(
        self,
        db: Database,
        write: Callable[[AsyncConnection, Sequence[Order]], Awaitable[Sequence[Answer]]],
        *,
        rows_max: int,
        linger_ms: int = 0,
        pace: Pace = AT_ONCE,
    ) -> None:
        self._db, self._write, self._rows_max, self._pace = db, write, rows_max, pace
        self._linger_s = linger_ms / 1000
        self._rows = 0
        self._now = asyncio.Event()
        self._queue: deque[_Waiting[Order, Answer]] = deque()
        self._draining: asyncio.Task[None] | None = None
        self._closed = False
        self._closing = asyncio.Event()

    @property
    def load(self) -> tuple[bool, int]:
        """Whether a group is being gathered or written, and how many rows wait for the next one."""
        return self._draining is not None, self._rows

    def submit(self, order: Order, rows: int = 1, *, hurry: bool = False) -> asyncio.Future[Answer]:
        """Take an order on; the future has its answer when it is committed. `rows` is about how many rows it writes,
        `hurry` that somebody waits for it who can do nothing else.

        It fails with TransientError (the database failed, or this is closed; the order may be submitted again) or with
        whatever `write` raised for this order; its neighbours are not affected.
        """
        waiting = _Waiting(order, rows, asyncio.get_running_loop().create_future())
        if self._closed:
            _fail(waiting, TransientError("the store is closing; this will be done again by another process"))
            return waiting.answer
        self._queue.append(waiting)
        self._rows += rows
        if hurry or self._rows >= self._rows_max:
            self._now.set()
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        return waiting.answer

    async def close(self) -> None:
        """Take nothing more on; returns when everything submitted before has its answer."""
        self._closed = True
        self._now.set()
        self._closing.set()
        if self._draining is not None:
            await self._draining

    async def _drain(self) -> None:
        """Commit group after group until nobody waits; whoever waits when this is cancelled is told so."""
        group: list[_Waiting[Order, Answer]] = []
        clock = asyncio.get_running_loop().time
        try:
            while self._queue:
                await self._linger()
                group, began = self._take(), clock()
                await self._commit(group)
                await self._rest(clock() - began)
        finally:
            self._draining = None
            for waiting in [*group, *self._queue]:
                _fail(waiting, TransientError("the store was stopped before this was committed"))
            self._queue.clear()
            self._rows = 0

    async def _linger(self) -> None:
        if self._linger_s and not self._now.is_set():
            try:
                async with asyncio.timeout(self._linger_s):
                    await self._now.wait()
            except TimeoutError:
                return

    async def _rest(self, took_s: float) -> None:
        if (rest_s := self._pace.rest_s(took_s)) > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), rest_s)

    def _take(self) -> list[_Waiting[Order, Answer]]:
        group = [self._queue.popleft()]
        rows, rows_max = group[0].rows, self._pace.rows_max(self._rows_max)
        while self._queue and rows + self._queue[0].rows <= rows_max:
            rows += self._queue[0].rows
            group.append(self._queue.popleft())
        self._rows -= rows
        if self._queue:
            self._now.set()  # They have lingered.
        elif not self._closed:
            self._now.clear()
        return group

    async def _commit(self, group: Sequence[_Waiting[Order, Answer]]) -> None:
        """Commit the group; where an order of it is at fault, halve the group until that one stands alone."""
        try:
            async with self._db.begin() as connection:
                answers = await self._write(connection, [waiting.order for waiting in group])
        except OutcomeUnknown as error:
            # Our own commit, not a target's call: what callers submit is idempotent, so they just try again.
            _fail_all(group, str(error))
        except TransientError as error:
            _fail_all(group, str(error))
        except Exception as error:
            if len(group) == 1:
                _fail(group[0], error)
                return
            middle = len(group) // 2
            await self._commit(group[:middle])
            await self._commit(group[middle:])
        else:
            for waiting, answer in zip(group, answers, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(answer)


def _fail_all(group: Sequence[_Waiting[Order, Answer]], message: str) -> None:
    for waiting in group:
        _fail(waiting, TransientError(message))


def _fail(waiting: _Waiting[Order, Answer], error: Exception) -> None:
    """Tell the caller, unless it has its answer or has gone."""
    if not waiting.answer.done():
        waiting.answer.set_exception(error)
