"""Connection: one AMQP connection on the event loop that comes back by itself, to whichever node lets it in."""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pika
from loguru import logger
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError, ProbableAccessDeniedError, ProbableAuthenticationError

from broker.backoff import pauses_s
from broker.channel import CLOSE_TIMEOUT_S, AmqpChannel, ConnectionLost, resolve
from broker.wire import WireConnection
from pipeline.errors import TransientError

BACKOFF_MS_FIRST = 100
BACKOFF_MS_MAX = 10_000

#: For one node, from the first packet to an open connection; `stack_timeout` in the URL says otherwise.
CONNECT_TIMEOUT_S = 5.0
#: A name server may keep us waiting as well, which is in no time-out of pika's.
RESOLVE_TIMEOUT_S = 5.0
HEARTBEAT_S = 30

#: What a node that can't be used now makes us see; pika's own time-outs and failures of TLS are no AMQPError.
UNUSABLE = (AMQPError, AMQPConnectorException, OSError, ConnectionLost)


class BrokerUnreachable(TransientError):
    """No node of the cluster could be reached; the text names them, without their passwords."""


class AccessRefused(Exception):
    """The server knows us and won't have us: wrong user, password or virtual host. Trying again will not help."""


def nodes_of(amqp_url: str) -> tuple[pika.URLParameters, ...]:
    """The nodes of a cluster; `amqp_url` is one URL or several, separated by commas.

    What a URL says after its `?` is pika's: `heartbeat`, `frame_max`, `ssl_options`, `stack_timeout`, ...

    Raises:
      ValueError: not an AMQP URL.
    """
    nodes = []
    for url in re.split(r"\s*,\s*(?=amqps?://)", amqp_url.strip()):
        if not re.match(r"amqps?://", url):
            raise ValueError("expected amqp://USER:PASSWORD@HOST:5672/VHOST, or several of them separated by commas")
        node = pika.URLParameters(url)
        said = set(node._all_url_query_values or ())
        if "heartbeat" not in said:
            node.heartbeat = HEARTBEAT_S
        if "stack_timeout" not in said:
            node.stack_timeout = CONNECT_TIMEOUT_S
        if "socket_timeout" not in said:
            node.socket_timeout = min(CONNECT_TIMEOUT_S, node.stack_timeout)
        node.connection_attempts = 1
        nodes.append(node)
    return tuple(nodes)


