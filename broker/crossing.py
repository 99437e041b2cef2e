"""Crossing: the one way from worker threads to the event loop, with one wake-up for many calls."""

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from typing import Any


class Crossing:
    """Calls handed over by any thread run on the loop in the order they came."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._thread = threading.get_ident()
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._awake = False
        # Without its own context the loop would run on in that of the message whose thread woke it.
        self._context = contextvars.copy_context()

    @property
    def on_loop(self) -> bool:
        return threading.get_ident() == self._thread

    def submit(self, call: Callable[..., None], *arguments: Any) -> None:
        """Run `call(*arguments)` on the loop: at once when this is the loop's thread, else soon."""
        if self.on_loop:
            call(*arguments)
            return
        self._calls.append((call, arguments))
        if not self._awake:
            self._awake = True
            self.loop.call_soon_threadsafe(self._drain, context=self._context)

    def _drain(self) -> None:
        # Cleared first: a call appended from here on wakes the loop again, so none is forgotten.
        self._awake = False
        while self._calls:
            call, arguments = self._calls.popleft()
            try:
                call(*arguments)
            except Exception as error:
                self.loop.call_exception_handler({"message": "a call from a worker thread failed", "exception": error})
