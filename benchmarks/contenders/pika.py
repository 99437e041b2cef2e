"""Raw pika, the limit: callbacks, a window of confirms, one acknowledgement for many. It understands no message."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ClassVar

import pika
from pika.adapters.asyncio_connection import AsyncioConnection

from benchmarks.contender import Arrangement, Contender, Publish
from benchmarks.events import HOPS, encoded, number_of

PREFETCH = 500
WINDOW = 2_000
PERSISTENT = pika.BasicProperties(delivery_mode=2)

_ID_AT = encoded(0).index(b'"T-') + 1
_ID_ENDS = _ID_AT + len("T-00000000")


class Pika(Contender):
    """Two processes, each with one connection to consume all five queues and one to publish."""

    libraries = ("pika",)
    settings: ClassVar[Mapping[str, str]] = {
        "prefetch=500": "enough that acknowledgements can be coalesced",
        "window=2000": "publishing waits only when so many are unconfirmed",
        "multiple=True": "acknowledges up to the oldest delivery whose publish is not confirmed yet",
    }

    def __init__(self, arrangement: Arrangement) -> None:
        super().__init__(arrangement)
        self._tally = arrangement.tally()

    def queues(self) -> tuple[str, ...]:
        return self.arrangement.hops

    async def work(self) -> None:
        publishing = await _channel(self.arrangement)
        consuming = await _channel(self.arrangement)
        relay = _Relay(publishing, consuming)
        for number, queue in enumerate(self.queues(), 1):
            onward = self._count if number == HOPS else partial(relay.pass_on, self.queues()[number])
            consuming.basic_consume(queue, partial(relay.received, onward))
        await asyncio.Event().wait()

    def _count(self, body: bytes) -> None:
        self._tally.count(number_of(body[_ID_AT:_ID_ENDS].decode()))

    @asynccontextmanager
    async def publisher(self) -> AsyncIterator[Publish]:
        channel = await _channel(self.arrangement)
        for queue in self.queues():
            channel.queue_declare(queue, durable=True, arguments={"x-queue-type": self.arrangement.queue_type})
        window = _Window(channel)

        async def publish(first: int, count: int) -> None:
            for number in range(first, first + count):
                await window.room()
                window.send(self.queues()[0], encoded(number))
            await window.confirmed(window.sent)

        yield publish


class _Relay:
    """Publishes what comes in to the next queue, and acknowledges in order of arrival what has been confirmed."""

    def __init__(self, publishing: Any, consuming: Any) -> None:
        self._publishing, self._consuming = publishing, consuming
        self._sent = 0
        self._unconfirmed: set[int] = set()
        #: (delivery tag, number of the publish it caused; 0: none), in order of arrival
        self._unacknowledged: deque[tuple[int, int]] = deque()
        publishing.confirm_delivery(self._on_confirm)

    def received(self, onward: Any, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        number = onward(body) or 0
        self._unacknowledged.append((method.delivery_tag, number))
        if not number:
            self._acknowledge()

    def pass_on(self, queue: str, body: bytes) -> int:
        self._publishing.basic_publish("", queue, body, PERSISTENT)
        self._sent += 1
        self._unconfirmed.add(self._sent)
        return self._sent

    def _on_confirm(self, frame: Any) -> None:
        self._unconfirmed -= _confirmed(frame, self._unconfirmed)
        self._acknowledge()

    def _acknowledge(self) -> None:
        tag = 0
        while self._unacknowledged and self._unacknowledged[0][1] not in self._unconfirmed:
            tag, _ = self._unacknowledged.popleft()
        if tag:
            self._consuming.basic_ack(tag, multiple=True)


class _Window:
    """Publishes with no more than WINDOW messages unconfirmed."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self.sent = 0
        self._unconfirmed: set[int] = set()
        self._changed = asyncio.Event()
        channel.confirm_delivery(self._on_confirm)

    def send(self, queue: str, body: bytes) -> None:
        self._channel.basic_publish("", queue, body, PERSISTENT)
        self.sent += 1
        self._unconfirmed.add(self.sent)

    async def room(self) -> None:
        while len(self._unconfirmed) >= WINDOW:
            await self._wait()

    async def confirmed(self, last: int) -> None:
        while any(number <= last for number in self._unconfirmed):
            await self._wait()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _on_confirm(self, frame: Any) -> None:
        self._unconfirmed -= _confirmed(frame, self._unconfirmed)
        self._changed.set()


def _confirmed(frame: Any, unconfirmed: set[int]) -> set[int]:
    """The numbers of the publishes that a frame confirms.

    Raises:
      RuntimeError: the server has refused one: the run is worth nothing.
    """
    method = frame.method
    if not isinstance(method, pika.spec.Basic.Ack):
        raise RuntimeError(f"the server refused publish {method.delivery_tag}")
    if not method.multiple:
        return {method.delivery_tag}
    return {number for number in unconfirmed if number <= method.delivery_tag}


async def _channel(arrangement: Arrangement) -> Any:
    """A channel on a connection of its own."""
    opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    AsyncioConnection(
        pika.URLParameters(arrangement.amqp_url),
        on_open_callback=lambda connection: connection.channel(on_open_callback=opened.set_result),
        on_open_error_callback=lambda _, error: opened.set_exception(error),
    )
    channel = await opened
    channel.basic_qos(prefetch_count=PREFETCH)
    return channel


CONTENDER = Pika