class AmqpConnection:
    """Opens, watches and reopens one connection.

    Each connection tries the nodes in an order of its own, and one that it has just lost last: the connections of many
    processes spread over the cluster. `on_open` runs before anybody else gets a channel, each time. `blocked` says
    why the server takes no publishes (memory or disk alarm), and is empty while it does; `on_change` is called when
    that, or being connected, changes.
    """

    def __init__(
        self,
        nodes: tuple[pika.URLParameters, ...],
        name: str,
        *,
        on_open: Callable[["AmqpConnection"], Awaitable[None]] | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.blocked = ""
        self.reconnects = -1
        self._nodes = nodes
        self._on_open = on_open
        self._on_change = on_change
        self._node: pika.URLParameters | None = None
        self._troubles: dict[str, str] = {}
        self._raw: WireConnection | None = None
        self._ready = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._stopped = asyncio.Event()
        self._lost: asyncio.Future[BaseException] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def open(self, timeout_s: float) -> None:
        """Connect, trying the nodes again until the time is up; from then on the connection looks after itself.

        Raises:
          BrokerUnreachable: no node answered in time.
          AccessRefused: wrong user, password or virtual host.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._connect_until_open()
        except TimeoutError:
            nodes = ", ".join(f"{one} ({self._troubles.get(one, 'no answer')})" for one in map(_address, self._nodes))
            raise BrokerUnreachable(f"no RabbitMQ at {nodes} within {timeout_s:g} s: is it running?") from None
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    @property
    def is_open(self) -> bool:
        return self._ready.is_set()

    @property
    def node(self) -> str:
        """The address of the node it is connected to, or was last."""
        return _address(self._node) if self._node is not None else ""

    @property
    def server_version(self) -> str:
        """The server's version (`3.10.8`); empty while there is no connection."""
        properties = getattr(self._raw, "server_properties", None) or {}
        version = properties.get("version", "")
        return version.decode() if isinstance(version, bytes) else str(version)

    async def channel(self) -> AmqpChannel:
        """A new channel; waits for the connection first.

        Raises:
          ConnectionLost: it went away in between.
        """
        await self._ready.wait()
        return await self.channel_now()

    async def channel_now(self) -> AmqpChannel:
        """A new channel on the connection as it is, which `on_open` needs: nobody else may use it yet.

        Raises:
          ConnectionLost: there is no connection, or it went away or fell silent.
        """
        raw = self._raw
        if raw is None or not raw.is_open:
            raise ConnectionLost(f"{self.name} is not connected")
        opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        channel = AmqpChannel(raw.channel(on_open_callback=partial(resolve, opened)), partial(_hang_up, raw))
        await channel.answer(f"{self.name}: channel", opened)
        return channel

    async def flowing(self) -> None:
        """Wait while the server is known to take no publishes."""
        await self._flowing.wait()

    async def stopped(self) -> None:
        """Wait until the server takes no publishes."""
        await self._stopped.wait()

    def restart(self) -> None:
        """Begin anew, with `on_open`: something that belongs to the connection as a whole was lost."""
        if self._raw is not None and self._lost is not None and self._raw.is_open:
            self._closing = asyncio.get_running_loop().create_task(self._close(self._raw, self._lost))

    async def aclose(self) -> None:
        """Close for good."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self._ready.clear()
        if self._raw is not None and self._lost is not None:
            await self._close(self._raw, self._lost)

    async def _close(self, raw: WireConnection, lost: asyncio.Future[BaseException]) -> None:
        """Say goodbye, and hang up when nobody answers; a blocked server doesn't even read it."""
        if not self.blocked and not (raw.is_closing or raw.is_closed):
            raw.close()
            await asyncio.wait((lost,), timeout=CLOSE_TIMEOUT_S)
        if not lost.done():
            _hang_up(raw, ConnectionLost(f"{self.name}: closed without the server's answer"))
            await asyncio.wait((lost,), timeout=CLOSE_TIMEOUT_S)

    async def _keep(self) -> None:
        """Reconnect each time the connection is lost."""
        while self._lost is not None:
            reason = await asyncio.shield(self._lost)
            self._ready.clear()
            self._set_blocked("")
            self._on_change()
            logger.bind(event="connection_lost", connection=self.name).warning("lost {}: {!r}", self.name, reason)
            try:
                await asyncio.sleep(next(pauses_s(BACKOFF_MS_FIRST, BACKOFF_MS_MAX)))
                await self._connect_until_open()
            except Exception as error:
                # A password or a queue changed under us. It may be changed back; giving up would need a restart then.
                bound = logger.bind(event="reconnect_refused", connection=self.name)
                bound.error("can't use {}, trying again: {}", self.name, error)
                await asyncio.sleep(BACKOFF_MS_MAX / 1000)

    async def _connect_until_open(self) -> None:
        for pause_s in pauses_s(BACKOFF_MS_FIRST, BACKOFF_MS_MAX):
            refused: AccessRefused | None = None
            for node in self._in_turn():
                try:
                    await self._connect(node)
                except AccessRefused as error:
                    refused = error
                except UNUSABLE as error:
                    self._troubles[_address(node)] = _trouble(error)
                    bound = logger.bind(event="connect_failed", connection=self.name, node=_address(node))
                    bound.warning("can't connect {} to {}: {}", self.name, _address(node), _trouble(error))
                else:
                    return
            if refused is not None:
                raise refused
            await asyncio.sleep(pause_s)

    def _in_turn(self) -> list[pika.URLParameters]:
        """The nodes in any order, but the one that was used last behind the others."""
        nodes = random.sample(self._nodes, len(self._nodes))
        return sorted(nodes, key=lambda node: node is self._node)

    async def _connect(self, node: pika.URLParameters) -> None:
        """Connect to one node.

        Raises:
          AccessRefused: it won't have us.
          UNUSABLE: it can't be used now.
        """
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        lost: asyncio.Future[BaseException] = loop.create_future()
        node.client_properties = {**(node.client_properties or {}), "connection_name": self.name}
        raw = WireConnection(
            node,
            on_open_callback=lambda _: resolve(opened),
            on_open_error_callback=lambda _, error: resolve(lost, error),
            on_close_callback=lambda _, error: resolve(lost, error),
            custom_ioloop=loop,
        )
        raw.add_on_connection_blocked_callback(lambda _, frame: self._set_blocked(_text(frame.method.reason)))
        raw.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(""))
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT_S + node.stack_timeout):
                await asyncio.wait((opened, lost), return_when=asyncio.FIRST_COMPLETED)
            if not lost.done():
                self._raw, self._lost, self._node = raw, lost, node
                if self._on_open is not None:
                    await self._on_open(self)
            if lost.done():
                raise _refusal(node, lost.result()) or lost.result()
        except BaseException:
            # Whatever it was, and be it that we are cancelled: leave no half-open connection behind.
            await self._close(raw, lost)
            raise
        self.reconnects += 1
        self._ready.set()
        self._on_change()

    def _set_blocked(self, reason: str) -> None:
        if reason == self.blocked:
            return
        self.blocked = reason
        bound = logger.bind(event="connection_blocked" if reason else "connection_unblocked", connection=self.name)
        if reason:
            self._flowing.clear()
            self._stopped.set()
            bound.warning("RabbitMQ at {} takes no messages: {}", self.node, reason)
        else:
            self._stopped.clear()
            self._flowing.set()
            bound.warning("RabbitMQ at {} takes messages again", self.node)
        self._on_change()


def _hang_up(raw: WireConnection, reason: ConnectionLost) -> None:
    """End it without the server, which pika does only for missed heartbeats; `on_close` hears the reason."""
    if not raw.is_closed:
        raw._terminate_stream(reason)


def _address(node: pika.URLParameters) -> str:
    return f"{node.host}:{node.port}"


def _refusal(node: pika.URLParameters, error: BaseException) -> AccessRefused | None:
    """Whether the node refuses us. Losing it half-way through the handshake looks the same to pika, and is not; neither
    is a limit that the server has reached, or a virtual host that has yet to start.
    """
    text = str(error)
    if not isinstance(error, ProbableAuthenticationError | ProbableAccessDeniedError):
        return None
    if not re.search(r"\((403|530)\)", text) or "limit" in text:
        return None
    return AccessRefused(f"RabbitMQ at {_address(node)} refuses user, password or virtual host: {text}")


def _trouble(error: BaseException) -> str:
    """What it comes down to, out of what pika wraps around it."""
    inner: Any = error
    while inner is not None:
        error = inner
        inner = getattr(error, "exception", None) or next(reversed(getattr(error, "exceptions", ())), None)
        if inner is None and error.args and isinstance(error.args[0], BaseException):
            inner = error.args[0]
    text = str(error) or repr(error)
    return "no answer" if "Timeout while setting up" in text else text


def _text(reason: bytes | str | None) -> str:
    """Why the server is blocked; never empty."""
    text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else reason
    return text or "a resource alarm"
