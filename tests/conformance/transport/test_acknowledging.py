"""Acknowledgements travel together and messages in pieces: neither may change which message is done."""

import asyncio
import random
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from broker.connection import AmqpConnection, nodes_of
from broker.delivery import DeliveryInfo
from broker.embedded import EmbeddedBroker
from broker.subscription import Subscription
from contracts.envelope import BULK, Batch
from pipeline.codes import UNEXPECTED_ERROR
from pipeline.errors import PermanentError
from pipeline.ports import Message
from tests.conformance.transport.conftest import Rig, a_batch, a_message, subject_of, until


class Held:
    """Holds every message until the test lets it go, by the number it was sent with."""

    def __init__(self) -> None:
        self.completions: dict[str, Future[None]] = {}

    def handle(self, stage: str, body: bytes, info: DeliveryInfo) -> Future[None]:
        completion: Future[None] = Future()
        self.completions[subject_of(body)] = completion
        return completion


async def test_messages_settled_out_of_order_leave_exactly_the_others(rig: Rig) -> None:
    held = Held()
    await rig.open(held.handle)
    await rig.publisher.publish([a_message(number) for number in range(40)])
    await until(lambda: len(held.completions) == 40)
    settled = random.Random(3).sample(range(40), 25)
    for number in settled:
        held.completions[str(number)].set_result(None)
    await until(lambda: rig.broker.counts.acknowledged == 25)
    await rig.stop(grace_ms=0)
    await rig.ready("first.live", 15)

    held.completions.clear()
    rig.work()
    await until(lambda: len(held.completions) == 15)
    assert {int(subject) for subject in held.completions} == set(range(40)) - set(settled)


async def test_a_message_that_is_refused_amid_others_takes_none_of_them_along(rig: Rig) -> None:
    held = Held()
    await rig.open(held.handle)
    await rig.publisher.publish([a_message(number) for number in range(10)])
    await until(lambda: len(held.completions) == 10)
    held.completions["4"].set_exception(PermanentError(UNEXPECTED_ERROR, "no good"))
    for number in (5, 3, 0, 9):
        held.completions[str(number)].set_result(None)
    await until(lambda: (rig.broker.counts.acknowledged, rig.broker.counts.rejected) == (4, 1))
    await rig.stop(grace_ms=0)
    await rig.ready("first.live", 5)
    await rig.ready("dead", 1)


@pytest.mark.parametrize("piece_bytes", [7, 4093])
async def test_messages_arrive_whole_however_the_network_cuts_them_up(rabbit: Rig, piece_bytes: int) -> None:
    arrived: dict[str, bytes] = {}

    def handle(stage: str, body: bytes, info: DeliveryInfo) -> None:
        arrived[subject_of(body)] = msgspec.json.decode(body, type=Batch).items[0].body

    assert rabbit.proxy is not None
    rabbit.proxy.piece_bytes = piece_bytes
    texts = {str(number): "x" * (number * piece_bytes // 3) for number in range(60)} | {"large": "y" * 50 * piece_bytes}
    await rabbit.open(handle)
    await rabbit.publisher.publish([a_text(name, text) for name, text in texts.items()])
    await until(lambda: len(arrived) == len(texts))
    assert {name: msgspec.json.decode(body) for name, body in arrived.items()} == texts


def a_text(name: str, text: str) -> Message:
    batch = a_batch(name)
    item = msgspec.structs.replace(batch.items[0], body=msgspec.Raw(msgspec.json.encode(text)))
    return Message(stage="first", batch=msgspec.structs.replace(batch, items=(item,)))


@pytest.fixture
async def narrow() -> AsyncIterator[Rig]:
    """A transport that works on five records at a time."""
    rig = Rig(EmbeddedBroker(prefetch={BULK: 50}, records_max={BULK: 5}))
    yield rig
    await rig.stop(grace_ms=0)
    await rig.broker.aclose()


def of_records(name: str, count: int) -> Message:
    batch = a_batch(name, BULK)
    return Message(stage="first", batch=msgspec.structs.replace(batch, items=batch.items * count))


async def test_what_is_worked_on_is_bounded_by_records_not_messages(narrow: Rig) -> None:
    held = Held()
    await narrow.open(held.handle)
    await narrow.publisher.publish([of_records("two", 2), of_records("three", 3), of_records("one", 1)])
    await until(lambda: len(held.completions) == 2)
    held.completions["two"].set_result(None)
    await until(lambda: set(held.completions) == {"two", "three", "one"})
    for name in ("three", "one"):
        held.completions[name].set_result(None)
    await until(lambda: narrow.broker.counts.acknowledged == 3)


async def test_a_message_of_more_records_than_the_bound_is_worked_on_alone(narrow: Rig) -> None:
    held = Held()
    await narrow.open(held.handle)
    await narrow.publisher.publish([of_records("one", 1), of_records("nine", 9), of_records("two", 2)])
    await until(lambda: set(held.completions) == {"one"})
    held.completions["one"].set_result(None)
    await until(lambda: set(held.completions) == {"one", "nine"})
    held.completions["nine"].set_result(None)
    await until(lambda: set(held.completions) == {"one", "nine", "two"})
    held.completions["two"].set_result(None)
    await until(lambda: narrow.broker.counts.acknowledged == 3)


@asynccontextmanager
async def subscribed(rabbit: Rig, amqp_url: str) -> AsyncIterator[tuple[AmqpConnection, Subscription, list[Any]]]:
    """A subscription to first.live on a connection that is not open yet, and what it will be given."""
    received: list[Any] = []
    connection = AmqpConnection(nodes_of(amqp_url), "test subscriber")

    async def declare() -> None:
        raise AssertionError("the queue is there")

    queue = f"{rabbit.broker.prefix}.first.live"
    subscription = Subscription(connection, queue, 5, lambda *delivery: received.append(delivery), declare)
    try:
        yield connection, subscription, received
    finally:
        await subscription.close()
        await connection.aclose()


async def test_a_subscription_that_is_cancelled_before_it_consumes_never_does(rabbit: Rig, amqp_url: str) -> None:
    await rabbit.open(lambda stage, body, info: None, work=False)
    await rabbit.publisher.publish([a_message(1)])
    async with subscribed(rabbit, amqp_url) as (connection, subscription, received):
        await asyncio.sleep(0)  # it has begun, and waits for the connection
        await subscription.cancel()
        await connection.open(timeout_s=10)
        await until(lambda: subscription._task.done())
        depth = (await rabbit.broker.depths())["first.live"]
        assert (depth.ready, depth.consumers, received) == (1, 0, [])
