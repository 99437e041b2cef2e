"""A real memory alarm, on a RabbitMQ of our own: publishing stops, acknowledging does not, and whoever asks is told."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager

import pytest

from broker import publishing
from broker.alarms import current_alarm
from broker.connection import AmqpConnection, nodes_of
from broker.delivery import DeliveryInfo, NotConfirmed
from broker.rabbitmq import RabbitBroker
from contracts.envelope import LIVE
from ops.bootstrap import open_engine
from pipeline.messages import encode
from pipeline.settings import Settings
from store.outbox import OutboxRow
from tests.chaos.cluster import Node, running_cluster
from tests.conformance.transport.conftest import PREFETCH, Rig, a_batch, a_message, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

LOW = "low on memory"


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """A server of our own."""
    with running_cluster(1) as cluster:
        yield cluster.nodes[0]


@asynccontextmanager
async def alarm_on(node: Node) -> AsyncIterator[None]:
    """A memory alarm for the length of the block."""
    await asyncio.to_thread(node.control, "set_vm_memory_high_watermark", "0.000001")
    try:
        yield
    finally:
        await asyncio.to_thread(node.control, "set_vm_memory_high_watermark", "0.4")


@pytest.fixture
async def rig(node: Node, prefix: str) -> AsyncIterator[Rig]:
    rig = Rig(RabbitBroker(node.url, prefix=prefix, prefetch=PREFETCH))
    yield rig
    await rig.stop(grace_ms=0)
    await rig.broker.aclose()


async def test_under_an_alarm_publishing_waits_and_acknowledgements_flow(rig: Rig, node: Node) -> None:
    held: list[Future[None]] = []

    def handle(stage: str, body: bytes, info: DeliveryInfo) -> Future[None]:
        held.append(Future())
        return held[-1]

    await rig.open(handle)
    await rig.publisher.publish([a_message(number) for number in range(10)])
    await until(lambda: len(held) == 10)
    async with alarm_on(node):
        waiting = asyncio.ensure_future(rig.publisher.publish([a_message("during the alarm", stage="second")]))
        await until(lambda: rig.broker.blocked == LOW)
        room = asyncio.ensure_future(rig.broker.has_room())
        for one in held:
            one.set_result(None)
        await until(lambda: rig.broker.counts.acknowledged == 10)
        # The server has them: what it still held for us, it would now hand to the next consumer.
        await rig.stop()
        assert (await rig.broker.depths())["first.live"] == (0, 0)
        assert not waiting.done()
        assert not room.done()
    await waiting
    await room
    assert not rig.broker.blocked
    await rig.ready("second.live", 1)


async def test_what_lies_before_a_server_that_reads_nothing_is_not_given_up(
    rig: Rig, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "SWEEP_S", 0.05)
    await rig.open(lambda stage, body, info: None, work=False)
    async with alarm_on(node):
        # Nobody has told this connection of the alarm: it has published nothing yet.
        sent = asyncio.ensure_future(rig.publisher.publish([a_message(1)]))
        await until(lambda: rig.broker.blocked == LOW)
        (unconfirmed,) = rig.broker._publisher._unconfirmed.values()
        unconfirmed.deadline = 0.0
        await until(lambda: unconfirmed.deadline > 0 or sent.done())
        assert not sent.done()
    await sent
    await rig.ready("first.live", 1)


async def test_an_alarm_that_comes_up_while_more_is_brought_in_is_waited_out(
    node: Node, prefix: str, migrated_sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "WAIT_S", 0.05)
    monkeypatch.setattr(publishing, "UNCONFIRMED_MAX", 10)
    settings = Settings(database_url=migrated_sqlite_url, amqp_url=node.url, prefix=prefix)
    rows = [OutboxRow(stage="validate", lane=LIVE, records=1, body=encode(a_batch(number))) for number in range(100)]
    async with open_engine(settings) as engine:
        async with alarm_on(node):
            # There is room when it asks; the first messages find out that there is none, and the others can't be sent.
            bringing_in = asyncio.ensure_future(engine.publish_when_room(rows))
            await until(lambda: engine.broker.blocked == LOW)
            with pytest.raises(NotConfirmed, match=LOW):
                await engine.publish_outbox(rows[:1])
            assert not bringing_in.done()
        await bringing_in
        assert (await engine.depths())["validate.live"].ready >= len(rows)


async def test_whoever_publishes_nothing_finds_out_about_an_alarm(rig: Rig, node: Node) -> None:
    await rig.open(lambda stage, body, info: None, work=False)
    assert await rig.broker.alarm() == ""
    async with alarm_on(node):
        assert await rig.broker.alarm() == LOW
        assert await rig.broker.alarm() == LOW
        assert (await rig.broker.depths())["first.live"] == (0, 0)
    await until(lambda: not rig.broker.blocked)
    assert await rig.broker.alarm() == ""
    # Nothing that was asked has become a message, and publishing goes on.
    assert not any(depth.ready for depth in (await rig.broker.depths()).values())
    await rig.publisher.publish([a_message(1)])


async def test_a_blocked_connection_is_left_without_the_servers_goodbye(rig: Rig, node: Node) -> None:
    """A server that reads nothing answers nothing; a process that is told to stop must not wait for it."""
    async with alarm_on(node):
        connection = AmqpConnection(nodes_of(node.url), "test blocked")
        await connection.open(timeout_s=10)
        assert await current_alarm(connection) == LOW
        raw = connection._raw
        await connection.aclose()
        assert raw.is_closed
        assert not raw.is_closing


async def test_a_connection_opened_under_an_alarm_declares_and_consumes(rig: Rig, node: Node) -> None:
    seen: list[str] = []
    await rig.open(lambda stage, body, info: None, work=False)
    await rig.publisher.publish([a_message(1)])
    async with alarm_on(node):
        late = Rig(RabbitBroker(node.url, prefix=rig.broker.prefix, prefetch=PREFETCH))
        await late.open(lambda stage, body, info: seen.append(info.message_id))
        await until(lambda: late.broker.counts.acknowledged == 1)
        await late.stop()
        await late.broker.aclose()
    assert seen == ["message-1"]
