"""EmbeddedBroker: the same promises within one process, for as long as it lives; the ledger is the durable side."""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from broker.consumer import LaneConsumer
from broker.control import Part, parts_in
from broker.delivery import DeadDelivery, Delivery, Outgoing, Unroutable
from broker.gauges import Depth
from broker.search import MemorySearch
from broker.topology import BROKER_CODE
from broker.transport import Transport
from contracts.failure import DeadLetter

#: Messages at hand (ready, delayed or unsettled) beyond which ingestion waits.
DEPTH_MAX = 500


class _Feed(msgspec.Struct, eq=False):
    """A consumer and what it has not settled, by tag."""

    consumer: LaneConsumer
    unsettled: dict[int, Outgoing] = {}


class EmbeddedBroker(Transport):
    """Queues in memory. Everything but `enqueue` and Dramatiq's own calls belongs to the event loop."""

    server_version = ""

    def __init__(
        self, *, prefetch: Mapping[str, int] | None = None, depth_max: int = DEPTH_MAX, **options: Any
    ) -> None:
        super().__init__(prefetch=prefetch, **options)
        self._depth_max = depth_max
        self._ready: dict[str, deque[tuple[Outgoing, bool]]] = {}
        self._feeds: dict[LaneConsumer, _Feed] = {}
        self._delayed: dict[asyncio.TimerHandle, Outgoing] = {}
        self._dead: deque[DeadDelivery] = deque()
        self._unarchived: dict[int, Outgoing] = {}
        self._receive_dead: Callable[[DeadDelivery], None] | None = None
        self._tag = 0
        self._outstanding = 0
        self._fewer = asyncio.Event()

    async def aclose(self) -> None:
        for consumer in tuple(self.consumers):
            await self.detach(consumer)
        for timer in self._delayed:
            timer.cancel()
        self._delayed.clear()
        await super().aclose()

    @property
    def outstanding(self) -> int:
        """Messages that are not done: ready, delayed, or delivered and not settled."""
        return self._outstanding

    @property
    def idle(self) -> bool:
        """Nothing is left to do, and every dead letter that somebody archives is archived."""
        return not self._outstanding and not (self._receive_dead and self._unarchived)

    async def join(self) -> None:  # type: ignore[override]
        """Wait until the broker is idle."""
        while not self.idle:
            self._fewer.clear()
            await self._fewer.wait()

    @property
    def full(self) -> bool:
        """As many messages are at hand as may be."""
        return self._outstanding >= self._depth_max

    async def has_room(self) -> None:
        """Wait until fewer than `depth_max` messages are at hand."""
        while self.full:
            self._fewer.clear()
            await self._fewer.wait()

    async def depths(self) -> dict[str, Depth]:
        """As on RabbitMQ, but all delays together under `retry`."""
        depths = {"dead": Depth(len(self._dead), int(self._receive_dead is not None))}
        for name in self.queues:
            consumers = sum(consumer.queue_name == name for consumer in self._feeds)
            depths[name] = Depth(len(self._ready.get(name, ())), consumers)
        depths["retry"] = Depth(len(self._delayed), 0)
        return depths

    async def search(self, queues: Collection[str]) -> MemorySearch:
        """Looks at every message at hand, whichever its queue."""
        return MemorySearch(self._contents)

    def waits_for(self) -> frozenset[str]:
        """The targets of what is left, where all of that waits for its time; empty while anything is worked on."""
        if self._outstanding > len(self._delayed):
            return frozenset()
        return frozenset(target for message in self._delayed.values() for _, target in parts_in(message.body))

    def _contents(self) -> frozenset[Part]:
        ready = (message for waiting in self._ready.values() for message, _ in waiting)
        unsettled = (message for feed in self._feeds.values() for message in feed.unsettled.values())
        messages = (*ready, *unsettled, *self._delayed.values(), *self._unarchived.values())
        return frozenset(part for message in messages for part in parts_in(message.body))

    # Publishing

    def put(self, messages: Sequence[Outgoing]) -> asyncio.Future[None]:
        """Queue all messages, or none.

        Raises:
          Unroutable: a queue is not declared.
        """
        put = asyncio.get_running_loop().create_future()
        for message in messages:
            if message.queue not in self.queues:
                put.set_exception(Unroutable(f"no queue takes {message.queue!r}"))
                return put
        for message in messages:
            self._outstanding += 1
            if message.delay_ms:
                self._delay(message)
            else:
                self._make_ready(message)
        put.set_result(None)
        return put

    async def put_dead(self, letters: Sequence[DeadLetter]) -> None:
        """Only counted: the ledger has archived them, and within one process nobody else listens."""
        self.counts.dead_published += len(letters)

    def _delay(self, message: Outgoing) -> None:
        def due() -> None:
            del self._delayed[timer]
            self._make_ready(message)

        timer = asyncio.get_running_loop().call_later((message.delay_ms or 0) / 1000, due)
        self._delayed[timer] = message

    def _make_ready(self, message: Outgoing) -> None:
        self._ready.setdefault(message.queue, deque()).append((message, False))
        self._feed(message.queue)

    # Consuming

    def _feed(self, queue: str) -> None:
        """Deliver while there are messages and consumers with room."""
        ready = self._ready.get(queue)
        while ready:
            feeds = (feed for feed in self._feeds.values() if feed.consumer.queue_name == queue)
            feed = next((f for f in feeds if len(f.unsettled) < f.consumer.prefetch and not f.consumer.closed), None)
            if feed is None:
                return
            message, redelivered = ready.popleft()
            self._tag += 1
            feed.unsettled[self._tag] = message
            self._arrived(feed.consumer, feed.consumer.epoch, self._tag, message, redelivered)

    async def attach(self, consumer: LaneConsumer) -> None:
        if not consumer.closed:
            self._feeds[consumer] = _Feed(consumer, {})
            self._feed(consumer.queue_name)

    def feeds(self, consumer: LaneConsumer) -> bool:
        return consumer in self._feeds

    async def cancel(self, consumer: LaneConsumer) -> None:
        consumer.closed = True

    async def detach(self, consumer: LaneConsumer) -> None:
        consumer.closed = True
        if consumer in self.consumers:
            self.consumers.remove(consumer)
        if feed := self._feeds.pop(consumer, None):
            consumer.begin_epoch(consumer.epoch + 1)
            ready = self._ready.setdefault(consumer.queue_name, deque())
            ready.extendleft((message, True) for message in reversed(feed.unsettled.values()))
            self._feed(consumer.queue_name)

    def _acknowledge(self, delivery: Delivery) -> None:
        self._take_out(delivery.consumer, delivery.tag)

    def _reject(self, consumer: LaneConsumer, epoch: int, tag: int, origin: Outgoing) -> None:
        death = {"reason": "rejected", "queue": origin.queue, "count": 1}
        dead = DeadDelivery(
            body=origin.body,
            headers=origin.headers | {"x-death": [death]},
            routing_key=f"{origin.queue.partition('.')[0]}.technical.it.{BROKER_CODE}",
            message_id=origin.message_id,
            type=origin.type,
            acknowledge=partial(self._archived, tag),
            lost=lambda: False,
        )
        self._unarchived[tag] = origin
        if self._receive_dead is not None:
            self._receive_dead(dead)
        else:
            self._dead.append(dead)
        self._take_out(consumer, tag)

    def _return(self, delivery: Delivery) -> None:
        message = self._feeds[delivery.consumer].unsettled.pop(delivery.tag)
        self._ready.setdefault(message.queue, deque()).appendleft((message, True))
        self._feed(message.queue)

    def _take_out(self, consumer: LaneConsumer, tag: int) -> None:
        del self._feeds[consumer].unsettled[tag]
        self._outstanding -= 1
        self._fewer.set()
        self._feed(consumer.queue_name)

    async def receive_dead(self, receive: Callable[[DeadDelivery], None], prefetch: int) -> Callable[[], Any]:
        async def end() -> None:
            self._receive_dead = None
            self._fewer.set()

        self._receive_dead = receive
        while self._dead:
            receive(self._dead.popleft())
        return end

    def _archived(self, tag: int) -> None:
        del self._unarchived[tag]
        self._fewer.set()
