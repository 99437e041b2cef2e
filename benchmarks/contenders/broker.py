"""Our broker alone: plain Dramatiq actors that send to the next one, no ledger behind them.

On the bulk lane a message carries as many events as a batch of the pipeline does records.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import dramatiq

from benchmarks.contender import Arrangement, Contender, Publish
from benchmarks.events import HOPS, event, number_of
from broker.delivery import Outgoing
from broker.encoding import encode_message
from broker.rabbitmq import RabbitBroker
from broker.worker import WorkerGroup
from contracts.envelope import BULK, LIVE
from ops.machine import spare_the_collector
from pipeline.settings import Settings

PUBLISHED_AT_ONCE = 500
_DEFAULTS = Settings(database_url="")


class Broker(Contender):
    """Two processes; threads and prefetch are the defaults of `pipeline/settings.py`."""

    libraries = ("tieout", "dramatiq", "pika", "msgspec")
    settings: ClassVar[Mapping[str, str]] = {
        "prefetch, threads": "the defaults of pipeline/settings.py",
        "acknowledgement": "when every message that the actor has sent is confirmed",
    }

    def __init__(self, arrangement: Arrangement) -> None:
        super().__init__(arrangement)
        self._tally = arrangement.tally()

    def queues(self) -> tuple[str, ...]:
        return tuple(f"{self.arrangement.prefix}.{self._queue(number)}" for number in range(1, HOPS + 1))

    def _queue(self, number: int) -> str:
        return f"hop{number}.{self.arrangement.lane}"

    def leftovers(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        topology = self._connect().topology
        others = tuple(queue.name for queue in topology.queues if queue.name not in self.queues())
        return others, tuple(exchange.name for exchange in topology.exchanges)

    def _connect(self) -> RabbitBroker:
        """A broker with the five actors declared, not open yet."""
        prefetch = {LIVE: _DEFAULTS.live_prefetch, BULK: _DEFAULTS.bulk_prefetch}
        broker = RabbitBroker(self.arrangement.amqp_url, prefix=self.arrangement.prefix, prefetch=prefetch)
        for number in range(1, HOPS + 1):
            self._actor(broker, number)
        return broker

    def _actor(self, broker: RabbitBroker, number: int) -> None:
        if number == HOPS:

            def hop(events: list[dict[str, Any]]) -> None:
                for event in events:
                    self._tally.count(number_of(event["id"]))
        else:

            def hop(events: list[dict[str, Any]]) -> None:
                broker.get_actor(f"hop{number + 1}").send(events)

        dramatiq.actor(actor_name=f"hop{number}", queue_name=self._queue(number), broker=broker)(hop)

    async def work(self) -> None:
        broker = self._connect()
        await broker.open()
        threads = {LIVE: _DEFAULTS.live_threads, BULK: _DEFAULTS.bulk_threads}
        workers = WorkerGroup(broker, (self.arrangement.lane,), threads)
        workers.start()
        spare_the_collector()
        try:
            await asyncio.Event().wait()
        finally:
            await workers.stop(_DEFAULTS.shutdown_grace_ms)
            await broker.aclose()

    @asynccontextmanager
    async def publisher(self) -> AsyncIterator[Publish]:
        broker = self._connect()
        first_hop = broker.get_actor("hop1")

        each = 1 if self.arrangement.lane == LIVE else _DEFAULTS.bulk_batch_records_max

        def outgoing(numbers: range) -> Outgoing:
            message = first_hop.message([event(number) for number in numbers])
            return Outgoing(
                queue=message.queue_name,
                body=encode_message(message),
                message_id=message.message_id,
                type=message.actor_name,
            )

        async def publish(first: int, count: int) -> None:
            end = first + count
            batches = [range(start, min(start + each, end)) for start in range(first, end, each)]
            for start in range(0, len(batches), PUBLISHED_AT_ONCE):
                await broker.put([outgoing(batch) for batch in batches[start : start + PUBLISHED_AT_ONCE]])

        await broker.open()
        try:
            yield publish
        finally:
            await broker.aclose()


CONTENDER = Broker
