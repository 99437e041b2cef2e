"""Both transports, each behind the same few words, so that one suite holds for both."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit, urlunsplit

import msgspec
import pytest

from broker.binding import BrokerPublisher, bind
from broker.connection import AmqpConnection, nodes_of
from broker.delivery import DeliveryInfo
from broker.embedded import EmbeddedBroker
from broker.rabbitmq import RabbitBroker
from broker.transport import Transport
from broker.worker import WorkerGroup
from contracts.envelope import LANES, LIVE, Batch, Envelope, Item
from pipeline.ports import Message
from pipeline.stage import Stage
from tests.conformance.transport.proxy import Proxy

Handle = Callable[[str, bytes, DeliveryInfo], Future[None] | None]

STAGES = ("first", "second", "third")
PREFETCH = {"live": 64, "bulk": 8}


def a_batch(number: int | str, lane: str = LIVE) -> Batch:
    """A batch of one, told apart by `number`."""
    envelope = Envelope(id=f"message-{number}", source="psa", type="time_entry.v1", time=datetime.now(UTC), lane=lane)
    body = msgspec.Raw(msgspec.json.encode({"number": number}))
    item = Item(id=f"record-{number}", subject=str(number), revision="1", correlationid=f"c-{number}", body=body)
    return Batch(envelope=envelope, items=(item,))


def a_message(number: int | str, stage: str = "first", delay_ms: int | None = None, lane: str = LIVE) -> Message:
    return Message(stage=stage, batch=a_batch(number, lane), delay_ms=delay_ms)


def subject_of(body: bytes) -> str:
    return msgspec.json.decode(body, type=Batch).items[0].subject


async def until(condition: Callable[[], object], timeout_s: float = 30) -> None:
    """Wait for the condition; the time limit only ends a test that fails."""
    async with asyncio.timeout(timeout_s):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


def a_stage(name: str) -> Stage:
    return Stage(name=name, consumes=None, emits=None, handle=lambda record, context: None, waits=False)


class Rig:
    """A transport under test: a broker, its workers, and what can happen to them."""

    def __init__(self, broker: Transport, proxy: Proxy | None = None) -> None:
        self.broker = broker
        self.proxy = proxy
        self.group: WorkerGroup | None = None

    @property
    def publisher(self) -> BrokerPublisher:
        return BrokerPublisher(self.broker)

    async def open(self, handle: Handle, stages: Iterable[str] = STAGES, *, work: bool = True) -> None:
        bind(self.broker, [a_stage(name) for name in stages], handle)
        await self.broker.open()
        if work:
            self.work()

    def work(self, threads: int = 4) -> None:
        self.group = WorkerGroup(self.broker, LANES, dict.fromkeys(LANES, threads))
        self.group.start()

    async def stop(self, grace_ms: int = 5_000) -> None:
        if self.group is not None:
            await self.group.stop(grace_ms)
            self.group = None

    async def lose_channels(self) -> None:
        """What the workers hold goes to somebody else: the network breaks, or (embedded) they stop at once."""
        if self.proxy is not None:
            self.proxy.cut()
        else:
            await self.stop(grace_ms=0)
            self.work()

    async def ready(self, queue: str, count: int) -> None:
        """Wait until the queue holds so many messages that no worker has."""
        async with asyncio.timeout(30):
            while True:
                depth = (await self.broker.depths()).get(queue)
                if depth is not None and depth.ready == count:
                    return
                await asyncio.sleep(0.05)

    async def consumed(self, queue: str) -> None:
        """Wait until the queue is there and has a consumer."""
        async with asyncio.timeout(30):
            while True:
                depth = (await self.broker.depths()).get(queue)
                if depth is not None and depth.consumers:
                    return
                await asyncio.sleep(0.05)

    async def at_rest(self) -> None:
        """Wait until nothing is queued, delayed or being worked on; then stop, and nothing may have come back."""
        async with asyncio.timeout(30):
            while True:
                if not await self.busy():
                    break
                await asyncio.sleep(0.05)
        await self.stop()
        assert not await self.busy()

    async def busy(self) -> bool:
        depths = (await self.broker.depths()).values()
        return any(depth.ready for depth in depths) or any(one.started for one in self.broker.consumers)


@pytest.fixture
async def proxy(amqp_url: str) -> AsyncIterator[Proxy]:
    server = urlsplit(amqp_url)
    proxy = Proxy(server.hostname or "127.0.0.1", server.port or 5672)
    await proxy.start()
    yield proxy
    await proxy.stop()


async def remove(amqp_url: str, broker: RabbitBroker) -> None:
    """Delete everything the test has declared."""
    connection = AmqpConnection(nodes_of(amqp_url), "test clean-up")
    await connection.open(timeout_s=10)
    channel = await connection.channel()
    for queue in broker.topology.queues:
        await channel.call("queue_delete", queue=queue.name)
    for exchange in broker.topology.exchanges:
        await channel.call("exchange_delete", exchange=exchange.name)
    await connection.aclose()


@asynccontextmanager
async def rabbit_rig(amqp_url: str, prefix: str, proxy: Proxy) -> AsyncIterator[Rig]:
    server = urlsplit(amqp_url)
    address = f"{server.username}:{server.password}@127.0.0.1:{proxy.port}"
    url = urlunsplit(server._replace(netloc=address))
    rig = Rig(RabbitBroker(url, prefix=prefix, prefetch=PREFETCH), proxy)
    try:
        yield rig
    finally:
        await rig.stop(grace_ms=0)
        await rig.broker.aclose()
        await remove(amqp_url, rig.broker)


@asynccontextmanager
async def embedded_rig() -> AsyncIterator[Rig]:
    rig = Rig(EmbeddedBroker(prefetch=PREFETCH))
    try:
        yield rig
    finally:
        await rig.stop(grace_ms=0)
        await rig.broker.aclose()


@pytest.fixture(params=["embedded", "rabbitmq"])
async def rig(request: pytest.FixtureRequest, amqp_url: str, prefix: str, proxy: Proxy) -> AsyncIterator[Rig]:
    """Each transport in turn."""
    chosen = embedded_rig() if request.param == "embedded" else rabbit_rig(amqp_url, prefix, proxy)
    async with chosen as rig:
        yield rig


@pytest.fixture
async def rabbit(amqp_url: str, prefix: str, proxy: Proxy) -> AsyncIterator[Rig]:
    """RabbitMQ, for what only a server can do."""
    async with rabbit_rig(amqp_url, prefix, proxy) as rig:
        yield rig
