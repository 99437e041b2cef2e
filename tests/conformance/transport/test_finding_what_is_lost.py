"""Search: whatever is in a queue, in a worker's hands or on a tier is found there; what was purged is not."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pika
import pytest

from broker.binding import bind
from broker.connection import AmqpChannel, AmqpConnection, nodes_of
from broker.control import MARKER_TYPE, a_marker, parts_in
from broker.delivery import DeadDelivery, DeliveryInfo
from broker.embedded import EmbeddedBroker
from broker.encoding import encode_batch
from broker.rabbitmq import RabbitBroker
from broker.search import Search
from contracts.envelope import Batch
from pipeline.errors import TransientError
from tests.conformance.transport.conftest import PREFETCH, STAGES, Rig, a_message, a_stage, subject_of, until

QUEUES = ("first.live", "first.bulk")


class Gate:
    """Holds every message in its actor until it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.seen: list[str] = []

    def handle(self, stage: str, body: bytes, info: DeliveryInfo) -> None:
        self.seen.append(subject_of(body))
        assert self.open.wait(60)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


@asynccontextmanager
async def searching(rig: Rig, amqp_url: str) -> AsyncIterator[Search]:
    """From another process, as an operator would: with a broker of its own that consumes nothing."""
    if isinstance(rig.broker, EmbeddedBroker):
        yield await rig.broker.search(QUEUES)
        return
    other = RabbitBroker(amqp_url, prefix=rig.broker.prefix)
    bind(other, [a_stage(name) for name in STAGES], lambda stage, body, info: None)
    await other.open()
    try:
        search = await other.search(QUEUES)
        yield search
        await search.close()
    finally:
        await other.aclose()


@asynccontextmanager
async def meddling(amqp_url: str) -> AsyncIterator[AmqpChannel]:
    connection = AmqpConnection(nodes_of(amqp_url), "test meddler")
    await connection.open(timeout_s=10)
    yield await connection.channel()
    await connection.aclose()


def parts(*numbers: int) -> frozenset[tuple[str, str]]:
    return frozenset((f"record-{number}", "") for number in numbers)


async def test_what_a_worker_holds_is_found_prefetched_messages_included(rig: Rig, amqp_url: str, gate: Gate) -> None:
    await rig.open(gate.handle, work=False)
    rig.work(threads=1)
    await rig.publisher.publish([a_message(number) for number in range(5)])
    await until(lambda: gate.seen)
    await rig.ready("first.live", 0)
    async with searching(rig, amqp_url) as search:
        assert await search.finish(30)
        assert search.held == parts(0, 1, 2, 3, 4)
        assert not search.closed
        gate.open.set()


async def test_what_the_server_has_given_up_is_found_until_it_is_archived(rabbit: Rig, amqp_url: str) -> None:
    letters: list[DeadDelivery] = []
    await rabbit.open(lambda stage, body, info: None)
    end = await rabbit.broker.receive_dead(letters.append, 10)
    body = encode_batch("first.live", "first", a_message(1).batch)
    async with meddling(amqp_url) as channel:
        channel.raw.publish(f"{rabbit.broker.prefix}.dead", "first.live", pika.BasicProperties(), body)
        await until(lambda: letters)
    async with searching(rabbit, amqp_url) as search:
        assert await search.finish(30)
        assert search.held == parts(1)
    letters[0].acknowledge()
    async with searching(rabbit, amqp_url) as search:
        assert await search.finish(30)
        assert search.held == frozenset()
    await end()


async def test_what_is_done_is_held_no_more(rig: Rig, amqp_url: str, gate: Gate) -> None:
    gate.open.set()
    await rig.open(gate.handle)
    await rig.publisher.publish([a_message(number) for number in range(5)])
    await until(lambda: rig.broker.counts.acknowledged == 5)
    async with searching(rig, amqp_url) as search:
        assert await search.finish(30)
        assert search.held == frozenset()


async def test_what_waits_on_a_tier_to_be_tried_again_is_found(rig: Rig, amqp_url: str) -> None:
    def handle(stage: str, body: bytes, info: DeliveryInfo) -> None:
        raise TransientError("the database is away")

    await rig.open(handle)
    await rig.publisher.publish([a_message(1)])
    await until(lambda: rig.broker.counts.requeued)
    async with searching(rig, amqp_url) as search:
        assert await search.finish(60)
        assert search.held == parts(1)


async def test_the_search_waits_until_what_was_queued_before_has_come_out(
    rabbit: Rig, amqp_url: str, gate: Gate
) -> None:
    await rabbit.open(gate.handle, work=False)
    await rabbit.publisher.publish([a_message(number, lane="bulk") for number in range(20)])
    rabbit.work(threads=2)
    await rabbit.ready("first.bulk", 20 - PREFETCH["bulk"])
    async with searching(rabbit, amqp_url) as search:
        assert not await search.finish(0.5)
        assert "first.bulk" in search.hindrance
        gate.open.set()
        assert await search.finish(30)
    await rabbit.at_rest()
    assert sorted(gate.seen, key=int) == [str(number) for number in range(20)], "markers reach no actor"
    assert (await rabbit.broker.depths())["dead"].ready == 0


