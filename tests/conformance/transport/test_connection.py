"""Connections: nodes that are silent, vanish or refuse; servers that stop answering; TLS; and many that spread out."""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from broker import channel as channels
from broker import connection as connections
from broker.channel import ConnectionLost
from broker.connection import AccessRefused, AmqpConnection, BrokerUnreachable, nodes_of
from broker.delivery import DeliveryInfo
from tests.conformance.transport.conftest import Rig, a_message, until
from tests.conformance.transport.proxy import Proxy

TLS = Path(__file__).parent / "tls"


@pytest.fixture
def silent_node() -> Iterator[str]:
    """A node that lets clients connect and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"amqp://guest:guest@127.0.0.1:{listening.getsockname()[1]}/"


@pytest.fixture
async def three_ways(amqp_url: str) -> AsyncIterator[list[Proxy]]:
    """Three addresses, as a cluster has them, with one server behind."""
    server = urlsplit(amqp_url)
    proxies = [Proxy(server.hostname or "127.0.0.1", server.port or 5672) for _ in range(3)]
    for proxy in proxies:
        await proxy.start()
    yield proxies
    for proxy in proxies:
        await proxy.stop()


def cluster_url(proxies: list[Proxy], amqp_url: str) -> str:
    server = urlsplit(amqp_url)
    return ",".join(
        server._replace(netloc=f"{server.username}:{server.password}@127.0.0.1:{one.port}").geturl() for one in proxies
    )


@asynccontextmanager
async def connected(url: str, **options: object) -> AsyncIterator[AmqpConnection]:
    connection = AmqpConnection(nodes_of(url), "test connection", **options)
    try:
        await connection.open(timeout_s=30)
        yield connection
    finally:
        await connection.aclose()


async def test_a_node_that_never_answers_is_passed_over(
    silent_node: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CONNECT_TIMEOUT_S", 0.3)
    monkeypatch.setattr(connections.random, "sample", lambda nodes, count: list(nodes))
    async with connected(f"{silent_node},{amqp_url}") as connection:
        assert connection.node == f"127.0.0.1:{urlsplit(amqp_url).port}"


async def test_the_one_error_says_what_is_wrong_with_each_node(
    silent_node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CONNECT_TIMEOUT_S", 0.2)
    connection = AmqpConnection(nodes_of(f"amqp://me:secret@127.0.0.1:1/,{silent_node}"), "test connection")
    with pytest.raises(
        BrokerUnreachable, match=r"127\.0\.0\.1:1 \(.*refused.*\), 127\.0\.0\.1:\d+ \(.*no answer\)"
    ) as caught:
        await connection.open(timeout_s=1)
    assert "secret" not in str(caught.value)


async def test_a_node_that_is_lost_while_it_lets_us_in_is_not_taken_for_a_refusal(amqp_url: str) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hands on what the server says first; the client's answer, with its password, is the end of it."""
        server = urlsplit(amqp_url)
        far_reader, far_writer = await asyncio.open_connection(server.hostname, server.port)
        try:
            far_writer.write(await reader.read(8))
            writer.write(await far_reader.read(65536))
            await reader.read(65536)
        finally:
            for end in (writer, far_writer):
                end.transport.abort()

    dying = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with dying:
        url = f"amqp://guest:guest@127.0.0.1:{dying.sockets[0].getsockname()[1]}/"
        with pytest.raises(BrokerUnreachable):
            await AmqpConnection(nodes_of(url), "test connection").open(timeout_s=1)


async def test_a_node_that_refuses_us_does_not_keep_us_from_the_others(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections.random, "sample", lambda nodes, count: list(nodes))
    refusing = nodes_of(amqp_url)[0]
    refusing = f"amqp://{refusing.credentials.username}:wrong@{refusing.host}:{refusing.port}/"
    async with connected(f"{refusing},{amqp_url}"):
        pass
    with pytest.raises(AccessRefused):
        await AmqpConnection(nodes_of(refusing), "test connection").open(timeout_s=30)


async def test_connections_spread_over_the_nodes(three_ways: list[Proxy], amqp_url: str) -> None:
    landed: Counter[str] = Counter()
    for _ in range(40):
        async with connected(cluster_url(three_ways, amqp_url)) as connection:
            landed[connection.node] += 1
    assert len(landed) == 3


async def test_a_lost_node_is_left_for_the_next_one(three_ways: list[Proxy], amqp_url: str) -> None:
    async with connected(cluster_url(three_ways, amqp_url)) as connection:
        for _ in range(6):
            lost = connection.node
            (proxy,) = [one for one in three_ways if lost.endswith(f":{one.port}")]
            reconnects = connection.reconnects
            # It takes new connections at once: only the order keeps us from going back.
            proxy.cut()
            await until(lambda reconnects=reconnects: connection.reconnects > reconnects)
            assert connection.node != lost


