"""Consumer: what a Dramatiq consumer thread iterates over, fed from the event loop."""

import queue
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from dramatiq.broker import Consumer, MessageProxy

from broker.delivery import Delivery

if TYPE_CHECKING:
    from broker.transport import Transport


class LaneConsumer(Consumer):
    """Deliveries of one queue. It survives lost channels: each new one is a new epoch, older deliveries are dropped.

    `started` holds the deliveries whose actor has begun and which are not settled yet. The broker bounds what it sends
    by messages (`prefetch`), this what is worked on by records: a message of five hundred is not one of one.
    """

    def __init__(
        self, broker: "Transport", queue_name: str, prefetch: int, timeout_ms: int, records_max: int | None = None
    ) -> None:
        self.broker = broker
        self.queue_name = queue_name
        self.prefetch = prefetch
        self.epoch = 0
        self.closed = False
        self.draining = False
        self.started: set[Delivery] = set()
        self.records_max = records_max
        self.records = 0
        self._waiting: deque[Delivery] = deque()
        self._timeout_s = timeout_ms / 1000
        self._arrived: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self._feed: Callable[[Delivery], None] | None = None

    def feed(self, receive: Callable[[MessageProxy], None]) -> None:
        """Hand every delivery to `receive`, on the event loop, instead of to whoever iterates over this."""
        self._feed = receive

    def arrive(self, delivery: Delivery | None) -> None:
        """Hand a delivery on once there is room for its records; None only wakes the consumer thread."""
        if delivery is None:
            self._arrived.put(None)
        elif not self.draining:
            self._waiting.append(delivery)
            self._hand_on()

    def done_with(self, delivery: Delivery) -> None:
        """The delivery is settled: its records make room for others."""
        self.started.discard(delivery)
        if delivery.in_hand and not delivery.stale:
            delivery.in_hand = False
            self.records -= delivery.records
            self._hand_on()

    def _hand_on(self) -> None:
        """At least one message is always worked on, however many records it has."""
        while self._waiting and not self.draining:
            records = self._waiting[0].records
            if self.records and self.records_max is not None and self.records + records > self.records_max:
                return
            delivery = self._waiting.popleft()
            delivery.in_hand = True
            self.records += records
            if self._feed is None:
                self._arrived.put(delivery)
            else:
                self._feed(delivery)

    def begin_epoch(self, epoch: int) -> None:
        """The channel is gone: every delivery that came through it is stale from now on."""
        self.epoch = epoch
        self.records = 0
        self._waiting.clear()
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
        """The actor or a middleware has failed the message (`message.fail()`): it ends among the dead letters."""
        self.broker.settle_soon(message)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Nothing to do: what was not started is unacknowledged and goes back when the channel closes."""

    def close(self) -> None:
        """Stop consuming, unless a graceful stop is under way, which closes the channel last."""
        if not self.draining:
            self.broker.detach_soon(self)
