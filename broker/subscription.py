"""Subscription: a queue being consumed for as long as it is wanted, whatever becomes of channels and connections."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from loguru import logger
from pika.exceptions import ChannelClosedByBroker

from broker.backoff import pauses_s
from broker.connection import (
    BACKOFF_MS_FIRST,
    BACKOFF_MS_MAX,
    CLOSE_TIMEOUT_S,
    AmqpChannel,
    AmqpConnection,
    ConnectionLost,
)
from broker.topology import TopologyMismatch

NOT_FOUND = 404

#: (epoch, method, properties, body)
Receive = Callable[[int, Any, Any, bytes], None]

#: Declares the queue again when somebody has removed it.
Redeclare = Callable[[], Awaitable[None]]


class Subscription:
    """One channel with its own prefetch. Delivery tags mean something on their own channel only, hence the epoch: it
    counts channels, and an answer for an older one is refused.
    """

    def __init__(
        self,
        connection: AmqpConnection,
        queue: str,
        prefetch: int,
        receive: Receive,
        declare: Redeclare,
        on_epoch: Callable[[int], None] = lambda epoch: None,
    ) -> None:
        self.epoch = 0
        self._connection = connection
        self._queue = queue
        self._prefetch = prefetch
        self._receive = receive
        self._declare = declare
        self._on_epoch = on_epoch
        self._channel: AmqpChannel | None = None
        self._consumer_tag: str | None = None
        self._wanted = True
        # Every tag up to `_floor` has been answered; beyond it `_answered` has been, of which `_untold` not yet here.
        self._floor = 0
        self._answered: set[int] = set()
        self._untold: list[int] = []
        self._task = asyncio.get_running_loop().create_task(self._keep())

    @property
    def consuming(self) -> bool:
        """The server has said that it feeds us, and has not taken it back."""
        return self._consumer_tag is not None and self._current(self.epoch) is not None

    def acknowledge(self, epoch: int, tag: int) -> None:
        """Acknowledge one delivery, together with the others of this turn of the event loop."""
        if self._current(epoch) is not None:
            if not self._untold:
                asyncio.get_running_loop().call_soon(self._tell, epoch)
            self._untold.append(tag)
            self._answered.add(tag)

    def reject(self, epoch: int, tag: int) -> None:
        """Hand it to the queue's dead-letter exchange."""
        if (channel := self._current(epoch)) is not None:
            channel.raw.basic_reject(tag, requeue=False)
            self._answered.add(tag)

    def put_back(self, epoch: int, tag: int) -> None:
        """Return it to the queue."""
        if (channel := self._current(epoch)) is not None:
            channel.raw.basic_nack(tag, requeue=True)
            self._answered.add(tag)

    def _tell(self, epoch: int) -> None:
        """Acknowledge what has been settled: with one frame as far as none is missing in between, the rest singly."""
        if (channel := self._current(epoch)) is None:
            return
        floor = self._floor
        while floor + 1 in self._answered:
            floor += 1
            self._answered.discard(floor)
        self._floor = floor
        if together := [tag for tag in self._untold if tag <= floor]:
            channel.raw.acknowledge(max(together), multiple=True)
        for tag in self._untold:
            if tag > floor:
                channel.raw.acknowledge(tag)
        self._untold.clear()

    async def cancel(self) -> None:
        """No more deliveries; those at hand can still be answered."""
        self._wanted = False
        if self._channel is not None and self._consumer_tag is not None and self._channel.is_open:
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._channel.call("basic_cancel", consumer_tag=self._consumer_tag)
            except (ConnectionLost, TimeoutError) as error:
                # Nothing left to cancel, or nobody who answers: closing the channel does the same.
                logger.bind(event="cancel_failed", queue=self._queue).info("{}", error)

    async def close(self) -> None:
        """Close the channel: what is unanswered goes back to the queue."""
        self._wanted = False
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._tell(self.epoch)
        if self._channel is not None:
            await self._channel.close()
        self._end_epoch()

    def _current(self, epoch: int) -> AmqpChannel | None:
        """The channel, if it is the epoch's and still open: its last moments may not have reached us yet."""
        channel = self._channel
        return channel if epoch == self.epoch and channel is not None and channel.is_open else None

    async def _keep(self) -> None:
        pauses = pauses_s(BACKOFF_MS_FIRST, BACKOFF_MS_MAX)
        while self._wanted:
            try:
                closed = await self._consume()
            except ConnectionLost as error:
                logger.bind(event="consume_failed", queue=self._queue).warning(
                    "can't consume {}: {}", self._queue, error
                )
                self._end_epoch()
                await self._declare_if_missing(error)
            except Exception as error:
                # Whatever it is: a worker that consumes nothing any more would look as if it were idle.
                bound = logger.bind(event="consume_failed", queue=self._queue)
                bound.opt(exception=error).error("can't consume {}: {!r}", self._queue, error)
                self._end_epoch()
            else:
                pauses = pauses_s(BACKOFF_MS_FIRST, BACKOFF_MS_MAX)
                reason = await asyncio.shield(closed)
                self._end_epoch()
                logger.bind(event="channel_lost", queue=self._queue).warning("{}: {!r}", self._queue, reason)
            await asyncio.sleep(next(pauses))

    async def _declare_if_missing(self, error: ConnectionLost) -> None:
        """Somebody has removed the queue: what was in it is theirs to answer for, what comes needs a queue."""
        reason = error.__cause__
        if isinstance(reason, ChannelClosedByBroker) and reason.reply_code == NOT_FOUND:
            try:
                await self._declare()
            except (ConnectionLost, TopologyMismatch) as failed:
                logger.bind(event="declare_failed", queue=self._queue).error("{}", failed)

    async def _consume(self) -> asyncio.Future[BaseException]:
        """Begin a new epoch; returns the future that resolves when it ends."""
        channel = self._channel = await self._connection.channel()
        if not self._wanted:
            await channel.close()
            return channel.closed
        # The epoch ends with the channel, in the same moment, before anybody can answer on the wrong one.
        channel.raw.add_on_close_callback(lambda *_: self._end_epoch(channel))
        # The server cancels a consumer whose queue is removed or changes hands; a new channel finds out which.
        channel.raw.add_on_cancel_callback(lambda _: channel.raw.close() if channel.is_open else None)
        channel.raw.receive = partial(self._delivered, channel, self.epoch)
        await channel.call("basic_qos", prefetch_count=self._prefetch)
        # pika wants somebody to give deliveries to, which never reach it.
        answer = await channel.call("basic_consume", queue=self._queue, on_message_callback=lambda *_: None)
        self._consumer_tag = answer.method.consumer_tag
        if not self._wanted:
            # Cancelled while the server was about to feed us.
            await channel.call("basic_cancel", consumer_tag=self._consumer_tag)
        return channel.closed

    def _delivered(self, channel: AmqpChannel, epoch: int, method: Any, properties: Any, body: bytes) -> None:
        # Nobody could answer for it on a channel that is being closed. What comes after `cancel` is held until then:
        # rejected, it would come back at once, and be given up after so many times.
        if channel.is_open:
            self._receive(epoch, method, properties, body)

    def _end_epoch(self, channel: AmqpChannel | None = None) -> None:
        """Once per channel, however many notice its end."""
        if self._channel is not None and channel in (None, self._channel):
            self._channel = self._consumer_tag = None
            self._floor = 0
            self._answered.clear()
            self._untold.clear()
            self.epoch += 1
            self._on_epoch(self.epoch)
