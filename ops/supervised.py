"""The worker's end of the socket from its supervisor: tells its status, and notices when the supervisor is gone."""

import asyncio
import os
import socket
import threading
import time

import msgspec
from loguru import logger

from ops.readiness import Status


class SupervisorLink:
    """Opened on the event loop of a process that `ops.supervisor.Supervisor` has started.

    When the supervisor is gone, whatever ended it, `stop` is set: this worker must not go on without anybody who could
    stop it. One that has not left within `leave_within_s` then ends at once.
    """

    def __init__(self, descriptor: int, stop: asyncio.Event, leave_within_s: float) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._leave_within_s = leave_within_s
        # A thread, since it must notice even while the loop is held up.
        threading.Thread(target=self._watch, name="supervisor-watch", daemon=True).start()

    def tell(self, status: Status) -> None:
        """Tell the supervisor, or nobody when it is gone or too busy to listen: the next status follows soon."""
        try:
            self._socket.send(msgspec.json.encode(status) + b"\n", socket.MSG_DONTWAIT)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError) as error:
            logger.bind(event="status_untold").debug("{!r}", error)

    def _watch(self) -> None:
        try:
            while self._socket.recv(64):
                pass  # it never says anything: the end is the message
        except OSError as error:
            logger.bind(event="supervisor_lost").debug("{!r}", error)
        logger.bind(event="supervisor_lost").warning("the supervisor is gone: finishing what has begun")
        try:
            self._loop.call_soon_threadsafe(self._stop.set)
        except RuntimeError:
            return  # the loop is closed: this process is leaving anyway
        time.sleep(self._leave_within_s)
        os._exit(1)
