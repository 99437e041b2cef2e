"""Celery with late acknowledgements and publisher confirms, started with its own command line."""

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

from celery import Celery as Application
from kombu import Exchange, Queue

from benchmarks.contender import Arrangement, Contender, Publish
from benchmarks.events import HOPS, event, number_of

PREFETCH_MULTIPLIER = 64
#: Where Celery keeps delayed tasks once it meets a quorum queue; the names are its own and fixed.
DELAYED = (*(f"celery_delayed_{level}" for level in range(28)), "celery_delayed_delivery")

arrangement = Arrangement.from_environment()
tally = arrangement.tally()
exchange = Exchange(f"{arrangement.prefix}.celery", type="topic")

app = Application("benchmark", broker=arrangement.amqp_url.replace("amqp://", "pyamqp://", 1))
app.conf.update(
    broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_acks_on_failure_or_timeout=False,
    task_ignore_result=True,
    task_queues=[
        Queue(name, exchange, routing_key=name, queue_arguments={"x-queue-type": arrangement.queue_type})
        for name in arrangement.hops
    ],
    task_default_queue=arrangement.hops[0],
    task_default_exchange=exchange.name,
    task_default_exchange_type="topic",
    worker_prefetch_multiplier=PREFETCH_MULTIPLIER,
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
)


def _hop(number: int) -> Any:
    """The task of one hop; it sends the next one from within."""
    if number == HOPS:

        def hop(event: dict[str, Any]) -> None:
            tally.count(number_of(event["id"]))
    else:

        def hop(event: dict[str, Any]) -> None:
            tasks[number].apply_async((event,), queue=arrangement.hops[number])

    return app.task(name=f"hop{number}")(hop)


tasks = [_hop(number) for number in range(1, HOPS + 1)]


class Celery(Contender):
    """`celery worker --pool prefork --concurrency 2`: two processes that run tasks, and one that feeds them."""

    libraries = ("celery", "kombu", "amqp", "billiard")
    settings: ClassVar[Mapping[str, str]] = {
        "confirm_publish=True": "off by default, and then a message may be lost unnoticed",
        "task_acks_late=True": "by default a task is acknowledged before it runs",
        "task_reject_on_worker_lost=True": "else the tasks of a killed process are acknowledged",
        "task_acks_on_failure_or_timeout=False": "else a task that fails is acknowledged and gone",
        "task_ignore_result=True": "no result backend: nobody asks for results",
        "worker_prefetch_multiplier=64": "its optimizing guide: 50 to 150 for many short tasks; the default is 4",
        "--without-gossip --without-mingle --without-heartbeat": "what one worker node doesn't need",
        "queues": "quorum as its guide recommends for RabbitMQ; the classic row is what it does by default",
    }

    def queues(self) -> tuple[str, ...]:
        return self.arrangement.hops

    def leftovers(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        delayed = DELAYED if self.arrangement.queue_type == "quorum" else ()
        return delayed[:-1], (exchange.name, *delayed)

    def consumers(self) -> int:
        return 1

    def workers(self) -> list[list[str]]:
        program = str(Path(sys.executable).with_name("celery"))
        options = "worker --pool prefork --without-gossip --without-mingle --without-heartbeat --loglevel WARNING"
        concurrency = str(self.arrangement.processes)
        return [[program, "-A", __name__, *options.split(), "--concurrency", concurrency]]

    @asynccontextmanager
    async def publisher(self) -> AsyncIterator[Publish]:
        async def publish(first: int, count: int) -> None:
            for number in range(first, first + count):
                tasks[0].apply_async((event(number),), queue=arrangement.hops[0])

        yield publish
        app.close()


CONTENDER = Celery
