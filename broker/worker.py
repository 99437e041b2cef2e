"""WorkerGroup: the threads that run the actors of some lanes, started and stopped as one.

Dramatiq gives every queue a thread of its own that waits for messages and hands them on to the worker threads. Here the
event loop receives them already, so it hands them on itself: ten threads less, and one change of threads per message.
"""

import asyncio
import queue
from collections.abc import Mapping, Sequence

import msgspec
from dramatiq.broker import MessageProxy
from dramatiq.worker import ConsumerThread, Worker
from loguru import logger

from broker.consumer import LaneConsumer
from broker.transport import Transport
from contracts.envelope import LANES, LIVE

#: How often an idle thread looks whether it should stop.
IDLE_MS = 250


class _Work(msgspec.Struct, frozen=True):
    message: MessageProxy


class _FirstInFirstOut(queue.SimpleQueue[_Work | None]):
    """A work queue for actors of one priority: C code, where Dramatiq's own sorts in Python.

    A thread must be woken to leave. Until Python 3.13 one whose time runs out just as another takes the message it was
    woken for waits for the next message for ever, whatever its timeout: what is left of that is negative by then.
    """

    def get(self, block: bool = True, timeout: float | None = None) -> _Work:
        """Raises queue.Empty: nothing came in time, or the thread has been woken."""
        if (work := super().get(block, timeout)) is None:
            raise queue.Empty
        return work

    def get_nowait(self) -> _Work:
        """The next message, whoever is still to be woken. Raises queue.Empty."""
        while (work := super().get_nowait()) is None:
            pass
        return work

    def wake(self, threads: int) -> None:
        """Let so many threads look up from waiting."""
        for _ in range(threads):
            self.put(None)

    def task_done(self) -> None:
        """Nobody waits for the queue to be empty: what is unfinished is known by its delivery."""


class _Feed(ConsumerThread):
    """What Dramatiq's worker takes for the consumer thread of a queue; it has no thread."""

    def start(self) -> None:
        """Consume the queue: whatever arrives goes straight to the worker threads."""
        self.running = True
        self.broker.emit_after("consumer_thread_boot", self)
        self.consumer = self.broker.consume(self.queue_name, self.prefetch, self.worker_timeout)
        assert isinstance(self.consumer, LaneConsumer)
        self.consumer.feed(self.handle_message if isinstance(self.work_queue, queue.PriorityQueue) else self._hand_on)

    def _hand_on(self, message: MessageProxy) -> None:
        self.work_queue.put(_Work(message))

    def join(self, timeout: float | None = None) -> None:
        """Nothing to wait for."""
        if not self.running:
            self.broker.emit_before("consumer_thread_shutdown", self)


class _LaneWorker(Worker):
    """Dramatiq's worker, fed by the event loop."""

    def start(self) -> None:
        if len({actor.priority for actor in self.broker.actors.values()}) <= 1:
            self.work_queue = _FirstInFirstOut()
        super().start()

    def stop(self, timeout: int = 600_000) -> None:
        """Stop the threads, whatever they wait for; `timeout` is in milliseconds."""
        for thread in self.workers:
            thread.stop()
        if isinstance(self.work_queue, _FirstInFirstOut):
            self.work_queue.wake(len(self.workers))
        super().stop(timeout)

    def _add_consumer(self, queue_name: str, *, delay: bool = False) -> None:
        if queue_name not in self.consumers and queue_name in self.consumer_whitelist:
            feed = self.consumers[queue_name] = _Feed(
                broker=self.broker,
                queue_name=queue_name,
                prefetch=self.queue_prefetch,
                work_queue=self.work_queue,
                worker_timeout=self.worker_timeout,
            )
            feed.start()


class WorkerGroup:
    """One Dramatiq worker per lane, each with threads of its own: bulk work never delays live work in a process either.

    `threads` says how many, by lane. Queues of no lane (actors that are no stage) belong to the live lane's worker.
    """

    def __init__(self, broker: Transport, lanes: Sequence[str], threads: Mapping[str, int]) -> None:
        self._broker = broker
        self._queues: set[str] = set()
        self._workers = [self._worker(lane, threads[lane]) for lane in lanes]

    def _worker(self, lane: str, threads: int) -> Worker:
        def belongs(queue: str) -> bool:
            last = queue.rpartition(".")[2]
            return last == lane or (last not in LANES and lane == LIVE)

        queues = {queue for queue in self._broker.queues if belongs(queue)}
        self._queues |= queues
        # An empty set means "all queues" to Dramatiq.
        return _LaneWorker(self._broker, queues=queues or {lane}, worker_threads=threads, worker_timeout=IDLE_MS)

    def start(self) -> None:
        """Begin to consume. Queues declared later are not consumed."""
        self._broker.boot()
        for worker in self._workers:
            before = list(self._broker.middleware)
            worker.start()
            # What it added tells it of further queues. Left there, a second worker would be taken for a mistake.
            self._broker.middleware[:] = before

    @property
    def consuming(self) -> bool:
        """Every queue of these lanes is consumed at this moment."""
        fed = {consumer.queue_name for consumer in self._broker.consumers if self._broker.feeds(consumer)}
        return self._queues <= fed

    @property
    def threads_lost(self) -> int:
        """Threads that died: an interruption meant for a stage can hit one just after its stage has returned."""
        return sum(not thread.is_alive() for worker in self._workers for thread in worker.workers)

    async def stop(self, grace_ms: int) -> None:
        """Stop taking messages, let what runs finish within the grace, give the rest back to the broker."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace_ms / 1000
        consumers = self._consumers()
        for consumer in consumers:
            consumer.draining = True
        await asyncio.gather(*(self._broker.cancel(consumer) for consumer in consumers))
        # Actors that want to be told (`notify_shutdown`) hear of it now, while there is time to finish in good order.
        await asyncio.to_thread(self._broker.emit_before, "worker_shutdown", self._workers[0])
        for consumer in consumers:
            consumer.arrive(None)
        await self._settled(consumers, deadline)
        rest_ms = max(0, int((deadline - loop.time()) * 1000))
        await asyncio.gather(*(asyncio.to_thread(worker.stop, rest_ms) for worker in self._workers))
        unfinished = sum(len(consumer.started) for consumer in consumers)
        if unfinished:
            logger.bind(event="stopped_unfinished").warning("{} messages unfinished, to be delivered again", unfinished)
        # A consumer thread may have come up only while we were stopping.
        await asyncio.gather(*(self._broker.detach(consumer) for consumer in {*consumers, *self._consumers()}))

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
