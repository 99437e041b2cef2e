"""Readiness: whether every worker of a process consumes, as one log line and as a file that a platform can probe.

A worker listens on no port, so the file is the probe: it exists while every worker consumes, and its keeper holds a
lock on it. A file without that lock was left behind by a process that was killed, and counts for nothing.
"""

import fcntl
import os
from collections.abc import Sequence
from io import FileIO
from pathlib import Path

import msgspec
from loguru import logger

from pipeline.settings import InvalidSetting

#: How often at least a worker says how it is.
status_every_s = 15


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of itself: whether it consumes (a clock: whether it keeps time), and its memory in MiB."""

    ready: bool
    rss_mb: float


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One worker as the file shows it."""

    name: str
    pid: int
    rss_mb: float
    restarts: int = 0


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """What a probe finds."""

    ready: bool
    found: str
    workers: tuple[Member, ...] = ()


class ReadyFile:
    """The file, kept by one process at a time; without a path nothing is written."""

    def __init__(self, path: Path | None) -> None:
        """Take over the path: what a killed process left there goes.

        Raises:
          InvalidSetting: the file can't be written, or another process keeps it.
        """
        self._path = path
        self._held: FileIO | None = None
        if path is None:
            return
        if look(path).ready:
            raise InvalidSetting(f"TIEOUT_READY_FILE={path}: another process keeps it; each needs one of its own")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._draft.touch()
            self._draft.unlink()
            path.unlink(missing_ok=True)
        except OSError as error:
            raise InvalidSetting(f"TIEOUT_READY_FILE={path}: can't be written: {error.strerror}") from None

    def write(self, workers: Sequence[Member]) -> None:
        """Show these workers; the file changes as a whole, locked before anybody can see it."""
        if self._path is None:
            return
        draft = self._draft
        file = draft.open("wb", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(msgspec.json.encode(workers))
            draft.replace(self._path)
        except BaseException:
            file.close()
            draft.unlink(missing_ok=True)
            raise
        self._let_go()
        self._held = file

    def withdraw(self) -> None:
        """Not ready (any more)."""
        if self._path is not None and self._held is not None:
            self._path.unlink(missing_ok=True)
        self._let_go()

    @property
    def _draft(self) -> Path:
        assert self._path is not None
        return self._path.with_name(f"{self._path.name}.{os.getpid()}")

    def _let_go(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None


def look(path: Path) -> Readiness:
    """Probe the file of another process."""
    while True:
        try:
            with path.open("rb", buffering=0) as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    workers = msgspec.json.decode(file.readall() or b"[]", type=tuple[Member, ...])
                    return Readiness(ready=True, found=f"{len(workers)} at work", workers=workers)
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    return Readiness(ready=False, found=f"{path} was left behind by a process that is gone")
                # Replaced while we looked: look at the new one.
        except (FileNotFoundError, NotADirectoryError):
            return Readiness(ready=False, found=f"{path} is not there: not started, not ready yet, or stopping")


class Roster:
    """Keeps account of the workers of one process, and says when all of them are ready and when no longer."""

    def __init__(self, names: Sequence[str], file: ReadyFile) -> None:
        self._names = tuple(names)
        self._file = file
        self._members: dict[str, Member] = {}
        self._ready = False
        self._closed = False

    @property
    def ready(self) -> bool:
        return self._ready

    def tell(self, name: str, pid: int, status: Status, restarts: int = 0) -> None:
        """A worker's newest status."""
        if status.ready:
            self._members[name] = Member(name=name, pid=pid, rss_mb=status.rss_mb, restarts=restarts)
            self._update()
        else:
            self.gone(name)

    def gone(self, name: str) -> None:
        """It consumes no more: it lost its connection, it ended, or it is about to."""
        self._members.pop(name, None)
        self._update()

    def close(self) -> None:
        """The process is stopping: whoever sends it work may go elsewhere."""
        self._closed = True
        self._ready = False
        self._file.withdraw()

    def _update(self) -> None:
        if self._closed:
            return
        missing = [name for name in self._names if name not in self._members]
        members = [self._members[name] for name in self._names if name in self._members]
        if missing:
            if self._ready:
                logger.bind(event="not_ready", waiting_for=missing).warning("not ready")
            self._ready = False
            self._file.withdraw()
            return
        try:
            self._file.write(members)
        except OSError as error:
            logger.bind(event="ready_file_failed").error("TIEOUT_READY_FILE: {}", error)
            self._file.withdraw()
        if not self._ready:
            self._ready = True
            memory = {member.name: member.rss_mb for member in members}
            logger.bind(event="ready", rss_mb=memory).info("ready")
