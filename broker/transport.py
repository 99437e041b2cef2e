"""Transport: what both brokers promise, and the one place that decides what becomes of a delivered message.

the actor returned, its futures resolved     acknowledge
a PermanentError                             dead-letter: it would fail the same way again
any other error                              put back on a retry tier, then acknowledge; dead-letter after FAULTS_MAX
a TransientError                             the same without that bound: an outage is not the message's fault
the channel was lost meanwhile               nothing: the broker has given the message to somebody else
"""

import asyncio
import concurrent.futures
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dramatiq
import msgspec
from dramatiq.broker import MessageProxy
from dramatiq.middleware import CurrentMessage, Middleware, ShutdownNotifications, TimeLimit
from loguru import logger

from broker.backoff import FAULTS_MAX, HOLD_MS_FIRST, HOLD_MS_MAX, REQUEUE_PAUSES_MS, pauses_s
from broker.consumer import LaneConsumer
from broker.crossing import Crossing
from broker.delivery import (
    DUE,
    FAULTS,
    REQUEUE_REASON,
    REQUEUES,
    Completion,
    DeadDelivery,
    Delivery,
    Outgoing,
    Unroutable,
    current_delivery,
    whole_number,
)
from broker.encoding import Undecodable, decode_message, encode_message
from broker.gauges import Counts, Depth
from broker.middleware.stale import StaleDeliveries
from contracts.failure import DeadLetter
from pipeline.errors import PermanentError, TransientError

#: A message this close to its due time is not sent round again.
DUE_SLACK_MS = 500

DEFAULT_PREFETCH = 16
ENQUEUE_TIMEOUT_S = 60.0


