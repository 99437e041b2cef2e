"""Publishing: one channel with publisher confirms, many messages on their way at once."""

import asyncio
from itertools import takewhile
from typing import Any

import msgspec
import pika
from loguru import logger
from pika.exceptions import AMQPError

from broker.connection import AmqpChannel, AmqpConnection
from broker.delivery import NotConfirmed, Unroutable
from pipeline.errors import TransientError

#: What may be on its way at once; beyond either, publishing waits.
UNCONFIRMED_MAX = 2_000
UNCONFIRMED_BYTES_MAX = 64 * 1024 * 1024

#: How long a publish may wait for a connection, an alarm or room, and then for its confirm.
WAIT_S = 15.0
CONFIRM_TIMEOUT_S = 30.0
SWEEP_S = 1.0


class _Unconfirmed(msgspec.Struct):
    future: asyncio.Future[None]
    deadline: float
    bytes: int
    exchange: str
    key: str
    message_id: str | None


class ConfirmedPublisher:
    """Publishes on `connection`; `start` belongs into its `on_open`, `changed` into its `on_change`."""

    def __init__(self, connection_name: str) -> None:
        self._name = connection_name
        self._connection: AmqpConnection | None = None
        self._channel: AmqpChannel | None = None
        self._unconfirmed: dict[int, _Unconfirmed] = {}
        self._bytes = 0
        self._number = 0
        self._clear = asyncio.Event()
        self._sweep: asyncio.TimerHandle | None = None

    async def start(self, connection: AmqpConnection) -> None:
        """Open the channel, on a connection that has just been opened."""
        channel = await connection.channel_now()
        self._number = 0
        await channel.call("confirm_delivery", ack_nack_callback=self._on_confirm)
        channel.raw.add_on_return_callback(self._on_return)
        channel.closed.add_done_callback(self._on_closed)
        self._connection, self._channel = connection, channel

    def changed(self) -> None:
        """The connection was opened, lost, blocked or unblocked."""
        if self._is_clear():
            self._clear.set()
        else:
            self._clear.clear()

    async def publish(self, exchange: str, key: str, body: bytes, properties: pika.BasicProperties) -> None:
        """Return when the server has the message.

        Raises:
          NotConfirmed: returned, refused, timed out, or the connection was lost.
        """
        await (await self.send(exchange, key, body, properties))

    async def send(
        self, exchange: str, key: str, body: bytes, properties: pika.BasicProperties
    ) -> asyncio.Future[None]:
        """Put a message on the wire; the future resolves with its confirm and fails with NotConfirmed.

        Raises:
          NotConfirmed: it could not even be sent: no connection, an alarm on the server, or no room, for too long.
        """
        if not self._is_clear():
            await self._wait_until_clear()
        channel = self._channel
        assert channel is not None  # it is clear
        try:
            channel.raw.basic_publish(exchange, key, body, properties, mandatory=True)
        except AMQPError as error:
            raise NotConfirmed(f"{key}: {error!r}") from error
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._number += 1
        deadline = loop.time() + CONFIRM_TIMEOUT_S
        self._unconfirmed[self._number] = _Unconfirmed(
            future, deadline, len(body), exchange, key, properties.message_id
        )
        self._bytes += len(body)
        if self._sweep is None:
            self._sweep = loop.call_later(SWEEP_S, self._expire)
        return future

    async def aclose(self) -> None:
        """Wait, within the bound, for what is on its way."""
        if waiting := [one.future for one in self._unconfirmed.values()]:
            await asyncio.wait(waiting, timeout=WAIT_S)
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def _is_clear(self) -> bool:
        return (
            self._channel is not None
            and self._connection is not None
            and self._connection.is_open
            and not self._connection.blocked
            and len(self._unconfirmed) < UNCONFIRMED_MAX
            and self._bytes < UNCONFIRMED_BYTES_MAX
        )

    async def _wait_until_clear(self) -> None:
        try:
            async with asyncio.timeout(WAIT_S):
                while not self._is_clear():
                    self._clear.clear()
                    await self._clear.wait()
        except TimeoutError:
            raise NotConfirmed(f"could not publish for {WAIT_S:g} s: {self._hindrance()}") from None

    def _hindrance(self) -> str:
        if self._channel is None or self._connection is None or not self._connection.is_open:
            return f"{self._name} is not connected"
        if self._connection.blocked:
            return "the server is blocked by a memory or disk alarm"
        return f"{len(self._unconfirmed)} messages wait for their confirm"

    def _on_confirm(self, frame: Any) -> None:
        tag = frame.method.delivery_tag
        accepted = isinstance(frame.method, pika.spec.Basic.Ack)
        error = None if accepted else NotConfirmed("the server refused the message")
        if frame.method.multiple:
            for number in list(takewhile(lambda number: number <= tag, self._unconfirmed)):
                self._resolve(number, error)
        else:
            self._resolve(tag, error)
        if not self._clear.is_set():
            self.changed()

    def _resolve(self, number: int, error: TransientError | None) -> None:
        # A tag nobody waits for any more has timed out or been returned.
        if (one := self._unconfirmed.pop(number, None)) is None:
            return
        self._bytes -= one.bytes
        if one.future.done():
            return
        if error is None:
            one.future.set_result(None)
        else:
            one.future.set_exception(error)
            # Marks it as seen: whoever published may have been cancelled, and that is not worth a warning.
            one.future.exception()

    def _on_return(self, _: Any, method: Any, properties: pika.BasicProperties, __: bytes) -> None:
        """A return comes before its confirm, without its number: the oldest such message is the one."""
        wanted = (method.exchange, method.routing_key, properties.message_id)
        for number, one in self._unconfirmed.items():
            if (one.exchange, one.key, one.message_id) == wanted:
                self._resolve(number, Unroutable(f"no queue takes {method.routing_key!r} from {method.exchange!r}"))
                return

    def _on_closed(self, closed: asyncio.Future[BaseException]) -> None:
        self._channel = None
        self.changed()
        reason = closed.result()
        if self._unconfirmed:
            bound = logger.bind(event="unconfirmed", connection=self._name)
            bound.warning("{} messages were not confirmed: {!r}", len(self._unconfirmed), reason)
        for number in list(self._unconfirmed):
            self._resolve(number, NotConfirmed(f"the connection was lost before the confirm: {reason!r}"))
        if self._connection is not None and self._connection.is_open:
            # Only the channel is gone, as when an exchange was removed: a new connection declares everything again.
            self._connection.restart()

    def _expire(self) -> None:
        """Fail what has waited too long; the oldest comes first, so the look stops at the first that has not."""
        loop = asyncio.get_running_loop()
        self._sweep = None
        for number, one in list(self._unconfirmed.items()):
            if one.deadline > loop.time():
                break
            self._resolve(number, NotConfirmed(f"no confirm within {CONFIRM_TIMEOUT_S:g} s"))
        if self._unconfirmed:
            self._sweep = loop.call_later(SWEEP_S, self._expire)
        self.changed()
