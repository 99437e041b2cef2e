"""Connection: one AMQP connection on the event loop that comes back by itself, and its channels as coroutines."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pika
from loguru import logger
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel
from pika.exceptions import (
    AMQPError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

from broker.backoff import pauses_s
from pipeline.errors import TransientError

BACKOFF_MS_FIRST = 100
BACKOFF_MS_MAX = 10_000
CONNECT_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 3.0
HEARTBEAT_S = 30


class ConnectionLost(TransientError):
    """The connection or channel went away before the server answered."""


class BrokerUnreachable(TransientError):
    """No node of the cluster could be reached; the text names them, without their passwords."""


class AccessRefused(Exception):
    """The server knows us and won't have us: wrong user, password or virtual host. Trying again will not help."""


def nodes_of(amqp_url: str) -> tuple[pika.URLParameters, ...]:
    """The nodes to try in turn; `amqp_url` is one URL or several, separated by commas.

    Raises:
      ValueError: not an AMQP URL.
    """
    nodes = []
    for url in re.split(r"\s*,\s*(?=amqps?://)", amqp_url.strip()):
        if not re.match(r"amqps?://", url):
            raise ValueError("expected amqp://USER:PASSWORD@HOST:5672/VHOST, or several of them separated by commas")
        node = pika.URLParameters(url)
        if "heartbeat=" not in url:
            node.heartbeat = HEARTBEAT_S
        node.socket_timeout = node.stack_timeout = CONNECT_TIMEOUT_S
        node.connection_attempts = 1
        nodes.append(node)
    return tuple(nodes)


class AmqpChannel:
    """A channel whose calls are awaited. `closed` resolves, with the reason, when it is gone for whatever cause."""

    def __init__(self, channel: Channel) -> None:
        self.raw = channel
        self.closed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        channel.add_on_close_callback(self._on_close)

    async def call(self, method: str, **arguments: Any) -> Any:
        """Call a pika method and return the server's answer.

        Raises:
          ConnectionLost: the channel closed first; its `__cause__` says why.
        """
        answered = asyncio.get_running_loop().create_future()
        try:
            getattr(self.raw, method)(**arguments, callback=partial(_resolve, answered))
        except AMQPError as error:
            raise ConnectionLost(f"{method}: {error!r}") from error
        await asyncio.wait((answered, self.closed), return_when=asyncio.FIRST_COMPLETED)
        if not answered.done():
            reason = self.closed.result()
            raise ConnectionLost(f"{method}: {reason!r}") from reason
        return answered.result()

    @property
    def is_open(self) -> bool:
        return bool(self.raw.is_open)

    async def close(self) -> None:
        """Close it; the server takes back what was delivered on it and not acknowledged."""
        if self.is_open:
            self.raw.close()
        await asyncio.wait((self.closed,), timeout=CLOSE_TIMEOUT_S)

    def _on_close(self, _: Channel, reason: BaseException) -> None:
        _resolve(self.closed, reason)


class AmqpConnection:
    """Opens, watches and reopens one connection.

    `on_open` runs before anybody else gets a channel, each time. `blocked` is true while the server takes no publishes
    (memory or disk alarm); `on_change` is called when that, or being connected, changes.
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
        self.blocked = False
        self.reconnects = -1
        self._nodes = nodes
        self._on_open = on_open
        self._on_change = on_change
        self._raw: AsyncioConnection | None = None
        self._ready = asyncio.Event()
        self._lost: asyncio.Future[BaseException] | None = None
        self._keeper: asyncio.Task[None] | None = None

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
            where = ", ".join(f"{node.host}:{node.port}" for node in self._nodes)
            raise BrokerUnreachable(f"no RabbitMQ at {where} within {timeout_s:g} s: is it running?") from None
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    @property
    def is_open(self) -> bool:
        return self._ready.is_set()

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
        """A new channel on the connection as it is, which `on_open` needs: nobody else may use it yet."""
        raw, lost = self._raw, self._lost
        if raw is None or lost is None or not raw.is_open:
            raise ConnectionLost(f"{self.name} is not connected")
        opened: asyncio.Future[Channel] = asyncio.get_running_loop().create_future()
        channel = AmqpChannel(raw.channel(on_open_callback=partial(_resolve, opened)))
        await asyncio.wait((opened, lost, channel.closed), return_when=asyncio.FIRST_COMPLETED)
        if not opened.done():
            raise ConnectionLost(f"{self.name} was lost")
        return channel

    def restart(self) -> None:
        """Begin anew, with `on_open`: something that belongs to the connection as a whole was lost."""
        if self._raw is not None and self._raw.is_open:
            self._raw.close()

    async def aclose(self) -> None:
        """Close for good."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._close_raw()

    async def _close_raw(self) -> None:
        self._ready.clear()
        if self._raw is not None and self._lost is not None:
            if self._raw.is_open:
                self._raw.close()
            await asyncio.wait((self._lost,), timeout=CLOSE_TIMEOUT_S)

    async def _keep(self) -> None:
        """Reconnect each time the connection is lost."""
        while self._lost is not None:
            reason = await asyncio.shield(self._lost)
            self._ready.clear()
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
            for node in self._nodes:
                if await self._connect(node):
                    return
            await asyncio.sleep(pause_s)

    async def _connect(self, node: pika.URLParameters) -> bool:
        """Try one node; false when it can't be used now."""
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        lost: asyncio.Future[BaseException] = loop.create_future()
        node.client_properties = {"connection_name": self.name}
        raw = AsyncioConnection(
            node,
            on_open_callback=lambda _: _resolve(opened, None),
            on_open_error_callback=lambda _, error: _resolve(lost, error),
            on_close_callback=lambda _, error: _resolve(lost, error),
            custom_ioloop=loop,
        )
        raw.add_on_connection_blocked_callback(lambda *_: self._set_blocked(True))
        raw.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(False))
        try:
            await asyncio.wait((opened, lost), return_when=asyncio.FIRST_COMPLETED)
            if lost.done():
                raise lost.result()
            self._raw, self._lost, self.blocked = raw, lost, False
            if self._on_open is not None:
                await self._on_open(self)
        except (ProbableAuthenticationError, ProbableAccessDeniedError) as error:
            where = f"{node.host}:{node.port}"
            raise AccessRefused(f"RabbitMQ at {where} refuses user, password or virtual host: {error}") from error
        except (AMQPError, OSError, ConnectionLost) as error:
            bound = logger.bind(event="connect_failed", connection=self.name, node=f"{node.host}:{node.port}")
            bound.warning("can't connect {} to {}:{}: {!r}", self.name, node.host, node.port, error)
            return False
        except BaseException:
            # Cancelled, or the topology is refused: leave no half-open connection behind.
            if not (raw.is_closing or raw.is_closed):
                raw.close()
            await asyncio.wait((lost,), timeout=CLOSE_TIMEOUT_S)
            raise
        if lost.done():
            return False
        self.reconnects += 1
        self._ready.set()
        self._on_change()
        return True

    def _set_blocked(self, blocked: bool) -> None:
        self.blocked = blocked
        event = "connection_blocked" if blocked else "connection_unblocked"
        logger.bind(event=event, connection=self.name).warning("{}: {}", self.name, event.replace("_", " "))
        self._on_change()


def _resolve(future: asyncio.Future[Any], value: Any = None) -> None:
    if not future.done():
        future.set_result(value)
