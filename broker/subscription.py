"""Subscription: a queue being consumed for as long as it is wanted, whatever becomes of channels and connections."""

import asyncio
from collections.abc import Awaitable, Callable
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
        declare: Callable[[], Awaitable[None]],
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
        self._task = asyncio.get_running_loop().create_task(self._keep())

    def acknowledge(self, epoch: int, tag: int) -> None:
        """Acknowledge one delivery. Coalescing acknowledgements (`multiple`) belongs here: nobody else knows tags."""
        if (channel := self._current(epoch)) is not None:
            channel.raw.basic_ack(tag)

    def reject(self, epoch: int, tag: int) -> None:
        """Hand it to the queue's dead-letter exchange."""
        if (channel := self._current(epoch)) is not None:
            channel.raw.basic_reject(tag, requeue=False)

    def put_back(self, epoch: int, tag: int) -> None:
        """Return it to the queue."""
        if (channel := self._current(epoch)) is not None:
            channel.raw.basic_nack(tag, requeue=True)

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
        # The epoch ends with the channel, in the same moment, before anybody can answer on the wrong one.
        channel.raw.add_on_close_callback(lambda *_: self._end_epoch(channel))
        # The server cancels a consumer whose queue is removed or changes hands; a new channel finds out which.
        channel.raw.add_on_cancel_callback(lambda _: channel.raw.close())
        epoch = self.epoch
        await channel.call("basic_qos", prefetch_count=self._prefetch)
        answer = await channel.call(
            "basic_consume",
            queue=self._queue,
            on_message_callback=lambda _, method, properties, body: self._receive(epoch, method, properties, body),
        )
        self._consumer_tag = answer.method.consumer_tag
        return channel.closed

    def _end_epoch(self, channel: AmqpChannel | None = None) -> None:
        """Once per channel, however many notice its end."""
        if self._channel is not None and channel in (None, self._channel):
            self._channel = self._consumer_tag = None
            self.epoch += 1
            self._on_epoch(self.epoch)
