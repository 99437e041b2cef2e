"""Publishing: one channel with publisher confirms, many messages on their way at once."""

import asyncio
from functools import partial
from itertools import takewhile
from typing import Any

import msgspec
import pika
from loguru import logger
from pika.exceptions import AMQPError

from broker.channel import AmqpChannel, ConnectionLost
from broker.connection import AmqpConnection
from broker.delivery import ConfirmLost, NotConfirmed, Unroutable
from pipeline.errors import TransientError

#: What may be on its way at once; beyond either, publishing waits.
UNCONFIRMED_MAX = 2_000
UNCONFIRMED_BYTES_MAX = 64 * 1024 * 1024

#: How long a publish may wait for a connection, an alarm or room, and then for its confirm.
WAIT_S = 15.0
CONFIRM_TIMEOUT_S = 30.0
SWEEP_S = 1.0

#: How long a channel lasts at least before a refusal makes us replace it.
RENEW_S = 1.0

#: How long sending may pause for that.
RENEW_WAIT_S = 5.0


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
        self._since = 0.0
        self._renewing: asyncio.Task[None] | None = None

    async def start(self, connection: AmqpConnection) -> None:
        """Open the channel, on a connection that has just been opened."""
        self._use(await self._new_channel(connection))
        self._connection = connection

    async def _new_channel(self, connection: AmqpConnection) -> AmqpChannel:
        channel = await connection.channel_now()
        channel.raw.confirmed = partial(self._on_confirm, channel)
        # pika wants somebody to tell of confirms, which never reach it.
        await channel.call("confirm_delivery", ack_nack_callback=lambda _: None)
        channel.raw.add_on_return_callback(self._on_return)
        return channel

    def _use(self, channel: AmqpChannel) -> None:
        channel.closed.add_done_callback(self._on_closed)
        self._channel, self._number, self._since = channel, 0, asyncio.get_running_loop().time()

    def _renew_soon(self) -> None:
        """The server has refused a message: replace the channel, unless it is new.

        The queue may be full. But on a cluster, a channel that published to a queue while its leader was dying may ask
        the dead node ever after, and is refused until that comes back; a new one knows the new leader.
        """
        loop = asyncio.get_running_loop()
        if self._renewing is None and loop.time() - self._since >= RENEW_S:
            self._renewing = loop.create_task(self._renew())

    async def _renew(self) -> None:
        """Send nothing more until all that is on its way has its answer, then go on with another channel."""
        connection, old = self._connection, self._channel
        try:
            if waiting := [one.future for one in self._unconfirmed.values()]:
                await asyncio.wait(waiting, timeout=RENEW_WAIT_S)
            if self._unconfirmed:
                # Another queue is slow to answer: nobody else's messages may wait for that any longer.
                self._since = asyncio.get_running_loop().time()
            elif connection is not None and old is not None and self._channel is old:
                channel = await self._new_channel(connection)
                if self._channel is old:
                    old.closed.remove_done_callback(self._on_closed)
                    self._use(channel)
                    channel = old
                await channel.close()
        except ConnectionLost as error:
            bound = logger.bind(event="channel_not_renewed", connection=self._name)
            bound.info("the connection is opened anew anyway: {}", error)
        finally:
            self._renewing = None
            self.changed()

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
        await self.send(exchange, key, body, properties)

    def send(self, exchange: str, key: str, body: bytes, properties: pika.BasicProperties) -> asyncio.Future[None]:
        """Put a message on the wire, as soon as that is possible; the future resolves with its confirm.

        It fails with NotConfirmed: returned, refused, timed out, the connection was lost; or it could not even be
        sent: no connection, an alarm on the server, or no room, for too long. Whoever sends many waits for `has_room`.
        """
        if self._is_clear():
            return self._send_now(exchange, key, body, properties)
        return asyncio.ensure_future(self._send_when_clear(exchange, key, body, properties))

    async def has_room(self) -> None:
        """Wait until a message can be put on the wire at once.

        Raises:
          NotConfirmed: no connection, an alarm on the server, or no room, for too long.
        """
        if not self._is_clear():
            await self._wait_until_clear()

    async def _send_when_clear(self, exchange: str, key: str, body: bytes, properties: pika.BasicProperties) -> None:
        await self._wait_until_clear()
        await self._send_now(exchange, key, body, properties)

    def _send_now(self, exchange: str, key: str, body: bytes, properties: pika.BasicProperties) -> asyncio.Future[None]:
        channel = self._channel
        assert channel is not None  # it is clear
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        try:
            channel.raw.publish(exchange, key, properties, body)
        except AMQPError as error:
            future.set_exception(ConfirmLost(f"{key}: {error!r}"))
            return future
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
        """Wait, within the bound, for what is on its way; not while an alarm holds it, which nobody can wait out."""
        waiting = [one.future for one in self._unconfirmed.values()]
        if waiting and not (self._connection is not None and self._connection.blocked):
            await asyncio.wait(waiting, timeout=WAIT_S)
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)

    def _is_clear(self) -> bool:
        return (
            self._channel is not None
            and self._renewing is None
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
            return f"the server takes no messages: {self._connection.blocked}"
        return f"{len(self._unconfirmed)} messages wait for their confirm"

    def _on_confirm(self, channel: AmqpChannel, tag: int, multiple: bool, accepted: bool) -> None:
        if channel is not self._channel:
            # Too late, for a message that has timed out: the same number is another message's by now.
            return
        error = None if accepted else NotConfirmed("the server refused the message")
        if not accepted:
            self._renew_soon()
        if multiple:
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
            self._resolve(number, ConfirmLost(f"the connection was lost before the confirm: {reason!r}"))
        if self._connection is not None and self._connection.is_open:
            # Only the channel is gone, as when an exchange was removed: a new connection declares everything again.
            self._connection.restart()

    def _expire(self) -> None:
        """Fail what has waited too long; the oldest comes first, so the look stops at the first that has not."""
        loop = asyncio.get_running_loop()
        self._sweep = None
        blocked = self._connection is not None and self._connection.blocked
        for number, one in list(self._unconfirmed.items()):
            if blocked:
                # It lies before a server that doesn't read, and will: sent once more, it would be there twice.
                one.deadline = loop.time() + CONFIRM_TIMEOUT_S
                continue
            if one.deadline > loop.time():
                break
            self._resolve(number, NotConfirmed(f"no confirm within {CONFIRM_TIMEOUT_S:g} s"))
        if self._unconfirmed:
            self._sweep = loop.call_later(SWEEP_S, self._expire)
        self.changed()
