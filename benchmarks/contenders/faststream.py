"""FastStream on RabbitMQ (aio-pika), started with its own command line."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

from faststream import AckPolicy, FastStream
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue

from benchmarks.contender import Arrangement, Contender, Publish
from benchmarks.events import HOPS, event, number_of

PREFETCH = 100
PUBLISHED_AT_ONCE = 200

arrangement = Arrangement.from_environment()
tally = arrangement.tally()
broker = RabbitBroker(arrangement.amqp_url, default_channel=Channel(prefetch_count=PREFETCH), logger=None)
queues = [RabbitQueue(name, queue_type=QueueType(arrangement.queue_type), durable=True) for name in arrangement.hops]


def _subscribe(number: int) -> None:
    """The handler of one hop; it publishes to the next queue before it returns."""
    if number == HOPS:

        async def hop(event: dict[str, Any]) -> None:
            tally.count(number_of(event["id"]))
    else:

        async def hop(event: dict[str, Any]) -> None:
            await broker.publish(event, queues[number], persist=True)

    broker.subscriber(queues[number - 1], ack_policy=AckPolicy.NACK_ON_ERROR)(hop)


for hop_number in range(1, HOPS + 1):
    _subscribe(hop_number)
app = FastStream(broker, logger=None)


class Faststream(Contender):
    """`faststream run --workers 2`: two processes that handle messages, and one that watches over them."""

    libraries = ("faststream", "aio-pika", "aiormq", "pydantic", "uvloop")
    settings: ClassVar[Mapping[str, str]] = {
        "publisher_confirms": "on by default; each publish is awaited until it is confirmed",
        "persist=True": "messages are transient by default",
        "ack_policy=NACK_ON_ERROR": "acknowledged after the handler; the default discards what a handler fails on",
        "prefetch_count=100": "unbounded by default; bounds what a process has at hand and runs at the same time",
        "logger=None": "by default two lines are logged per message",
        "uvloop": "its command line uses it where it is installed",
        "queues": "quorum; the classic row is what it declares by default",
    }

    def queues(self) -> tuple[str, ...]:
        return self.arrangement.hops

    def workers(self) -> list[list[str]]:
        program = str(Path(sys.executable).with_name("faststream"))
        return [[program, "run", f"{__name__}:app", "--workers", str(self.arrangement.processes)]]

    @asynccontextmanager
    async def publisher(self) -> AsyncIterator[Publish]:
        async def publish(first: int, count: int) -> None:
            for start in range(first, first + count, PUBLISHED_AT_ONCE):
                numbers = range(start, min(start + PUBLISHED_AT_ONCE, first + count))
                await asyncio.gather(*(broker.publish(event(number), queues[0], persist=True) for number in numbers))

        async with broker:
            for queue in queues:
                await broker.declare_queue(queue)
            yield publish


CONTENDER = Faststream
