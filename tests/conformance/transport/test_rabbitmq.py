"""What only a server can do to us: go away, refuse, block, and disagree about the topology."""

import asyncio

import pika
import pytest

from broker.connection import AccessRefused, AmqpConnection, BrokerUnreachable, nodes_of
from broker.delivery import DeliveryInfo, own_headers
from broker.rabbitmq import RabbitBroker
from broker.topology import TIERS, TopologyMismatch
from pipeline.errors import TransientError
from tests.conformance.transport.conftest import Rig, a_message, until


async def test_messages_have_properties_that_anybody_can_read(rabbit: Rig, amqp_url: str) -> None:
    await rabbit.open(lambda stage, body, info: None, work=False)
    await rabbit.publisher.publish([a_message(1)])
    connection = AmqpConnection(nodes_of(amqp_url), "test reader")
    await connection.open(timeout_s=10)
    channel = await connection.channel()
    got: asyncio.Future[tuple[object, object, object]] = asyncio.get_running_loop().create_future()
    channel.raw.basic_get(
        f"{rabbit.broker.topology.prefix}.first.live",
        callback=lambda _, method, properties, body: got.set_result((method, properties, body)),
    )
    method, properties, _ = await got
    channel.raw.basic_nack(method.delivery_tag)
    await connection.aclose()
    assert method.routing_key == "first.live"
    assert (properties.message_id, properties.type, properties.correlation_id) == ("message-1", "time_entry.v1", "c-1")
    assert (properties.content_type, properties.delivery_mode, properties.app_id) == ("application/json", 2, "tieout")
    assert properties.timestamp
    assert own_headers(properties.headers) == {"source": "psa", "records": 1, "attempt": 1}


async def test_publishing_waits_for_the_server_to_come_back(rabbit: Rig) -> None:
    await rabbit.open(lambda stage, body, info: None)
    assert rabbit.proxy is not None
    await rabbit.proxy.stop()
    await until(lambda: not rabbit.broker._publishing.is_open)
    publishing = asyncio.ensure_future(rabbit.publisher.publish([a_message(1)]))
    await asyncio.sleep(0.2)
    assert not publishing.done()
    await rabbit.proxy.start()
    await publishing
    await until(lambda: rabbit.broker.counts.acknowledged == 1)


async def test_an_unconfirmed_publish_fails_when_the_connection_is_lost(rabbit: Rig) -> None:
    await rabbit.open(lambda stage, body, info: None, work=False)
    assert rabbit.proxy is not None
    publishing = asyncio.ensure_future(rabbit.publisher.publish([a_message(number) for number in range(500)]))
    await until(lambda: rabbit.broker._publisher._unconfirmed)
    rabbit.proxy.cut()
    with pytest.raises(TransientError, match="lost"):
        await publishing


async def test_the_next_node_of_a_cluster_is_tried(amqp_url: str, prefix: str) -> None:
    connection = AmqpConnection(nodes_of(f"amqp://guest:guest@127.0.0.1:1/,{amqp_url}"), "test cluster")
    await connection.open(timeout_s=10)
    assert connection.server_version
    await connection.aclose()


async def test_no_server_at_all_is_one_clear_error_without_the_password() -> None:
    broker = RabbitBroker("amqp://someone:secret@127.0.0.1:1/")
    with pytest.raises(BrokerUnreachable, match=r"no RabbitMQ at 127\.0\.0\.1:1") as caught:
        await broker.open(timeout_s=0.5)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["amqp://guest:wrong@127.0.0.1:{port}/", "amqp://guest:guest@127.0.0.1:{port}/nowhere"])
async def test_a_wrong_password_or_virtual_host_is_not_tried_again(url: str, amqp_url: str) -> None:
    (node,) = nodes_of(amqp_url)
    broker = RabbitBroker(url.format(port=node.port))
    with pytest.raises(AccessRefused, match="refuses"):
        await broker.open(timeout_s=30)


async def test_a_queue_with_other_arguments_is_one_clear_error_with_its_repair(rabbit: Rig, amqp_url: str) -> None:
    connection = AmqpConnection(nodes_of(amqp_url), "test meddler")
    await connection.open(timeout_s=10)
    channel = await connection.channel()
    rabbit.broker.declare_queue("first.live")
    name = rabbit.broker.topology.work_queue("first.live").name
    await channel.call("queue_declare", queue=name, durable=True, arguments={"x-queue-type": "quorum"})
    with pytest.raises(TopologyMismatch, match=f"rabbitmqctl delete_queue -p / --if-empty {name}"):
        await rabbit.broker.open()
    await connection.aclose()


