"""Taskiq on RabbitMQ (taskiq-aio-pika), started with its own command line."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

from aio_pika import ExchangeType
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue, QueueType

from benchmarks.contender import Arrangement, Contender, Publish
from benchmarks.events import HOPS, event, number_of

PREFETCH = 100
PUBLISHED_AT_ONCE = 200

arrangement = Arrangement.from_environment()
tally = arrangement.tally()
broker = AioPikaBroker(
    arrangement.amqp_url,
    qos=PREFETCH,
    exchange=Exchange(name=f"{arrangement.prefix}.taskiq", type=ExchangeType.DIRECT),
    task_queues=[Queue(name=name, type=QueueType(arrangement.queue_type)) for name in arrangement.hops],
    dead_letter_queue=Queue(name=f"{arrangement.prefix}.dead", type=QueueType(arrangement.queue_type)),
)


def _hop(number: int) -> Any:
    """The task of one hop; it sends the next one from within."""
    if number == HOPS:

        async def hop(event: dict[str, Any]) -> None:
            tally.count(number_of(event["id"]))
    else:

        async def hop(event: dict[str, Any]) -> None:
            await tasks[number].kiq(event)

    return broker.task(task_name=f"hop{number}", queue_name=arrangement.hops[number - 1])(hop)


tasks = [_hop(number) for number in range(1, HOPS + 1)]


class Taskiq(Contender):
    """`taskiq worker --workers 2`: two processes that run tasks, and one that watches over them."""

    libraries = ("taskiq", "taskiq-aio-pika", "aio-pika", "aiormq", "pydantic", "uvloop")
    settings: ClassVar[Mapping[str, str]] = {
        "publisher confirms": "always on; each publish is awaited until it is confirmed",
        "--ack-type when_executed": "after the task; there is no result backend to save a result in",
        "qos=100": "10 by default; enough for as many tasks as may run at the same time",
        "--max-async-tasks 100": "its default: so many tasks at the same time",
        "uvloop": "its command line uses it where it is installed",
        "queues": "quorum, as it declares them by default",
    }

    def queues(self) -> tuple[str, ...]:
        return self.arrangement.hops

    def leftovers(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        prefix = self.arrangement.prefix
        return (f"{prefix}.dead",), (f"{prefix}.taskiq",)

    def workers(self) -> list[list[str]]:
        program = str(Path(sys.executable).with_name("taskiq"))
        options = "--ack-type when_executed --max-async-tasks 100 --log-level WARNING"
        workers = str(self.arrangement.processes)
        return [[program, "worker", f"{__name__}:broker", "--workers", workers, *options.split()]]

    @asynccontextmanager
    async def publisher(self) -> AsyncIterator[Publish]:
        async def publish(first: int, count: int) -> None:
            for start in range(first, first + count, PUBLISHED_AT_ONCE):
                numbers = range(start, min(start + PUBLISHED_AT_ONCE, first + count))
                await asyncio.gather(*(tasks[0].kiq(event(number)) for number in numbers))

        await broker.startup()
        try:
            yield publish
        finally:
            await broker.shutdown()


CONTENDER = Taskiq
