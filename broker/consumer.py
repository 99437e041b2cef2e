"""Consumer: what a Dramatiq consumer thread iterates over, fed from the event loop."""

import queue
from collections.abc import Iterable
from typing import TYPE_CHECKING

from dramatiq.broker import Consumer, MessageProxy

from broker.delivery import Delivery

if TYPE_CHECKING:
    from broker.transport import Transport


class LaneConsumer(Consumer):
    """Deliveries of one queue. It survives lost channels: each new one is a new epoch, older deliveries are dropped.

    `started` holds the deliveries whose actor has begun and which are not settled yet.
    """

    def __init__(self, broker: "Transport", queue_name: str, prefetch: int, timeout_ms: int) -> None:
        self.broker = broker
        self.queue_name = queue_name
        self.prefetch = prefetch
        self.epoch = 0
        self.closed = False
        self.draining = False
        self.started: set[Delivery] = set()
        self._timeout_s = timeout_ms / 1000
        self._arrived: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()

    def arrive(self, delivery: Delivery | None) -> None:
        """Hand a delivery to the consumer thread; None only wakes it."""
        self._arrived.put(delivery)

    def begin_epoch(self, epoch: int) -> None:
        """The channel is gone: every delivery that came through it is stale from now on."""
        self.epoch = epoch
        for delivery in tuple(self.started):
            if delivery.stale:
                self.started.discard(delivery)
        self.broker.settlements.set()

    def __next__(self) -> Delivery | None:
        try:
            delivery = self._arrived.get(timeout=self._timeout_s)
        except queue.Empty:
            return None
        if delivery is None or delivery.stale or self.draining:
            return None
        return delivery

    def ack(self, message: MessageProxy) -> None:
        """The actor is done, or has raised: settle the message once its futures are."""
        self.broker.settle_soon(message)

    def nack(self, message: MessageProxy) -> None:
        """Dramatiq gives the message up (unknown actor): dead-letter it."""
        self.broker.reject_soon(message)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Nothing to do: what was not started is unacknowledged and goes back when the channel closes."""

    def close(self) -> None:
        """Stop consuming, unless a graceful stop is under way, which closes the channel last."""
        if not self.draining:
            self.broker.detach_soon(self)
