"""A session: one contender up and running, to be given events and measured; taken down without a trace."""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
import pika

from benchmarks.child import Child, stop
from benchmarks.contender import PROCESSES, Arrangement
from benchmarks.contenders import Entrant
from benchmarks.processes import Peak, cpu_s
from benchmarks.publisher import Described, Done, Order
from benchmarks.servers import Servers, amqp, exchange_exists, own_name, remove, standing
from benchmarks.tally import TallyReader
from contracts.envelope import BULK, LIVE

Answer = TypeVar("Answer")

#: No contender needs as long as this; one that does has failed.
START_S = 60.0
STALL_S = 30.0
ANSWER_S = 300.0
POLL_S = 0.02
WARM_UP_EVENTS = 500


class Failed(Exception):
    """The contender did not do what it was asked; the text says what, and ends with its last words."""


class Burst(msgspec.Struct, frozen=True, kw_only=True):
    """Events published as fast as can be: from the first publish until the last hop has counted the last of them."""

    events: int
    seconds: float
    publish_s: float
    cpu_s: float
    servers_cpu_s: dict[str, float]

    @property
    def events_per_s(self) -> float:
        return self.events / self.seconds

    @property
    def cpu_s_per_1000(self) -> float:
        return 1000 * self.cpu_s / self.events