async def test_one_marker_is_under_way_however_often_the_search_goes_on(rabbit: Rig, amqp_url: str, gate: Gate) -> None:
    await rabbit.open(gate.handle, work=False)
    await rabbit.publisher.publish([a_message(number, lane="bulk") for number in range(20)])
    rabbit.work(threads=1)
    await rabbit.ready("first.bulk", 12)
    async with searching(rabbit, amqp_url) as search:
        for _ in range(4):
            assert not await search.finish(0.1)
        assert (await rabbit.broker.depths())["first.bulk"].ready == 13
        gate.open.set()


async def test_nothing_is_told_of_a_queue_with_messages_and_no_consumer(rabbit: Rig, amqp_url: str) -> None:
    await rabbit.open(lambda stage, body, info: None, work=False)
    await rabbit.publisher.publish([a_message(1)])
    async with searching(rabbit, amqp_url) as search:
        assert await search.finish(30)
        assert search.closed == {"first.live": "1 messages, no consumer: start a worker"}
        assert (await rabbit.broker.depths())["first.live"].ready == 1, "no marker for a queue that nobody takes from"


async def test_a_worker_that_does_not_answer_leaves_it_open(rabbit: Rig, amqp_url: str, gate: Gate) -> None:
    """A version from before there was a roll: it consumes, and that is all that is known of it."""
    gate.open.set()
    await rabbit.open(gate.handle, work=False)
    rabbit.broker._roll.join = _never
    rabbit.work()
    await until(lambda: rabbit.broker.consumers)
    async with searching(rabbit, amqp_url) as search:
        assert not await search.finish(1)
        assert "do not answer" in search.hindrance


async def _never(connection: Any) -> None:
    """Joins no roll."""


async def test_a_marker_is_harmless_to_a_worker_that_does_not_know_it(rig: Rig) -> None:
    handled: list[Batch] = []
    await rig.open(lambda stage, body, info: handled.append(msgspec.json.decode(body, type=Batch)))
    await rig.broker.put([msgspec.structs.replace(a_marker("first.live", "nobody"), type="something.v1")])
    await until(lambda: rig.broker.counts.acknowledged == 1)
    assert [batch.items for batch in handled] == [()]
    assert (await rig.broker.depths())["dead"].ready == 0


async def test_a_marker_that_comes_again_and_that_nobody_waits_for_just_goes(rabbit: Rig, amqp_url: str) -> None:
    handled: list[str] = []
    await rabbit.open(lambda stage, body, info: handled.append(stage), work=False)
    marker = a_marker("first.live", "nobody")
    assert marker.type == MARKER_TYPE
    await rabbit.broker.put([marker])
    async with meddling(amqp_url) as channel:
        # Taken and given back, as by a worker that dies.
        taken = asyncio.Event()
        channel.raw.basic_get(f"{rabbit.broker.prefix}.first.live", callback=lambda *_: taken.set())
        await taken.wait()
        await channel.close()
    await rabbit.ready("first.live", 1)
    rabbit.work()
    await rabbit.ready("first.live", 0)
    await rabbit.publisher.publish([a_message(1)])
    await until(lambda: handled)
    await rabbit.at_rest()
    assert handled == ["first"]
    assert (await rabbit.broker.depths())["dead"].ready == 0


async def test_after_a_lost_channel_the_search_begins_anew(rabbit: Rig, amqp_url: str, gate: Gate) -> None:
    await rabbit.open(gate.handle, work=False)
    await rabbit.publisher.publish([a_message(number, lane="bulk") for number in range(12)])
    rabbit.work(threads=1)
    await rabbit.ready("first.bulk", 4)
    async with searching(rabbit, amqp_url) as search:
        assert not await search.finish(0.2)
        before = search._workers
        await rabbit.lose_channels()
        await until(lambda: rabbit.broker._roll.losses)
        gate.open.set()
        assert await search.finish(60)
        assert search._workers != before, "it was begun anew"


async def test_messages_on_a_short_tier_that_nobody_remembers_are_waited_for(
    rabbit: Rig, amqp_url: str, gate: Gate
) -> None:
    """The worker that put it back has died since."""
    await rabbit.open(gate.handle)
    await rabbit.publisher.publish([a_message(1, delay_ms=1_000)])
    async with searching(rabbit, amqp_url) as search:
        assert await search.finish(30)
        assert search.held == parts(1)
        gate.open.set()


def test_parts_are_read_off_a_message_as_it_is_on_the_wire() -> None:
    assert parts_in(encode_batch("first.live", "first", a_message(7).batch)) == (("record-7", ""),)
    assert parts_in(a_marker("first.live", "nobody").body) == ()
    assert parts_in(b"no message") == ()
