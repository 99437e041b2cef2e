"""RabbitBroker: Dramatiq on RabbitMQ, with one connection to publish and one to consume, both on the event loop."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import msgspec
import pika
from pika.exceptions import ChannelClosedByBroker

from broker.alarms import current_alarm
from broker.backoff import pauses_s
from broker.channel import AmqpChannel, ConnectionLost
from broker.connection import AmqpConnection, nodes_of
from broker.consumer import LaneConsumer
from broker.control import MARKER_TYPE, Control
from broker.dead_consumer import DeadConsumer
from broker.declaring import declare
from broker.delivery import DUE, ConfirmLost, DeadDelivery, Delivery, Outgoing, Unroutable, own_headers
from broker.gauges import Depth
from broker.publishing import ConfirmedPublisher
from broker.roll import Roll
from broker.search import BrokerSearch
from broker.subscription import NOT_FOUND, Subscription
from broker.topology import Topology, tier_for
from broker.transport import DUE_SLACK_MS, Transport
from contracts.envelope import LIVE
from contracts.failure import DeadLetter

#: The AMQP type of a dead letter that we have published ourselves.
DEAD_LETTER_TYPE = "dead_letter.v1"

OPEN_TIMEOUT_S = 15.0

#: How the names of the live lane's queues end.
_LIVE = f".{LIVE}"

#: How often, and how soon, what an author sends is sent again when the connection was lost under it.
SEND_AGAIN_TRIES = 3
SEND_AGAIN_MS = 200


class RabbitBroker(Transport):
    """`amqp_url` names one node or several, separated by commas; `name` shows in the server's list of connections."""

    def __init__(
        self,
        amqp_url: str,
        *,
        prefix: str = "tieout",
        name: str = "tieout",
        prefetch: Mapping[str, int] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(prefetch=prefetch, **options)
        self.prefix = prefix
        self._name = name
        nodes = nodes_of(amqp_url)
        self._vhost = nodes[0].virtual_host
        self._publisher = ConfirmedPublisher(f"{name} publish")
        self._publishing = AmqpConnection(
            nodes, f"{name} publish", on_open=self._on_open, on_change=self._publisher.changed
        )
        self._control = Control(prefix, self._publisher)
        self._roll = Roll(self._control, self._consumed)
        self._consuming = AmqpConnection(nodes, f"{name} consume", on_open=self._roll.take_seat_again)
        self._subscriptions: dict[LaneConsumer, Subscription] = {}
        self._archiving: list[DeadConsumer] = []

    @property
    def topology(self) -> Topology:
        return Topology(self.prefix, tuple(sorted(self.queues)))

    @property
    def blocked(self) -> str:
        return self._publishing.blocked

    @property
    def server_version(self) -> str:
        return self._publishing.server_version

    async def open(self, timeout_s: float = OPEN_TIMEOUT_S) -> None:
        """Connect and declare the topology of every queue known so far.

        Raises:
          BrokerUnreachable, AccessRefused, TopologyMismatch: each says what to do.
        """
        await super().open()
        try:
            await self._publishing.open(timeout_s)
            await self._consuming.open(timeout_s)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        for consumer in tuple(self.consumers):
            await self.detach(consumer)
        await super().aclose()
        await self._roll.aclose()
        await self._publisher.aclose()
        await self._consuming.aclose()
        await self._publishing.aclose()

    async def _on_open(self, connection: AmqpConnection) -> None:
        await self._declare(connection)
        await self._publisher.start(connection)

    async def _declare(self, connection: AmqpConnection) -> None:
        await declare(connection, self.topology, self._vhost)

    # Publishing

    def put(self, messages: Sequence[Outgoing]) -> asyncio.Future[None]:
        """Send all, then wait for the confirms of all.

        Raises:
          NotConfirmed: at least one was not confirmed.
        """
        if len(messages) == 1:
            return self._send(messages[0])
        return asyncio.ensure_future(self._put_all(messages))

    async def _put_one(self, outgoing: Outgoing) -> None:
        """What an author sends outlives a lost connection, and a queue that was removed or declared late."""
        for pause_s in islice(pauses_s(SEND_AGAIN_MS, SEND_AGAIN_MS), SEND_AGAIN_TRIES):
            try:
                return await super()._put_one(outgoing)
            except Unroutable:
                if outgoing.queue not in self.queues:
                    raise
                await self._declare(self._publishing)
            except ConfirmLost:
                await asyncio.sleep(pause_s)
        await super()._put_one(outgoing)

    async def _put_all(self, messages: Sequence[Outgoing]) -> None:
        confirms = []
        for message in messages:
            await self._publisher.has_room()
            confirms.append(self._send(message))
        for confirm in confirms:
            await confirm

    def _send(self, message: Outgoing) -> asyncio.Future[None]:
        exchange, headers = f"{self.prefix}.work", own_headers(message.headers)
        headers.pop(DUE, None)
        if message.delay_ms:
            tier = tier_for(message.delay_ms)
            exchange = f"{self.prefix}.retry.{tier.name}"
            if message.delay_ms - tier.delay_ms >= DUE_SLACK_MS:
                headers[DUE] = int(time.time() * 1000) + message.delay_ms
        return self._publisher.send(exchange, message.queue, message.body, self._properties(message, headers))

    async def put_dead(self, letters: Sequence[DeadLetter]) -> None:
        """Publish to the dead-letter exchange, where a team may have bound a queue of its own.

        Raises:
          NotConfirmed: at least one was not confirmed.
        """
        confirms = []
        for letter in letters:
            properties = pika.BasicProperties(
                message_id=letter.id,
                type=DEAD_LETTER_TYPE,
                content_type="application/json",
                timestamp=int(time.time()),
                correlation_id=letter.correlationid,
                app_id=self._name,
                delivery_mode=2,
                headers={"document-type": letter.document_type, "source": letter.source, "lane": letter.lane},
            )
            body = msgspec.json.encode(letter)
            await self._publisher.has_room()
            confirms.append(self._publisher.send(f"{self.prefix}.dead", letter.routing_key, body, properties))
        for confirm in confirms:
            await confirm
        self.counts.dead_published += len(letters)

    def _properties(self, message: Outgoing, headers: dict[str, Any]) -> pika.BasicProperties:
        return pika.BasicProperties(
            message_id=message.message_id,
            type=message.type,
            content_type="application/json",
            timestamp=int(time.time()),
            correlation_id=message.correlation_id,
            app_id=self._name,
            delivery_mode=2,
            headers=headers,
        )

    async def listen(self) -> None:
        await self._roll.listen(self._consuming)

    @property
    def live_at_work(self) -> bool:
        return self._roll.precedence.live_at_work

    async def alarm(self) -> str:
        """Ask the server.

        Raises:
          ConnectionLost: the connection went away.
        """
        return await current_alarm(self._publishing)

    async def has_room(self) -> None:
        """RabbitMQ keeps what waits, and confirms slow publishing down; an alarm is waited out."""
        await self._publishing.flowing()

    # Consuming

    async def attach(self, consumer: LaneConsumer) -> None:
        await self._roll.join(self._consuming)
        if consumer.closed:
            return
        self._roll.hands[consumer] = {}
        self._subscriptions[consumer] = Subscription(
            self._consuming,
            f"{self.prefix}.{consumer.queue_name}",
            consumer.prefetch,
            partial(self._received, consumer),
            partial(self._declare, self._consuming),
            partial(self._begin_epoch, consumer),
        )

    def _begin_epoch(self, consumer: LaneConsumer, epoch: int) -> None:
        self._roll.lost(consumer)
        consumer.begin_epoch(epoch)

    def _consumed(self) -> list[str]:
        """The queues that the server should know us as a consumer of, one by one."""
        working = [one.queue_name for one in self._subscriptions if not (one.draining or one.closed)]
        return working + ["dead"] * len(self._archiving)

    def feeds(self, consumer: LaneConsumer) -> bool:
        subscription = self._subscriptions.get(consumer)
        return subscription is not None and subscription.consuming

    async def cancel(self, consumer: LaneConsumer) -> None:
        if subscription := self._subscriptions.get(consumer):
            await subscription.cancel()

    async def detach(self, consumer: LaneConsumer) -> None:
        consumer.closed = True
        if consumer in self.consumers:
            self.consumers.remove(consumer)
        if subscription := self._subscriptions.get(consumer):
            await subscription.close()
            del self._subscriptions[consumer], self._roll.hands[consumer]

    def _received(self, consumer: LaneConsumer, epoch: int, method: Any, properties: Any, body: bytes) -> None:
        origin = Outgoing(
            queue=consumer.queue_name,
            body=body,
            message_id=properties.message_id or "",
            type=properties.type,
            correlation_id=properties.correlation_id,
            headers=properties.headers or {},
        )
        if origin.type == MARKER_TYPE:
            acknowledge = partial(self._subscriptions[consumer].acknowledge, epoch, method.delivery_tag)
            self._roll.marker_arrived(origin, acknowledge)
            return
        if origin.queue.endswith(_LIVE):
            self._roll.precedence.live_arrived()
        self._roll.hands[consumer][method.delivery_tag] = origin
        self._arrived(consumer, epoch, method.delivery_tag, origin, method.redelivered)

    def _acknowledge(self, delivery: Delivery) -> None:
        self._roll.hands[delivery.consumer].pop(delivery.tag, None)
        self._subscriptions[delivery.consumer].acknowledge(delivery.epoch, delivery.tag)

    def _reject(self, consumer: LaneConsumer, epoch: int, tag: int, origin: Outgoing) -> None:
        self._let_go(consumer, tag, origin)
        self._subscriptions[consumer].reject(epoch, tag)

    def _return(self, delivery: Delivery) -> None:
        self._let_go(delivery.consumer, delivery.tag, delivery.origin)
        self._subscriptions[delivery.consumer].put_back(delivery.epoch, delivery.tag)

    async def _put_back(self, delivery: Delivery, outgoing: Outgoing) -> None:
        self._roll.put_back(delivery.origin)
        await super()._put_back(delivery, outgoing)
        # Again: it may have been held here for long, and is on its way only now.
        self._roll.put_back(delivery.origin)

    def _let_go(self, consumer: LaneConsumer, tag: int, origin: Outgoing) -> None:
        self._roll.put_back(origin)
        self._roll.hands[consumer].pop(tag, None)

    async def receive_dead(self, receive: Callable[[DeadDelivery], None], prefetch: int) -> Callable[[], Any]:
        await self._roll.join(self._consuming)
        redeclare = partial(self._declare, self._consuming)
        consumer = DeadConsumer(self._consuming, f"{self.prefix}.dead", prefetch, self._roll, receive, redeclare)
        self._archiving.append(consumer)

        async def end() -> None:
            self._archiving.remove(consumer)
            await consumer.close()

        return end

    # Looking

    async def search(self, queues: Collection[str]) -> BrokerSearch:
        """Begin to look for what is in these work queues, in the hands of workers, or on its way back to either."""
        search = BrokerSearch(self._control, queues, self.depths, self._put_all)
        await search.open(self._consuming)
        return search

    async def depths(self) -> dict[str, Depth]:
        """Ask the server for every queue of ours; one that is missing is left out.

        Raises:
          ConnectionLost: the connection went away.
        """
        depths: dict[str, Depth] = {}
        channel: AmqpChannel | None = None
        for queue in self.topology.queues:
            if channel is None or not channel.is_open:
                # Not the publishing one: while that is blocked, the server doesn't read it.
                channel = await self._consuming.channel()
            try:
                answer = await channel.call("queue_declare", queue=queue.name, passive=True)
            except ConnectionLost as error:
                reason = error.__cause__
                if not (isinstance(reason, ChannelClosedByBroker) and reason.reply_code == NOT_FOUND):
                    raise
            else:
                depths[queue.short] = Depth(answer.method.message_count, answer.method.consumer_count)
        if channel is not None:
            await channel.close()
        return depths