class Session:
    """Drives one contender. Made by `session`."""

    def __init__(self, entrant: Entrant, arrangement: Arrangement, servers: Servers, first: int) -> None:
        self.arrangement, self._servers, self._folder = arrangement, servers, arrangement.folder
        self._environment = os.environ | arrangement.environment() | {"PYTHONUNBUFFERED": "1"}
        self._tally = TallyReader(Path(arrangement.tally_folder))
        self._workers: list[Child] = []
        self._first = self._next = first
        self._to_remove: tuple[list[str], list[str]] = ([], [])
        command = [sys.executable, "-m", "benchmarks.publisher", entrant.module]
        self._publisher = Child(command, self._environment, self._folder / "publisher.log", talks=True)

    def open(self) -> None:
        """Wait until the publisher is connected and has said what the contender is like: `about`.

        Raises:
          Failed: it has ended instead.
        """
        self.about = self._answer(Described)
        self._to_remove = self._declared_by_it()

    # Processes

    def start_workers(self) -> None:
        """Start the workers and wait until each consumes from every queue.

        Raises:
          Failed: they end, or are not there in time.
        """
        self._spawn_workers()
        with amqp(self.arrangement.amqp_url) as connection:
            for queue in self.about.queues:
                self._wait_for_consumers(connection, queue, self.about.consumers)

    def _spawn_workers(self) -> None:
        for number, command in enumerate(self.about.workers, 1):
            self._workers.append(Child(command, self._environment, self._folder / f"worker-{number}.log"))

    def _wait_for_consumers(self, connection: pika.BlockingConnection, queue: str, count: int) -> None:
        deadline = time.monotonic() + START_S
        while (found := standing(connection, queue)) is None or found[1] < count:
            self._check(deadline, f"{queue} has not {count} consumers after {START_S:g} s")
            time.sleep(POLL_S)

    def close(self) -> None:
        """End every process, and delete what the contender declared."""
        stop([self._publisher, *self._workers])
        remove(self.arrangement.amqp_url, *self._to_remove)

    def _declared_by_it(self) -> tuple[list[str], list[str]]:
        """Queues and exchanges to remove in the end: under names that others share, only what is not there yet."""
        about, prefix = self.about, self.arrangement.prefix
        queues, exchanges = (*about.queues, *about.other_queues), about.exchanges
        with amqp(self.arrangement.amqp_url) as connection:
            return (
                [name for name in queues if name.startswith(prefix) or standing(connection, name) is None],
                [name for name in exchanges if name.startswith(prefix) or not exchange_exists(connection, name)],
            )

    def watch_memory(self) -> Peak:
        return Peak(process.pid for process in self._workers)

    # Work

    def warm_up(self) -> None:
        """Some events that nobody measures: connections are opened, code is loaded."""
        self.burst(WARM_UP_EVENTS)

    def publish(self, events: int) -> Done:
        """Publish without waiting for the workers; returns when all are confirmed."""
        first = self._take(events)
        return self._order(Order(first=first, count=events))

    def burst(self, events: int, meanwhile: Callable[[Callable[[], bool]], None] | None = None) -> Burst:
        """Publish so many events and wait until the last hop has counted all of them.

        `meanwhile` is called once they are on their way, with a function that says whether all have been counted.
        """
        first = self._take(events)
        before = self._costs()
        self._tell(Order(first=first, count=events))
        if meanwhile is not None:
            meanwhile(lambda: not self._missing(range(first, first + events)))
        self.wait_for(first, events)
        after = self._costs()
        done = self._answer(Done)
        return self._burst(first, events, done, before, after)

    def drain(self) -> Burst:
        """Start the workers on what is queued; time and cost count once WARM_UP_EVENTS of them, half at most, are
        through: what a worker loads and prepares when it starts is no cost of an event.
        """
        self._spawn_workers()
        queued = range(self._first, self._next)
        warm_up = min(WARM_UP_EVENTS, len(queued) // 2)
        with amqp(self.arrangement.amqp_url) as connection:
            self._wait_for_consumers(connection, self.about.queues[0], 1)
        deadline = time.monotonic() + START_S
        while len(missing := self._missing(queued)) > len(queued) - warm_up:
            self._check(deadline, f"{len(missing)} of {len(queued)} events missing after {START_S:g} s")
            time.sleep(POLL_S)
        before, began = self._costs(), time.monotonic()
        self.wait_for(self._first, len(queued))
        done = Done(began=began, ended=began)
        found = self._burst(self._first, len(queued), done, before, self._costs())
        # By the clock: more are through since we looked, while the cost was being read.
        return msgspec.structs.replace(found, events=sum(self._tally.done[number] > began for number in queued))

    def paced(self, events: int, per_s: float) -> list[float]:
        """Publish so many events a second; returns the milliseconds from before each publish until its last hop."""
        first = self._take(events)
        done = self._order(Order(first=first, count=events, per_s=per_s))
        self.wait_for(first, events)
        return [1000 * (self._tally.done[first + number] - sent) for number, sent in enumerate(done.sent)]

    def wait_for(self, first: int, events: int) -> None:
        """Wait until each of these has been counted.

        Raises:
          Failed: nothing has been counted for STALL_S.
        """
        deadline = time.monotonic() + STALL_S
        missing = self._missing(range(first, first + events))
        while missing:
            time.sleep(POLL_S)
            left = self._missing(missing)
            if len(left) < len(missing):
                deadline = time.monotonic() + STALL_S
            missing = left
            self._check(deadline, f"{len(missing)} of {events} events missing, none came for {STALL_S:g} s")

    def _missing(self, numbers: Iterable[int]) -> list[int]:
        """Those of these that have not been counted yet."""
        self._tally.refresh()
        return [number for number in numbers if number not in self._tally.done]

    @property
    def repeated(self) -> int:
        """How many events the last hop has counted more than once."""
        return self._tally.repeated

    def _burst(self, first: int, events: int, done: Done, before: "_Costs", after: "_Costs") -> Burst:
        last = max(self._tally.done[number] for number in range(first, first + events))
        return Burst(
            events=events,
            seconds=last - done.began,
            publish_s=done.ended - done.began,
            cpu_s=after.own - before.own,
            servers_cpu_s={name: after.servers[name] - before.servers[name] for name in before.servers},
        )

    def _take(self, events: int) -> int:
        first, self._next = self._next, self._next + events
        return first

    def _costs(self) -> "_Costs":
        own = cpu_s([self._publisher.pid, *(process.pid for process in self._workers)])
        return _Costs(own=own, servers=self._servers.cpu_s())

    # Talking to the publisher

    def _order(self, order: Order) -> Done:
        self._tell(order)
        return self._answer(Done)

    def _tell(self, order: Order) -> None:
        self._publisher.say(msgspec.json.encode(order))

    def _answer(self, kind: type[Answer]) -> Answer:
        if not (line := self._publisher.hear(ANSWER_S)):
            raise Failed(f"the publisher ended, or said nothing for {ANSWER_S:g} s{self._publisher.last_words()}")
        return msgspec.json.decode(line, type=kind)

    def _check(self, deadline: float, complaint: str) -> None:
        for number, worker in enumerate(self._workers, 1):
            if worker.ended is not None:
                raise Failed(f"worker {number} ended with {worker.ended}{worker.last_words()}")
        if time.monotonic() > deadline:
            raise Failed(f"{complaint}{self._workers[0].last_words()}")


class _Costs(msgspec.Struct, frozen=True, kw_only=True):
    own: float
    servers: dict[str, float]


@contextmanager
def session(
    entrant: Entrant,
    servers: Servers,
    *,
    slots: int,
    beside: Arrangement | None = None,
    first: int = 0,
    processes: int = PROCESSES,
) -> Iterator[Session]:
    """A contender with names of its own on the servers; afterwards its processes, queues and database are gone.

    Args:
      slots: how often one process may count at most.
      beside: the arrangement of another session, whose names and database this one shares.
      first: the number of the first event; those of sessions beside each other must differ.
      processes: how many workers it has.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tieout-bench-")))
        (folder / "tally").mkdir()
        if beside is not None:
            url, prefix = beside.database_url, beside.prefix
        else:
            url = stack.enter_context(servers.database()) if entrant.needs_database else servers.database_url
            prefix = own_name()
        arrangement = Arrangement(
            amqp_url=servers.amqp_url,
            database_url=url,
            prefix=prefix,
            tally_folder=str(folder / "tally"),
            slots=slots,
            queue_type=entrant.queue_type,
            processes=processes,
            lane=BULK if entrant.bulk else LIVE,
        )
        opened = Session(entrant, arrangement, servers, first)
        stack.callback(opened.close)
        opened.open()
        yield opened
