"""Stock Dramatiq, started with its own command line."""

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from benchmarks.contender import Arrangement, Contender, Publish
from benchmarks.events import event, number_of

THREADS = 8
arrangement = Arrangement.from_environment()


class QuorumBroker(RabbitmqBroker):
    """Dramatiq 2.2 has no option for quorum queues; this is the one method that it takes."""

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        return {**super()._build_queue_arguments(queue_name), "x-queue-type": "quorum"}


broker = (QuorumBroker if arrangement.queue_type == "quorum" else RabbitmqBroker)(
    url=arrangement.amqp_url, confirm_delivery=True
)
dramatiq.set_broker(broker)
tally = arrangement.tally()
HOP1, HOP2, HOP3, HOP4, HOP5 = arrangement.hops


@dramatiq.actor(queue_name=HOP1)
def hop1(event: dict[str, Any]) -> None:
    hop2.send(event)


@dramatiq.actor(queue_name=HOP2)
def hop2(event: dict[str, Any]) -> None:
    hop3.send(event)


@dramatiq.actor(queue_name=HOP3)
def hop3(event: dict[str, Any]) -> None:
    hop4.send(event)


@dramatiq.actor(queue_name=HOP4)
def hop4(event: dict[str, Any]) -> None:
    hop5.send(event)


@dramatiq.actor(queue_name=HOP5)
def hop5(event: dict[str, Any]) -> None:
    tally.count(number_of(event["id"]))


class Dramatiq(Contender):
    """`dramatiq --processes 2 --threads 8`."""

    libraries = ("dramatiq", "pika")
    settings: ClassVar[Mapping[str, str]] = {
        "confirm_delivery=True": "off by default, and then a message may be lost unnoticed",
        "threads=8": "its default; each waits for its own confirm, so more of them publish more",
        "prefetch": "its default, twice the threads",
        "middleware": "its defaults (Retries, TimeLimit, AgeLimit, ...)",
        "queues": "durable classic ones, as it declares them; the quorum row overrides one method of its broker",
    }

    def queues(self) -> tuple[str, ...]:
        return self.arrangement.hops

    def leftovers(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return tuple(f"{queue}.{suffix}" for queue in self.queues() for suffix in ("DQ", "XQ")), ()

    def workers(self) -> list[list[str]]:
        program = str(Path(sys.executable).with_name("dramatiq"))
        processes = str(self.arrangement.processes)
        return [[program, "--processes", processes, "--threads", str(THREADS), "--skip-logging", __name__]]

    @asynccontextmanager
    async def publisher(self) -> AsyncIterator[Publish]:
        async def publish(first: int, count: int) -> None:
            for number in range(first, first + count):
                hop1.send(event(number))

        yield publish
        broker.close()


CONTENDER = Dramatiq
