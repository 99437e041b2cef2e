"""Signals: what Dramatiq tells its middleware, where a message's own fate or more than one worker is concerned."""

import threading
from typing import Any

import dramatiq
from dramatiq.broker import MessageProxy

from broker.delivery import Delivery


class Signals(dramatiq.Broker):
    """A broker whose middleware takes part in what a message is done with, and sees the workers of a process as one.

    What middleware does after an actor (a pipeline's next message, a callback, a result) belongs to what the message
    caused: Dramatiq logs it when that fails and acknowledges all the same, here the message comes back.
    """

    def __init__(self, **options: Any) -> None:
        self._workers: list[dramatiq.Worker] = []
        self._leaving = False
        self._telling = threading.Lock()
        super().__init__(**options)

    def emit_before(self, signal: str, *arguments: Any, **named: Any) -> None:
        if signal == "worker_boot":
            with self._telling:
                self._workers.append(arguments[0])
                if len(self._workers) > 1:
                    return
        elif signal == "worker_shutdown":
            with self._telling:
                if self._leaving:
                    return
                self._leaving = True
        super().emit_before(signal, *arguments, **named)

    def emit_after(self, signal: str, *arguments: Any, **named: Any) -> None:
        if signal == "process_message":
            self._after_process_message(*arguments, **named)
            return
        if signal == "worker_boot" and arguments[0] is not self._workers[0]:
            return
        if signal == "worker_shutdown":
            with self._telling:
                self._workers.remove(arguments[0])
                if self._workers:
                    return
                self._leaving = False
        super().emit_after(signal, *arguments, **named)

    def _after_process_message(self, message: MessageProxy, **outcome: Any) -> None:
        assert isinstance(message, Delivery)  # nobody else consumes here
        for middleware in reversed(self.middleware):
            try:
                middleware.after_process_message(self, message, **outcome)
            except Exception as error:
                self.logger.critical("Unexpected failure after the message in %r.", middleware, exc_info=True)
                message.error = message.error or error