async def test_a_topology_that_fails_leaves_no_connection_open(amqp_url: str) -> None:
    tried: list[AmqpConnection] = []

    async def fail(connection: AmqpConnection) -> None:
        tried.append(connection._raw)
        if len(tried) < 3:
            channel = await connection.channel_now()
            await channel.call("queue_declare", queue="tieout_test_nowhere", passive=True)

    async with connected(amqp_url, on_open=fail):
        assert [one.is_closed for one in tried] == [True, True, False]


async def test_a_server_that_falls_silent_is_left_after_the_time_limit_of_a_call(
    proxy: Proxy, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "CALL_TIMEOUT_S", 0.3)
    async with connected(cluster_url([proxy], amqp_url)) as connection:
        channel = await connection.channel()
        proxy.fall_silent()
        with pytest.raises(ConnectionLost, match=r"queue_declare: no answer within 0\.3 s"):
            await channel.call("queue_declare", queue="", exclusive=True)
        await until(lambda: not connection.is_open)
        proxy.speak()
        await until(lambda: connection.is_open)
        channel = await connection.channel()
        await channel.call("queue_declare", queue="", exclusive=True)


async def test_a_silent_server_opens_no_channel_and_says_no_goodbye(
    proxy: Proxy, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "CALL_TIMEOUT_S", 0.3)
    monkeypatch.setattr(connections, "CLOSE_TIMEOUT_S", 0.3)
    async with connected(cluster_url([proxy], amqp_url)) as connection:
        proxy.fall_silent()
        with pytest.raises(ConnectionLost, match="no answer"):
            await connection.channel()
    proxy.speak()
    async with connected(cluster_url([proxy], amqp_url)) as connection:
        proxy.fall_silent()
        connection.restart()
        await until(lambda: not connection.is_open)


@pytest.mark.slow
async def test_workers_go_on_after_the_server_was_silent_for_a_while(
    rabbit: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heartbeats notice the silence on connections where nobody calls."""
    monkeypatch.setattr(connections, "HEARTBEAT_S", 1)
    monkeypatch.setattr(connections, "CONNECT_TIMEOUT_S", 0.5)
    for connection in (rabbit.broker._publishing, rabbit.broker._consuming):
        for node in connection._nodes:
            node.heartbeat, node.stack_timeout = 1, 0.5
    seen: set[str] = set()

    def handle(stage: str, body: bytes, info: DeliveryInfo) -> None:
        seen.add(info.message_id)

    await rabbit.open(handle)
    assert rabbit.proxy is not None
    await rabbit.publisher.publish([a_message(1)])
    await until(lambda: rabbit.broker.counts.acknowledged == 1)
    rabbit.proxy.fall_silent()
    await until(lambda: not rabbit.broker._publishing.is_open and not rabbit.broker._consuming.is_open, timeout_s=60)
    rabbit.proxy.speak()
    rabbit.proxy.cut()  # whoever was let in half-way
    await until(lambda: rabbit.broker._publishing.is_open and rabbit.broker._consuming.is_open)
    await rabbit.publisher.publish([a_message(2)])
    await until(lambda: len(seen) == 2)


@pytest.fixture
async def tls_port(amqp_url: str) -> AsyncIterator[int]:
    """RabbitMQ behind TLS, with a certificate of its own making for 127.0.0.1."""
    server, context = urlsplit(amqp_url), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "certificate.pem", TLS / "key.pem")
    proxy = Proxy(server.hostname or "127.0.0.1", server.port or 5672, tls=context)
    await proxy.start()
    yield proxy.port
    await proxy.stop()


async def test_tls_goes_by_the_options_of_the_url(tls_port: int) -> None:
    trusted = quote(repr({"cafile": str(TLS / "certificate.pem")}))
    async with connected(f"amqps://guest:guest@127.0.0.1:{tls_port}/?ssl_options={trusted}&heartbeat=17") as connection:
        assert connection._raw.params.heartbeat == 17
        channel = await connection.channel()
        await channel.call("queue_declare", queue="", exclusive=True)


async def test_a_certificate_that_nobody_vouches_for_is_refused(tls_port: int) -> None:
    connection = AmqpConnection(nodes_of(f"amqps://guest:guest@127.0.0.1:{tls_port}/"), "test connection")
    with pytest.raises(BrokerUnreachable, match="certificate verify failed"):
        await connection.open(timeout_s=1)
