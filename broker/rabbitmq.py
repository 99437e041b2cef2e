"""RabbitBroker: Dramatiq on RabbitMQ, with one connection to publish and one to consume, both on the event loop."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import pika
from pika.exceptions import ChannelClosedByBroker

from broker.connection import AmqpChannel, AmqpConnection, ConnectionLost, nodes_of
from broker.consumer import LaneConsumer
from broker.declaring import declare
from broker.delivery import DUE, DeadDelivery, Delivery, Outgoing, own_headers
from broker.gauges import Depth
from broker.publishing import ConfirmedPublisher
from broker.subscription import NOT_FOUND, Subscription
from broker.topology import Topology, tier_for
from broker.transport import DUE_SLACK_MS, Transport
from contracts.failure import DeadLetter

#: The AMQP type of a dead letter that we have published ourselves.
DEAD_LETTER_TYPE = "dead_letter.v1"

OPEN_TIMEOUT_S = 15.0


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
        self._consuming = AmqpConnection(nodes, f"{name} consume")
        self._subscriptions: dict[LaneConsumer, Subscription] = {}

    @property
    def topology(self) -> Topology:
        return Topology(self.prefix, tuple(sorted(self.queues)))

    @property
    def blocked(self) -> bool:
        """The server has an alarm (memory, disk) and takes no publishes."""
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
        await self._publisher.aclose()
        await self._consuming.aclose()
        await self._publishing.aclose()

    async def _on_open(self, connection: AmqpConnection) -> None:
        await self._declare(connection)
        await self._publisher.start(connection)

    async def _declare(self, connection: AmqpConnection) -> None:
        await declare(connection, self.topology, self._vhost)

    # Publishing

    async def put(self, messages: Sequence[Outgoing]) -> None:
        """Send all, then wait for the confirms of all.

        Raises:
          NotConfirmed: at least one was not confirmed.
        """
        confirms = [await self._send(message) for message in messages]
        for confirm in confirms:
            await confirm

    async def _send(self, message: Outgoing) -> asyncio.Future[None]:
        exchange, headers = f"{self.prefix}.work", own_headers(message.headers)
        headers.pop(DUE, None)
        if message.delay_ms:
            tier = tier_for(message.delay_ms)
            exchange = f"{self.prefix}.retry.{tier.name}"
            if message.delay_ms - tier.delay_ms >= DUE_SLACK_MS:
                headers[DUE] = int(time.time() * 1000) + message.delay_ms
        return await self._publisher.send(exchange, message.queue, message.body, self._properties(message, headers))

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
            confirms.append(await self._publisher.send(f"{self.prefix}.dead", letter.routing_key, body, properties))
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

    async def has_room(self) -> None:
        """Always: RabbitMQ keeps what waits, and publishing slows down by its confirms."""

    # Consuming

    async def attach(self, consumer: LaneConsumer) -> None:
        if consumer.closed:
            return
        self._subscriptions[consumer] = Subscription(
            self._consuming,
            f"{self.prefix}.{consumer.queue_name}",
            consumer.prefetch,
            partial(self._received, consumer),
            partial(self._declare, self._consuming),
            consumer.begin_epoch,
        )

    async def cancel(self, consumer: LaneConsumer) -> None:
        if subscription := self._subscriptions.get(consumer):
            await subscription.cancel()

    async def detach(self, consumer: LaneConsumer) -> None:
        consumer.closed = True
        if consumer in self.consumers:
            self.consumers.remove(consumer)
        if subscription := self._subscriptions.get(consumer):
            await subscription.close()
            del self._subscriptions[consumer]

    def _received(self, consumer: LaneConsumer, epoch: int, method: Any, properties: Any, body: bytes) -> None:
        origin = Outgoing(
            queue=consumer.queue_name,
            body=body,
            message_id=properties.message_id or "",
            type=properties.type,
            correlation_id=properties.correlation_id,
            headers=properties.headers or {},
        )
        self._arrived(consumer, epoch, method.delivery_tag, origin, method.redelivered)

    def _acknowledge(self, delivery: Delivery) -> None:
        self._subscriptions[delivery.consumer].acknowledge(delivery.epoch, delivery.tag)

    def _reject(self, consumer: LaneConsumer, epoch: int, tag: int, origin: Outgoing) -> None:
        self._subscriptions[consumer].reject(epoch, tag)

    def _return(self, delivery: Delivery) -> None:
        self._subscriptions[delivery.consumer].put_back(delivery.epoch, delivery.tag)

    async def receive_dead(self, receive: Callable[[DeadDelivery], None], prefetch: int) -> Callable[[], Any]:
        def received(epoch: int, method: Any, properties: Any, body: bytes) -> None:
            receive(
                DeadDelivery(
                    body=body,
                    headers=properties.headers or {},
                    routing_key=method.routing_key,
                    message_id=properties.message_id,
                    type=properties.type,
                    acknowledge=lambda: subscription.acknowledge(epoch, method.delivery_tag),
                    lost=lambda: epoch != subscription.epoch,
                )
            )

        redeclare = partial(self._declare, self._consuming)
        subscription = Subscription(self._consuming, f"{self.prefix}.dead", prefetch, received, redeclare)
        return subscription.close

    # Looking

    async def depths(self) -> dict[str, Depth]:
        """Ask the server for every queue of ours; one that is missing is left out.

        Raises:
          ConnectionLost: the connection went away.
        """
        depths: dict[str, Depth] = {}
        channel: AmqpChannel | None = None
        for queue in self.topology.queues:
            if channel is None or not channel.is_open:
                channel = await self._publishing.channel()
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
