"""The tally: what the last hop counts, shared by all processes of a contender without a server in between.

Each process writes a file of its own: one slot per event, when it was done (seconds of the machine's monotonic clock)
and which it was. The run reads along; an event that comes twice is done once.
"""

import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

_SLOT = struct.Struct("<dQ")


class Tally:
    """The writing side. `count` may be called from any thread, also after a fork: each process finds its own file."""

    def __init__(self, folder: Path, slots: int) -> None:
        self._folder, self._slots = folder, slots
        self._pid = 0
        self._opening = threading.Lock()

    def count(self, number: int) -> None:
        """Event `number` has been through its last hop."""
        if self._pid != os.getpid():
            self._open()
        # Taking the next slot is one step even between threads; 0 says that a slot is empty, so numbers begin at 1.
        _SLOT.pack_into(self._map, next(self._next) * _SLOT.size, time.monotonic(), number + 1)

    def _open(self) -> None:
        with self._opening:
            if self._pid == os.getpid():
                return
            with (self._folder / f"{os.getpid()}.tally").open("w+b") as file:
                file.truncate(self._slots * _SLOT.size)
                self._map = mmap.mmap(file.fileno(), 0)
            self._next = count()
            self._pid = os.getpid()


class TallyReader:
    """The reading side: when each event was done first, and how many came again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}
        self.done: dict[int, float] = {}
        self.repeated = 0

    def refresh(self) -> None:
        """Read what has been counted since the last time."""
        for path in self._folder.glob("*.tally"):
            for number, at in self._new_in(path):
                self.repeated += number in self.done
                self.done[number] = min(at, self.done.get(number, at))

    def _new_in(self, path: Path) -> Iterator[tuple[int, float]]:
        position = self._read.get(path, 0)
        with path.open("rb") as file:
            file.seek(position)
            while len(slot := file.read(_SLOT.size)) == _SLOT.size:
                at, number = _SLOT.unpack(slot)
                if not (at and number):
                    break
                position += _SLOT.size
                yield number - 1, at
        self._read[path] = position
