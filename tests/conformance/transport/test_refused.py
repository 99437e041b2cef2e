"""What a full queue does to us: the server answers `basic.nack`, and nobody loses anything."""

import asyncio

import pika
import pytest

from broker import publishing
from broker.delivery import Begin, DeliveryInfo, NotConfirmed
from tests.conformance.transport.conftest import Rig, a_message, subject_of, until


def a_full_queue(rabbit: Rig, amqp_url: str, key: str) -> str:
    """Bind a queue that takes nothing more beside the stage's own: one that refuses is enough for a nack."""
    topology = rabbit.broker.topology
    queue = f"{topology.prefix}.full"
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue, durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        channel.basic_publish("", queue, b"first come", mandatory=True)
        channel.queue_bind(queue, topology.work, key)
    return queue


def delete(amqp_url: str, queue: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        connection.channel().queue_delete(queue)


async def test_a_message_that_the_server_refuses_is_not_confirmed(rabbit: Rig, amqp_url: str) -> None:
    await rabbit.open(lambda stage, body, info: None, work=False)
    queue = a_full_queue(rabbit, amqp_url, "first.live")
    try:
        with pytest.raises(NotConfirmed, match="refused"):
            await rabbit.publisher.publish([a_message(1)])
        # The others of the same call are: each has its own answer.
        with pytest.raises(NotConfirmed, match="refused"):
            await rabbit.publisher.publish([a_message(2), a_message(3, stage="second")])
        await rabbit.ready("second.live", 1)
    finally:
        delete(amqp_url, queue)
    await rabbit.publisher.publish([a_message(4)])


async def test_a_refusal_makes_us_ask_anew_and_costs_the_others_nothing(
    rabbit: Rig, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cluster, a channel may ask a dead leader for ever, and be refused; a full queue looks the same."""
    monkeypatch.setattr(publishing, "RENEW_S", 0.0)
    await rabbit.open(lambda stage, body, info: None, work=False)
    queue = a_full_queue(rabbit, amqp_url, "first.live")
    publisher = rabbit.broker._publisher
    before = publisher._channel
    others: list[asyncio.Future[None]] = []
    refusals = 0

    async def publish_others() -> None:
        while refusals < 10:
            others.append(asyncio.ensure_future(rabbit.publisher.publish([a_message(len(others), "second")])))
            await asyncio.sleep(0.001)

    try:
        publishing_others = asyncio.create_task(publish_others())
        while refusals < 10:
            with pytest.raises(NotConfirmed, match="refused"):
                await rabbit.publisher.publish([a_message("refused")])
            refusals += 1
        await publishing_others
        await asyncio.gather(*others)
        await until(lambda: publisher._renewing is None)
        assert publisher._channel is not before
        assert before.raw.is_closed
        assert rabbit.broker._publishing.reconnects == 0
    finally:
        delete(amqp_url, queue)
    await rabbit.publisher.publish([a_message("taken", "third")])
    depths = await rabbit.broker.depths()
    assert (depths["second.live"].ready, depths["third.live"].ready) == (len(others), 1)


async def test_a_message_whose_next_one_is_refused_is_put_back_until_it_is_taken(rabbit: Rig, amqp_url: str) -> None:
    refused: list[int] = []
    ended: list[str] = []

    def handle(stage: str, body: bytes, info: DeliveryInfo) -> Begin | None:
        if stage == "first":
            refused.append(info.requeues)
            onward = a_message(subject_of(body), stage="second")
            return lambda: [asyncio.ensure_future(rabbit.publisher.publish([onward]))]
        ended.append(subject_of(body))
        return None

    await rabbit.open(handle)
    queue = a_full_queue(rabbit, amqp_url, "second.live")
    try:
        await rabbit.publisher.publish([a_message(1)])
        await until(lambda: rabbit.broker.counts.requeued >= 1)
    finally:
        delete(amqp_url, queue)
    await until(lambda: refused[-1] > 0 and rabbit.broker.counts.acknowledged >= 2)
    await rabbit.at_rest()
    assert set(ended) == {"1"}
