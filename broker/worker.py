"""WorkerGroup: the threads that run the actors of some lanes, started and stopped as one."""

import asyncio
from collections.abc import Sequence

from dramatiq.worker import Worker
from loguru import logger

from broker.consumer import LaneConsumer
from broker.transport import Transport
from contracts.envelope import LANES, LIVE

#: How often an idle thread looks whether it should stop.
IDLE_MS = 250


class WorkerGroup:
    """One Dramatiq worker per lane, each with its own `threads`: bulk work never delays live work in a process either.

    Queues of no lane (actors that are no stage) belong to the live lane's worker.
    """

    def __init__(self, broker: Transport, lanes: Sequence[str], threads: int) -> None:
        self._broker = broker
        self._workers = [self._worker(lane, threads) for lane in lanes]

    def _worker(self, lane: str, threads: int) -> Worker:
        def belongs(queue: str) -> bool:
            last = queue.rpartition(".")[2]
            return last == lane or (last not in LANES and lane == LIVE)

        queues = {queue for queue in self._broker.queues if belongs(queue)}
        # An empty set means "all queues" to Dramatiq.
        return Worker(self._broker, queues=queues or {lane}, worker_threads=threads, worker_timeout=IDLE_MS)

    def start(self) -> None:
        """Begin to consume. Queues declared later are not consumed."""
        self._broker.boot()
        for worker in self._workers:
            before = list(self._broker.middleware)
            worker.start()
            # What it added tells it of further queues. Left there, a second worker would be taken for a mistake.
            self._broker.middleware[:] = before

    async def stop(self, grace_ms: int) -> None:
        """Stop taking messages, let what runs finish within the grace, give the rest back to the broker."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace_ms / 1000
        consumers = self._consumers()
        for consumer in consumers:
            consumer.draining = True
        await asyncio.gather(*(self._broker.cancel(consumer) for consumer in consumers))
        for consumer in consumers:
            consumer.arrive(None)
        await self._settled(consumers, deadline)
        rest_ms = max(0, int((deadline - loop.time()) * 1000))
        await asyncio.gather(*(asyncio.to_thread(worker.stop, rest_ms) for worker in self._workers))
        unfinished = sum(len(consumer.started) for consumer in consumers)
        if unfinished:
            logger.bind(event="stopped_unfinished").warning("{} messages unfinished, to be delivered again", unfinished)
        # A consumer thread may have come up only while we were stopping.
        for consumer in {*consumers, *self._consumers()}:
            await self._broker.detach(consumer)

    def _consumers(self) -> list[LaneConsumer]:
        threads = (thread for worker in self._workers for thread in worker.consumers.values())
        return [thread.consumer for thread in threads if isinstance(thread.consumer, LaneConsumer)]

    async def _settled(self, consumers: list[LaneConsumer], deadline: float) -> None:
        """Wait until nothing that was started is unfinished, or the time is up."""
        settlements = self._broker.settlements
        try:
            async with asyncio.timeout_at(deadline):
                while any(consumer.started for consumer in consumers):
                    settlements.clear()
                    await settlements.wait()
        except TimeoutError:
            return
