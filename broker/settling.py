"""Settling: the one place that decides what becomes of a delivered message.

the actor returned, its futures resolved     acknowledge
a PermanentError                             dead-letter: it would fail the same way again
any other error                              put back on a retry tier, then acknowledge; dead-letter after FAULTS_MAX,
                                             or as its actor says (`broker/middleware/failures.py`)
a TransientError                             the same without that bound: an outage is not the message's fault
the channel was lost meanwhile               nothing: the broker has given the message to somebody else
"""

import asyncio
import concurrent.futures
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from loguru import logger

from broker.backoff import HOLD_MS_FIRST, HOLD_MS_MAX, pauses_s
from broker.consumer import LaneConsumer
from broker.crossing import Crossing
from broker.delivery import FAULTS, REQUEUE_REASON, REQUEUES, Completion, Delivery, Outgoing, Unroutable
from broker.gauges import Counts
from broker.middleware.failures import faults_after, pause_ms_after, why_dead
from broker.signals import Signals
from pipeline.errors import TransientError


class Settling(Signals, ABC):
    """The part of a transport that everything delivered ends in. Everything but `_submit` belongs to the event loop.

    `counts` tells what became of messages, `settlements` is set with each.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.counts = Counts()
        self.settlements = asyncio.Event()
        self._crossing: Crossing | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @abstractmethod
    def put(self, messages: Sequence[Outgoing]) -> Awaitable[None]:
        """Put messages where they survive. What is returned is done when every one is, or raises TransientError."""

    @abstractmethod
    def _acknowledge(self, delivery: Delivery) -> None:
        """Tell the broker that the message is done."""

    @abstractmethod
    def _reject(self, consumer: LaneConsumer, epoch: int, tag: int, origin: Outgoing) -> None:
        """Refuse the message for good: it goes to the dead-letter queue as it is."""

    @abstractmethod
    def _return(self, delivery: Delivery) -> None:
        """Put the message back at once, since it could not be put anywhere else."""

    def _opened(self) -> Crossing:
        if self._crossing is None:
            raise RuntimeError("the broker is not open: await broker.open() first")
        return self._crossing

    def _submit(self, call: Callable[..., None], *arguments: Any) -> None:
        """Hand a call to the loop. A thread that outlives the broker finds it closed, its message long gone back."""
        if (crossing := self._crossing) is not None:
            crossing.submit(call, *arguments)
        else:
            self.counts.stale += 1

    def _spawn(self, work: Any) -> None:
        task = self._opened().loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.bind(event="broker_task_failed").opt(exception=error).error("a task of the broker failed: {}", error)

    def _settle(self, delivery: Delivery) -> None:
        """Wait for one future after the other; when none is left, decide."""
        if delivery not in delivery.consumer.started:
            # Skipped before it began: it stays unacknowledged, so it goes back with its channel (or has gone already).
            self.counts.stale += delivery.stale
            return
        try:
            delivery.begin()
        except Exception as error:
            delivery.error = error
        while delivery.unfinished:
            future = delivery.unfinished[-1]
            if not future.done():
                self._settle_after(future, delivery)
                return
            delivery.unfinished.pop()
            error = asyncio.CancelledError() if future.cancelled() else future.exception()
            delivery.error = delivery.error or error
        delivery.settled = True
        try:
            self._decide(delivery)
        except Exception as error:
            # Never undecided: it would stay in hand for ever.
            self._dead_letter(delivery, f"what becomes of it can't be told: {error!r}")
            self._finish(delivery)

    def _settle_after(self, future: Completion, delivery: Delivery) -> None:
        if isinstance(future, concurrent.futures.Future):
            future.add_done_callback(lambda _: self._submit(self._settle, delivery))
        else:
            future.add_done_callback(lambda _: self._settle(delivery))

    def _decide(self, delivery: Delivery) -> None:
        error = delivery.error
        if delivery.stale:
            self.counts.stale += 1
        elif error is None and not delivery.failed:
            self.counts.acknowledged += 1
            self._acknowledge(delivery)
        elif reason := why_dead(delivery, error, self):
            self._dead_letter(delivery, reason)
        elif error is not None:
            self._spawn(self._requeue(delivery, error))
            return
        self._finish(delivery)

    def _finish(self, delivery: Delivery) -> None:
        delivery.consumer.done_with(delivery)
        # An error holds its traceback, which holds the delivery: only a garbage collection would free the three.
        delivery.error = None
        self.settlements.set()

    def _dead_letter(self, delivery: Delivery, reason: str) -> None:
        bound = logger.bind(event="dead_lettered", message_id=delivery.message_id, queue=delivery.queue_name)
        bound.error("{}", reason)
        self.counts.rejected += 1
        if not delivery.stale:
            self._reject(delivery.consumer, delivery.epoch, delivery.tag, delivery.origin)

    async def _requeue(self, delivery: Delivery, error: BaseException) -> None:
        pause_ms = pause_ms_after(delivery, error)
        self.counts.requeued += 1
        bound = logger.bind(event="requeued", message_id=delivery.message_id, queue=delivery.queue_name)
        bound.opt(exception=error).warning("put back for {} ms: {!r}", pause_ms, error)
        headers = delivery.origin.headers | {
            REQUEUES: delivery.requeues + 1,
            REQUEUE_REASON: repr(error)[:500],
            FAULTS: faults_after(delivery, error),
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
            except Exception as error:
                self._dead_letter(delivery, f"can't be put back: {error!r}")
                self._finish(delivery)
                return
        if delivery.stale:
            self.counts.stale += 1
        else:
            settle(delivery)
        self._finish(delivery)
