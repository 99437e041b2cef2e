"""Transport: what both brokers promise; `settling` decides what becomes of a delivered message."""

import asyncio
import time
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import dramatiq
import msgspec
from dramatiq.broker import MessageProxy
from dramatiq.middleware import CurrentMessage, Middleware, ShutdownNotifications, TimeLimit
from loguru import logger

from broker.consumer import LaneConsumer
from broker.crossing import Crossing
from broker.delivery import (
    DUE,
    DeadDelivery,
    Delivery,
    Outgoing,
    current_delivery,
    whole_number,
)
from broker.encoding import BODY_BYTES_MAX, MessageTooLarge, Undecodable, check_size, decode_message, encode_message
from broker.gauges import Depth
from broker.middleware.failures import Failures
from broker.middleware.stale import StaleDeliveries
from broker.search import Search
from broker.settling import Settling
from contracts.failure import DeadLetter

#: A message this close to its due time is not sent round again.
DUE_SLACK_MS = 500

DEFAULT_PREFETCH = 16
ENQUEUE_TIMEOUT_S = 60.0


class Transport(Settling):
    """Base of both brokers. Queues go by their short names (`validate.live`); the event loop owns everything.

    Other threads may call `enqueue`, and Dramatiq's threads what Dramatiq calls.
    `prefetch` is the bound of unsettled deliveries per queue, `records_max` that of records being worked on, by lane.
    """

    def __init__(
        self,
        *,
        prefetch: Mapping[str, int] | None = None,
        records_max: Mapping[str, int] | None = None,
        time_limit_ms: int = 600_000,
        body_bytes_max: int = BODY_BYTES_MAX,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        own = [
            CurrentMessage(),
            StaleDeliveries(),
            Failures(),
            TimeLimit(time_limit=time_limit_ms),
            ShutdownNotifications(),
            *middleware,
        ]
        super().__init__(middleware=own)
        self.actor_options.add("raw")
        self.queues: dict[str, None] = {}
        self.consumers: list[LaneConsumer] = []
        self.body_bytes_max = body_bytes_max
        self._prefetch = dict(prefetch or {})
        self._records_max = dict(records_max or {})
        self._booted = False

    # What a broker does its own way

    async def open(self) -> None:
        """Get ready to publish; remembers the running loop as the one that owns the broker."""
        self._crossing = Crossing(asyncio.get_running_loop())

    async def aclose(self) -> None:
        """Give everything back. What is not acknowledged will be delivered again."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._crossing = None

    @abstractmethod
    async def put_dead(self, letters: Sequence[DeadLetter]) -> None:
        """Tell the dead-letter exchange."""

    @abstractmethod
    async def depths(self) -> dict[str, Depth]:
        """Every queue by its short name, the retry tiers and the dead-letter queue among them."""

    @abstractmethod
    async def search(self, queues: Collection[str]) -> Search:
        """Begin to find out which records the broker still has in these work queues, or in a worker's hands."""

    @abstractmethod
    async def has_room(self) -> None:
        """Wait until ingestion may put more. Never called by a stage: it would wait for itself."""

    @property
    def blocked(self) -> str:
        """Why the broker takes no messages at this moment ("low on memory"); empty while it does."""
        return ""

    async def listen(self) -> None:
        """Hear what the workers of the deployment tell each other, in a process that consumes nothing."""

    @property
    def live_at_work(self) -> bool:
        """Whether a worker of the deployment has been given live work in the last moments, as far as this process
        hears: one that consumes, or listens.
        """
        return False

    async def alarm(self) -> str:
        """The same, found out rather than known: a process that publishes nothing is not told."""
        return self.blocked

    @abstractmethod
    async def receive_dead(self, receive: Callable[[DeadDelivery], None], prefetch: int) -> Callable[[], Any]:
        """Consume the dead-letter queue; returns what to await to end it."""

    @abstractmethod
    async def attach(self, consumer: LaneConsumer) -> None:
        """Begin to feed the consumer."""

    @abstractmethod
    def feeds(self, consumer: LaneConsumer) -> bool:
        """Whether the consumer is fed at this moment; false while a connection is lost."""

    @abstractmethod
    async def cancel(self, consumer: LaneConsumer) -> None:
        """Feed it no more; what it has may still be settled."""

    @abstractmethod
    async def detach(self, consumer: LaneConsumer) -> None:
        """End it: what it has not settled goes back to the queue."""

    # Declaring

    def declare_queue(self, queue_name: str) -> None:
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = None
            self.emit_after("declare_queue", queue_name)

    def boot(self) -> None:
        """Tell the middleware, once, that this process runs actors."""
        if not self._booted:
            self._booted = True
            self.emit_after("process_boot")

    # Sending, from any thread

    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> dramatiq.Message[Any]:
        """Send an actor's message. Within an actor its confirm joins the acknowledgement of the current message;
        elsewhere this call waits for it.

        Raises:
          TransientError: outside an actor, not confirmed.
          MessageTooLarge: over `body_bytes_max`, which no worker would take.
          RuntimeError: outside an actor on the event loop, which must not wait: `await broker.put(...)` there.
        """
        self.emit_before("enqueue", message, delay)
        outgoing = Outgoing(
            queue=message.queue_name,
            body=encode_message(message),
            message_id=message.message_id,
            type=message.actor_name,
            delay_ms=None if delay is None else int(delay),
        )
        check_size(outgoing.body, self.body_bytes_max)
        crossing = self._opened()
        delivery = current_delivery()
        if delivery is not None and not delivery.settled:
            crossing.submit(self._put_for, delivery, outgoing)
        elif crossing.on_loop:
            raise RuntimeError("send() would block the event loop: await broker.put(...) instead")
        else:
            asyncio.run_coroutine_threadsafe(self._put_one(outgoing), crossing.loop).result(ENQUEUE_TIMEOUT_S)
        self.emit_after("enqueue", message, delay)
        return message

    def _put_for(self, delivery: Delivery, outgoing: Outgoing) -> None:
        """Put what the delivery's actor has sent; the delivery is done when this is."""
        if delivery.settled:
            # Sent by a thread that the actor has left behind: nobody waits any more, but a failure is logged.
            self._spawn(self._put_one(outgoing))
        else:
            try:
                delivery.finish_with(asyncio.ensure_future(self.put([outgoing])))
            except Exception as error:
                delivery.error = delivery.error or error

    async def _put_one(self, outgoing: Outgoing) -> None:
        await self.put([outgoing])

    # Consuming, from Dramatiq's threads

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> LaneConsumer:
        """A consumer of the queue, with the bounds of its lane instead of Dramatiq's."""
        lane = queue_name.rpartition(".")[2]
        bound, records_max = self._prefetch.get(lane, DEFAULT_PREFETCH), self._records_max.get(lane)
        consumer = LaneConsumer(self, queue_name, bound, timeout, records_max)
        self._opened().submit(self._attach_soon, consumer)
        return consumer

    def settle_soon(self, message: MessageProxy) -> None:
        self._submit(self._settle, message)

    def detach_soon(self, consumer: LaneConsumer) -> None:
        self._submit(lambda: self._spawn(self.detach(consumer)))

    def _attach_soon(self, consumer: LaneConsumer) -> None:
        self.consumers.append(consumer)
        self._spawn(self.attach(consumer))

    def _arrived(self, consumer: LaneConsumer, epoch: int, tag: int, origin: Outgoing, redelivered: bool) -> None:
        """Take a message off the wire: to a worker thread, round again if it is not due, or to the dead letters."""
        try:
            check_size(origin.body, self.body_bytes_max)
            message = decode_message(origin.body, consumer.queue_name, self.get_actor)
        except (Undecodable, MessageTooLarge) as error:
            logger.bind(event="undecodable", message_id=origin.message_id, queue=origin.queue).error("{}", error)
            self.counts.rejected += 1
            self._reject(consumer, epoch, tag, origin)
            return
        delivery = Delivery(message, consumer, epoch, tag, origin)
        delivery.redelivered = redelivered
        # `eta` is how a stock Dramatiq client says it; left in, Dramatiq's consumer thread would keep it in memory.
        due_ms = max(whole_number(origin.headers.get(DUE)), whole_number(message.options.pop("eta", None)))
        if (rest_ms := due_ms - int(time.time() * 1000)) >= DUE_SLACK_MS:
            self._spawn(self._put_back(delivery, msgspec.structs.replace(origin, delay_ms=rest_ms)))
        else:
            consumer.arrive(delivery)
