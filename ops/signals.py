"""Signals: the first asks a process to finish what it has begun, the second to leave at once."""

import asyncio
import os
import signal
from collections.abc import Callable

from loguru import logger

#: A signal within this time of the first is the same request: a platform may send it to every process of a container,
#: and a supervisor passes it on as well.
same_request_s = 1.0


def stop_on_signals(stop: asyncio.Event, again: Callable[[], None] | None = None) -> None:
    """Set `stop` on the first SIGTERM or SIGINT, and call `again` on each that comes a second later, or more.

    Without `again` this process leaves at once: what it holds is unacknowledged, and is delivered to somebody else.
    """
    loop = asyncio.get_running_loop()
    first_at = 0.0

    def received(number: signal.Signals) -> None:
        nonlocal first_at
        if not stop.is_set():
            stop.set()
            first_at = loop.time()
        elif loop.time() - first_at < same_request_s:
            logger.bind(event="signal_repeated").debug("{} again, as part of the same request", number.name)
        elif again is not None:
            again()
        else:
            logger.bind(event="left_at_once").warning("{} again: leaving at once", number.name)
            os._exit(1)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, received, number)
