"""The door of a target: calls that arrive at the same moment travel together and get their own answers back."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar, cast

from pipeline.errors import OutcomeUnknown, TransientError

Request = TypeVar("Request")
Answer = TypeVar("Answer")


#: How long a call that is under way may hold up the end of its process.
close_within_s = 2.0


class DoorClosed(RuntimeError):
    """Somebody called after `close`: a defect in the order of shutting down."""


class Door(Generic[Request, Answer]):
    """Gathers the requests of many coroutines into bulk calls of at most `bulk_max`.

    No timer: while one call runs the next one gathers, so a single request never waits and a flood travels in large
    calls. At most `calls_max` calls run at once and at most `waiting_max` requests wait; more wait outside.
    `send` answers every request, in order, with a value or with the exception that is that request's own outcome;
    an exception that it raises is the outcome of all of them.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Request]], Awaitable[Sequence[Answer | Exception]]],
        *,
        bulk_max: int,
        calls_max: int = 1,
        waiting_max: int = 10_000,
    ) -> None:
        self._send = send
        self._bulk_max = bulk_max
        self._calls_max = calls_max
        self._room = asyncio.Semaphore(waiting_max)
        self._waiting: deque[tuple[Request, asyncio.Future[Answer]]] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._closed = False

    async def call(self, request: Request) -> Answer:
        """The answer to this request, or its own exception. A caller who gives up does not stop the call.

        Raises:
          DoorClosed: the door has been closed.
        """
        async with self._room:
            if self._closed:
                raise DoorClosed("the door is closed: no more calls are taken")
            future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            self._waiting.append((request, future))
            if len(self._calls) < self._calls_max:
                self._calls.add(asyncio.create_task(self._call_while_waiting()))
            return await future

    async def close(self, within_s: float = close_within_s) -> None:
        """Take no more requests and send none of those that wait; return when the calls under way are over, or cut off
        after `within_s`: a target that hangs must not keep its process from leaving.
        """
        self._closed = True
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(TransientError("not sent: the process is leaving", burns_attempt=False))
        self._waiting.clear()
        if calls := tuple(self._calls):
            _, hanging = await asyncio.wait(calls, timeout=within_s)
            for call in hanging:
                call.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)

    async def _call_while_waiting(self) -> None:
        try:
            while bulk := self._next_bulk():
                await self._answer(bulk)
        finally:
            # Here and not when the task is done: whoever has just been answered may ask again before that.
            self._calls.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _answer(self, bulk: list[tuple[Request, asyncio.Future[Answer]]]) -> None:
        answers: Sequence[Answer | Exception]
        answers = [OutcomeUnknown("called, and cut off before it was answered: the process is leaving")] * len(bulk)
        try:
            answers = await self._send([request for request, _ in bulk])
            if len(answers) != len(bulk):
                raise RuntimeError(f"{len(bulk)} requests were sent together, {len(answers)} answers came back")
        except Exception as error:
            answers = [error] * len(bulk)
        finally:
            for (_, future), answer in zip(bulk, answers, strict=True):
                if future.done():
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

    def _next_bulk(self) -> list[tuple[Request, asyncio.Future[Answer]]]:
        """Those who wait longest; a caller who has given up is not sent."""
        bulk: list[tuple[Request, asyncio.Future[Answer]]] = []
        while self._waiting and len(bulk) < self._bulk_max:
            request, future = self._waiting.popleft()
            if not future.done():
                bulk.append((request, future))
        return bulk