class Transport(dramatiq.Broker, ABC):
    """Base of both brokers. Queues go by their short names (`validate.live`); the event loop owns everything.

    Other threads may call `enqueue`, and Dramatiq's threads what Dramatiq calls.
    `prefetch` is the bound of unsettled deliveries per queue, by lane.
    """

    def __init__(
        self,
        *,
        prefetch: Mapping[str, int] | None = None,
        time_limit_ms: int = 600_000,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        own = [
            CurrentMessage(),
            StaleDeliveries(),
            TimeLimit(time_limit=time_limit_ms),
            ShutdownNotifications(),
            *middleware,
        ]
        super().__init__(middleware=own)
        self.actor_options.add("raw")
        self.queues: dict[str, None] = {}
        self.consumers: list[LaneConsumer] = []
        self.counts = Counts()
        self.settlements = asyncio.Event()
        self._prefetch = dict(prefetch or {})
        self._crossing: Crossing | None = None
        self._tasks: set[asyncio.Task[None]] = set()
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
    async def put(self, messages: Sequence[Outgoing]) -> None:
        """Put messages where they survive; raises TransientError unless every one is."""

    @abstractmethod
    async def put_dead(self, letters: Sequence[DeadLetter]) -> None:
        """Tell the dead-letter exchange."""

    @abstractmethod
    async def depths(self) -> dict[str, Depth]:
        """Every queue by its short name, the retry tiers and the dead-letter queue among them."""

    @abstractmethod
    async def has_room(self) -> None:
        """Wait until ingestion may put more. Never called by a stage: it would wait for itself."""

    @abstractmethod
    async def receive_dead(self, receive: Callable[[DeadDelivery], None], prefetch: int) -> Callable[[], Any]:
        """Consume the dead-letter queue; returns what to await to end it."""

    @abstractmethod
    async def attach(self, consumer: LaneConsumer) -> None:
        """Begin to feed the consumer."""

    @abstractmethod
    async def cancel(self, consumer: LaneConsumer) -> None:
        """Feed it no more; what it has may still be settled."""

    @abstractmethod
    async def detach(self, consumer: LaneConsumer) -> None:
        """End it: what it has not settled goes back to the queue."""

    @abstractmethod
    def _acknowledge(self, delivery: Delivery) -> None:
        """Tell the broker that the message is done."""

    @abstractmethod
    def _reject(self, consumer: LaneConsumer, epoch: int, tag: int, origin: Outgoing) -> None:
        """Refuse the message for good: it goes to the dead-letter queue as it is."""

    @abstractmethod
    def _return(self, delivery: Delivery) -> None:
        """Put the message back at once, since it could not be put anywhere else."""

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
          RuntimeError: outside an actor on the event loop, which must not wait: `await broker.put(...)` there.
        """
        self.emit_before("enqueue", message, delay)
        outgoing = Outgoing(
            queue=message.queue_name,
            body=encode_message(message),
            message_id=message.message_id,
            type=message.actor_name,
            delay_ms=delay,
        )
        crossing = self._opened()
        delivery = current_delivery()
        if delivery is not None and not delivery.settled:
            delivery.finish_with(asyncio.run_coroutine_threadsafe(self.put([outgoing]), crossing.loop))
        elif crossing.on_loop:
            raise RuntimeError("send() would block the event loop: await broker.put(...) instead")
        else:
            asyncio.run_coroutine_threadsafe(self.put([outgoing]), crossing.loop).result(ENQUEUE_TIMEOUT_S)
        self.emit_after("enqueue", message, delay)
        return message

    def _opened(self) -> Crossing:
        if self._crossing is None:
            raise RuntimeError("the broker is not open: await broker.open() first")
        return self._crossing

    # Consuming, from Dramatiq's threads

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> LaneConsumer:
        """A consumer of the queue, with the prefetch of its lane instead of Dramatiq's."""
        bound = self._prefetch.get(queue_name.rpartition(".")[2], DEFAULT_PREFETCH)
        consumer = LaneConsumer(self, queue_name, bound, timeout)
        self._opened().submit(self._attach_soon, consumer)
        return consumer

    def settle_soon(self, message: MessageProxy) -> None:
        self._submit(self._settle, message)

    def reject_soon(self, message: MessageProxy) -> None:
        self._submit(self._dead_letter, message, "no such actor")

    def detach_soon(self, consumer: LaneConsumer) -> None:
        self._submit(lambda: self._spawn(self.detach(consumer)))

    def _submit(self, call: Callable[..., None], *arguments: Any) -> None:
        """Hand a call to the loop. A thread that outlives the broker finds it closed, its message long gone back."""
        if (crossing := self._crossing) is not None:
            crossing.submit(call, *arguments)
        else:
            self.counts.stale += 1

    def _attach_soon(self, consumer: LaneConsumer) -> None:
        self.consumers.append(consumer)
        self._spawn(self.attach(consumer))

    def _spawn(self, work: Any) -> None:
        task = self._opened().loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.bind(event="broker_task_failed").opt(exception=error).error("a task of the broker failed: {}", error)

    # Settling, on the loop

    def _arrived(self, consumer: LaneConsumer, epoch: int, tag: int, origin: Outgoing, redelivered: bool) -> None:
        """Take a message off the wire: to a worker thread, round again if it is not due, or to the dead letters."""
        try:
            message = decode_message(origin.body, consumer.queue_name, self.get_actor)
        except Undecodable as error:
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

    def _settle(self, delivery: Delivery) -> None:
        """Wait for one future after the other; when none is left, decide."""
        if delivery not in delivery.consumer.started:
            # Skipped before it began: it stays unacknowledged, so it goes back with its channel (or has gone already).
            self.counts.stale += delivery.stale
            return
        while delivery.unfinished:
            future = delivery.unfinished[-1]
            if not future.done():
                self._settle_after(future, delivery)
                return
            delivery.unfinished.pop()
            error = asyncio.CancelledError() if future.cancelled() else future.exception()
            delivery.error = delivery.error or error
        delivery.settled = True
        self._decide(delivery)

    def _settle_after(self, future: Completion, delivery: Delivery) -> None:
        if isinstance(future, concurrent.futures.Future):
            future.add_done_callback(lambda _: self._submit(self._settle, delivery))
        else:
            future.add_done_callback(lambda _: self._settle(delivery))

    def _decide(self, delivery: Delivery) -> None:
        error = delivery.error
        if delivery.stale:
            self.counts.stale += 1
        elif error is None:
            self.counts.acknowledged += 1
            self._acknowledge(delivery)
        elif isinstance(error, PermanentError):
            self._dead_letter(delivery, f"{error.code.name}: {error}")
        elif delivery.faults >= FAULTS_MAX and not isinstance(error, TransientError):
            self._dead_letter(delivery, f"failed {delivery.faults} times, last for {error!r}")
        else:
            self._spawn(self._requeue(delivery, error))
            return
        self._finish(delivery)

    def _finish(self, delivery: Delivery) -> None:
        delivery.consumer.started.discard(delivery)
        self.settlements.set()

    def _dead_letter(self, delivery: Delivery, reason: str) -> None:
        bound = logger.bind(event="dead_lettered", message_id=delivery.message_id, queue=delivery.queue_name)
        bound.error("{}", reason)
        self.counts.rejected += 1
        if not delivery.stale:
            self._reject(delivery.consumer, delivery.epoch, delivery.tag, delivery.origin)

    async def _requeue(self, delivery: Delivery, error: BaseException) -> None:
        pause_ms = REQUEUE_PAUSES_MS[min(delivery.requeues, len(REQUEUE_PAUSES_MS) - 1)]
        self.counts.requeued += 1
        bound = logger.bind(event="requeued", message_id=delivery.message_id, queue=delivery.queue_name)
        bound.opt(exception=error).warning("put back for {} ms: {!r}", pause_ms, error)
        headers = delivery.origin.headers | {
            REQUEUES: delivery.requeues + 1,
            REQUEUE_REASON: repr(error)[:500],
            FAULTS: delivery.faults + (0 if isinstance(error, TransientError) else 1),
        }
        await self._put_back(delivery, msgspec.structs.replace(delivery.origin, headers=headers, delay_ms=pause_ms))

    async def _put_back(self, delivery: Delivery, outgoing: Outgoing) -> None:
        """Acknowledge the delivery only once its copy is safe on a retry tier.

        Where that is missing altogether the message returns to its queue.
        """
        settle = self._acknowledge
        for pause_s in pauses_s(HOLD_MS_FIRST, HOLD_MS_MAX):
            try:
                await self.put([outgoing])
                break
            except TransientError as failed:
                bound = logger.bind(event="not_put_back", message_id=delivery.message_id, queue=delivery.queue_name)
                bound.warning("can't be put back: {}", failed)
                # The pause also keeps a queue that nobody can put anything into from spinning.
                await asyncio.sleep(pause_s)
                if isinstance(failed, Unroutable):
                    settle = self._return
                    break
                if delivery.stale:
                    break
        if delivery.stale:
            self.counts.stale += 1
        else:
            settle(delivery)
        self._finish(delivery)
