"""The one interface behind which every contender works, and the arrangement that they all get the same of.

A contender runs in processes of its own: its workers, and one publisher. The run itself imports none of them.
"""

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import ClassVar

import msgspec

from benchmarks.events import HOPS
from benchmarks.tally import Tally

#: How the arrangement travels to a contender's processes.
VARIABLE = "TIEOUT_BENCHMARK"

#: Workers of a contender.
PROCESSES = 2

#: Put these events (the first number, how many) on the first queue; return when all are confirmed.
Publish = Callable[[int, int], Awaitable[None]]


class Arrangement(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for every contender of a round, and the names that only this one uses."""

    amqp_url: str
    database_url: str
    prefix: str
    tally_folder: str
    slots: int
    queue_type: str = "quorum"
    processes: int = PROCESSES
    lane: str = "live"

    @classmethod
    def from_environment(cls) -> "Arrangement":
        return msgspec.json.decode(os.environ[VARIABLE], type=cls)

    @property
    def folder(self) -> Path:
        """A folder of this session's own, for what its processes share."""
        return Path(self.tally_folder).parent

    def environment(self) -> dict[str, str]:
        return {VARIABLE: msgspec.json.encode(self).decode()}

    @property
    def hops(self) -> tuple[str, ...]:
        """Five names, to be used for queues where the library leaves us the choice."""
        return tuple(f"{self.prefix}.hop{number}" for number in range(1, HOPS + 1))

    def tally(self) -> Tally:
        return Tally(Path(self.tally_folder), self.slots)


class Contender(ABC):
    """One library with its settings: how its workers are started, and how events are published to it.

    `settings` says for each setting that matters for loss or speed why it has the value it has.
    """

    libraries: ClassVar[tuple[str, ...]] = ()
    settings: ClassVar[Mapping[str, str]] = {}

    def __init__(self, arrangement: Arrangement) -> None:
        self.arrangement = arrangement

    @abstractmethod
    def queues(self) -> tuple[str, ...]:
        """The work queues, one per hop."""

    def leftovers(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Other queues, and exchanges, that it declares on the server: removed afterwards with the work queues."""
        return (), ()

    def consumers(self) -> int:
        """How many consumers each work queue has once all workers are up."""
        return self.arrangement.processes

    def workers(self) -> list[list[str]]:
        """The commands that start the workers: by default one process each that runs `work`."""
        return [[sys.executable, "-m", "benchmarks.worker", type(self).__module__]] * self.arrangement.processes

    async def work(self) -> None:
        """Run until cancelled; only for contenders without a command line of their own."""
        raise NotImplementedError(f"{type(self).__name__} has a command line of its own")

    @abstractmethod
    def publisher(self) -> AbstractAsyncContextManager[Publish]:
        """Connect, and disconnect at the end."""