async def test_declaring_twice_changes_nothing(rabbit: Rig, amqp_url: str) -> None:
    await rabbit.open(lambda stage, body, info: None, work=False)
    again = RabbitBroker(amqp_url, prefix=rabbit.broker.prefix)
    for queue in rabbit.broker.queues:
        again.declare_queue(queue)
    await again.open()
    await again.aclose()


async def test_an_exchange_that_was_removed_is_declared_again(rabbit: Rig, amqp_url: str) -> None:
    await rabbit.open(lambda stage, body, info: None, work=False)
    connection = AmqpConnection(nodes_of(amqp_url), "test meddler")
    await connection.open(timeout_s=10)
    channel = await connection.channel()
    await channel.call("exchange_delete", exchange=rabbit.broker.topology.work)
    await connection.aclose()
    with pytest.raises(TransientError, match="no exchange"):
        await rabbit.publisher.publish([a_message(1)])
    await rabbit.publisher.publish([a_message(2)])
    assert (await rabbit.broker.depths())["first.live"].ready == 1


async def test_a_queue_that_was_removed_is_consumed_again(rabbit: Rig, amqp_url: str) -> None:
    await rabbit.open(lambda stage, body, info: None)
    await rabbit.publisher.publish([a_message(1)])
    await until(lambda: rabbit.broker.counts.acknowledged == 1)
    connection = AmqpConnection(nodes_of(amqp_url), "test meddler")
    await connection.open(timeout_s=10)
    channel = await connection.channel()
    await channel.call("queue_delete", queue=rabbit.broker.topology.work_queue("first.live").name)
    await connection.aclose()
    await rabbit.consumed("first.live")  # and so bound again, which is done before
    await rabbit.publisher.publish([a_message(2)])
    await until(lambda: rabbit.broker.counts.acknowledged == 2)


async def test_depths_count_what_is_ready_and_who_consumes(rabbit: Rig) -> None:
    await rabbit.open(lambda stage, body, info: None, work=False)
    await rabbit.publisher.publish([a_message(1), a_message(2), a_message(3, delay_ms=30_000)])
    depths = await rabbit.broker.depths()
    assert depths["first.live"] == (2, 0)
    assert depths["retry.30s"] == (1, 0)
    assert depths["dead"] == (0, 0)
    rabbit.work()
    await until(lambda: rabbit.broker.counts.acknowledged == 2)
    assert (await rabbit.broker.depths())["first.live"] == (0, 1)


async def test_a_message_that_cannot_be_put_back_returns_to_its_queue(rabbit: Rig, amqp_url: str) -> None:
    seen: list[tuple[int, bool]] = []

    def handle(stage: str, body: bytes, info: DeliveryInfo) -> None:
        seen.append((info.requeues, info.redelivered))
        if len(seen) == 1:
            raise TransientError("the database is away")

    await rabbit.open(handle)
    connection = AmqpConnection(nodes_of(amqp_url), "test meddler")
    await connection.open(timeout_s=10)
    channel = await connection.channel()
    await channel.call("queue_delete", queue=rabbit.broker.topology.retry_queue(TIERS[0]).name)
    await connection.aclose()
    await rabbit.publisher.publish([a_message(1)])
    await until(lambda: rabbit.broker.counts.acknowledged == 1)
    assert seen == [(0, False), (0, True)]


async def test_publishing_waits_while_the_server_is_blocked(rabbit: Rig) -> None:
    await rabbit.open(lambda stage, body, info: None, work=False)
    assert rabbit.proxy is not None
    rabbit.proxy.say(pika.frame.Method(0, pika.spec.Connection.Blocked("low on memory")).marshal())
    await until(lambda: rabbit.broker.blocked)
    publishing = asyncio.ensure_future(rabbit.publisher.publish([a_message(1)]))
    await asyncio.sleep(0.2)
    assert not publishing.done()
    assert (await rabbit.broker.depths())["first.live"].ready == 0
    rabbit.proxy.say(pika.frame.Method(0, pika.spec.Connection.Unblocked()).marshal())
    await publishing
    assert not rabbit.broker.blocked
    assert (await rabbit.broker.depths())["first.live"].ready == 1
