"""Channel: an AMQP channel whose calls are awaited, none of them longer than is sensible."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from pika.channel import Channel
from pika.exceptions import AMQPError

from broker.wire import WireChannel
from pipeline.errors import TransientError

#: How long the server may take to answer a call: a queue of a cluster that elects a leader takes some seconds.
CALL_TIMEOUT_S = 30.0
CLOSE_TIMEOUT_S = 3.0


class ConnectionLost(TransientError):
    """The connection or channel went away, or fell silent, before the server answered."""


class AmqpChannel:
    """A channel whose calls are awaited. `closed` resolves, with the reason, when it is gone for whatever cause.

    `hang_up` ends the channel's connection at once.
    """

    def __init__(self, channel: WireChannel, hang_up: Callable[[ConnectionLost], None]) -> None:
        self.raw = channel
        self.closed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._hang_up = hang_up
        channel.add_on_close_callback(self._on_close)

    async def call(self, method: str, **arguments: Any) -> Any:
        """Call a pika method and return the server's answer.

        Raises:
          ConnectionLost: the channel closed first (its `__cause__` says why), or there was no answer in time.
        """
        answered = asyncio.get_running_loop().create_future()
        try:
            getattr(self.raw, method)(**arguments, callback=partial(resolve, answered))
        except AMQPError as error:
            raise ConnectionLost(f"{method}: {error!r}") from error
        await self.answer(method, answered)
        return answered.result()

    async def answer(self, method: str, answered: asyncio.Future[Any]) -> None:
        """Wait until `answered` is resolved.

        Raises:
          ConnectionLost: as `call` does.
        """
        await asyncio.wait((answered, self.closed), timeout=CALL_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if answered.done():
            return
        if self.closed.done():
            reason = self.closed.result()
            raise ConnectionLost(f"{method}: {reason!r}") from reason
        # The next call would wait behind this one, and closing the channel as well. Only the connection can be ended.
        silence = ConnectionLost(f"{method}: no answer within {CALL_TIMEOUT_S:g} s")
        self._hang_up(silence)
        raise silence

    @property
    def is_open(self) -> bool:
        return bool(self.raw.is_open)

    async def close(self) -> None:
        """Close it; the server takes back what was delivered on it and not acknowledged."""
        if self.is_open:
            self.raw.close()
        await asyncio.wait((self.closed,), timeout=CLOSE_TIMEOUT_S)

    def _on_close(self, _: Channel, reason: BaseException) -> None:
        resolve(self.closed, reason)


def resolve(future: asyncio.Future[Any], value: Any = None) -> None:
    """Set the result, unless there is one."""
    if not future.done():
        future.set_result(value)
