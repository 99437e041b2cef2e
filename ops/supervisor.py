"""Supervisor: starts workers as processes of their own, restarts one that crashed, and ends them all together.

It does no work itself and opens no connection. Each worker is a fresh interpreter that holds one end of a socket: there
it tells its status, and there it notices when we are gone (see `ops/supervised.py`).

The first worker goes ahead, and the others follow once it is ready: what keeps every worker from starting (a setting,
a server out of reach) is said once, and ends us with that worker's exit status. From then on a worker that ends is
started again, after a pause that doubles up to `pause_ms_max` and begins anew when it has been ready for `steady_s`.
One that has been ready and tells nothing any more hangs, and is ended for that.
"""

import asyncio
import signal
import socket
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
from loguru import logger

from broker.backoff import pauses_s
from ops.readiness import Roster, Status, status_every_s

#: (a worker's name, the file descriptor of its end of the socket) -> its command line
Command = Callable[[str, int], Sequence[str]]

#: How long a worker may tell nothing: four times as long as it takes from one status to the next. Counted in as many
#: parts, since what it has said while we were stopped ourselves (Ctrl-Z, a paused container) is heard in the next one.
silent_s_max = 60.0
silent_parts = 4

#: How much longer than the grace a worker may take to leave: to close what it has open.
margin_ms = 750


def leave_within_s(grace_ms: int) -> float:
    """Seconds from being asked to leave to being killed."""
    return (grace_ms + margin_ms) / 1000


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """How long a worker that ended waits for its next start."""

    pause_ms_first: int = 500
    pause_ms_max: int = 30_000
    steady_s: float = 60


class _Worker:
    """One worker over all its lives."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: Process | None = None
        self.restarts = 0
        self.ready_since: float | None = None  # in this life, on the loop's clock

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None else 0

    def send(self, number: signal.Signals) -> None:
        if self.process is not None and self.alive:
            try:
                self.process.send_signal(number)
            except ProcessLookupError:
                return  # gone in the meantime


class Supervisor:
    """Runs one worker per name until `stop` is set.

    Args:
      grace_ms: how long workers may take to finish what they have begun; each is told the same.
      silent_s: how long one that has been ready may tell nothing; by default a minute, or more than it may take to
        leave.
    """

    def __init__(
        self,
        names: Sequence[str],
        command: Command,
        roster: Roster,
        *,
        grace_ms: int,
        backoff: Backoff | None = None,
        silent_s: float | None = None,
    ) -> None:
        self.stop = asyncio.Event()
        self._workers = [_Worker(name) for name in names]
        self._command = command
        self._roster = roster
        self._grace_ms = grace_ms
        self._backoff = backoff or Backoff()
        # Somebody may have told it to leave right before its next status, and it tells nothing while it finishes.
        self._silent_s = silent_s or max(silent_s_max, 2 * status_every_s + leave_within_s(grace_ms))
        self._at_once = asyncio.Event()
        self._proven = asyncio.Event()  # one has been ready: what it started with is right
        self._status = 0
        self._tasks: list[asyncio.Task[None]] = []

    def leave_at_once(self) -> None:
        """Don't wait for the grace to pass. What is cut off is unacknowledged, and will be delivered again."""
        self.stop.set()
        self._at_once.set()

    async def run(self) -> int:
        """Run the workers to their end.

        Returns:
          0 when they left in order; the first worker's exit status when it could not start; else 1.
        """
        first, *others = self._workers
        self._spawn(self._keep(first))
        await _first_of(self._proven.wait(), self.stop.wait())
        if self._status:
            return self._status
        for worker in others:
            self._spawn(self._keep(worker))
        await self.stop.wait()
        self._roster.close()
        await self._end()
        return self._status

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda _: self.stop.set())  # it ends when we stop, or for a defect of ours
        self._tasks.append(task)

    async def _keep(self, worker: _Worker) -> None:
        """Start it, and start it again each time it ends, until we stop."""
        loop = asyncio.get_running_loop()
        backoff = self._backoff
        pauses = pauses_s(backoff.pause_ms_first, backoff.pause_ms_max)
        while not self.stop.is_set():
            status = await self._live(worker)
            self._roster.gone(worker.name)
            if self.stop.is_set():
                self._left(worker, status)
                return
            if not self._proven.is_set():
                self._status = status if status > 0 else 1
                # One that ends by itself has said why.
                level = "DEBUG" if status > 0 else "ERROR"
                logger.bind(event="not_started", worker=worker.name).log(level, "{}: {}", worker.name, _ended(status))
                return
            if worker.ready_since is not None and loop.time() - worker.ready_since >= backoff.steady_s:
                pauses = pauses_s(backoff.pause_ms_first, backoff.pause_ms_max)
            pause_s = next(pauses)
            worker.restarts += 1
            bound = logger.bind(
                event="worker_ended", worker=worker.name, worker_pid=worker.pid, restart_in_s=round(pause_s, 2)
            )
            bound.error("{}: {}; it is started again", worker.name, _ended(status))
            await _first_of(asyncio.sleep(pause_s), self.stop.wait())

    async def _live(self, worker: _Worker) -> int:
        """One life of a worker, from its start to its end; returns its exit status, negative for a signal."""
        worker.ready_since = None
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                worker.process = await asyncio.create_subprocess_exec(
                    *self._command(worker.name, theirs.fileno()), stdin=DEVNULL, pass_fds=[theirs.fileno()]
                )
            except OSError as error:
                ours.close()
                logger.bind(event="not_spawned", worker=worker.name).error("can't start {}: {}", worker.name, error)
                return 1
        logger.bind(event="worker_spawned", worker=worker.name, worker_pid=worker.pid).info("started {}", worker.name)
        if self.stop.is_set():
            worker.send(signal.SIGTERM)
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            while line := await self._told(worker, reader):
                self._heard(worker, line)
        finally:
            writer.close()
        return await worker.process.wait()

    async def _told(self, worker: _Worker, reader: asyncio.StreamReader) -> bytes:
        """The worker's next status; empty when it has ended. One that hangs, with all it has taken on, is ended."""
        while True:
            for _ in range(silent_parts):
                try:
                    async with asyncio.timeout(self._silent_s / silent_parts):
                        return await reader.readline()
                except TimeoutError:
                    continue
            if worker.ready_since is not None and not self.stop.is_set():
                self._roster.gone(worker.name)
                bound = logger.bind(event="worker_hangs", worker=worker.name, worker_pid=worker.pid)
                bound.error("{} has told nothing for {:g} s and is ended: it hangs", worker.name, self._silent_s)
                worker.send(signal.SIGKILL)

    def _heard(self, worker: _Worker, line: bytes) -> None:
        try:
            status = msgspec.json.decode(line, type=Status)
        except msgspec.DecodeError as error:
            # Cut short, since we were too busy to listen; the next one follows.
            logger.bind(event="status_undecodable", worker=worker.name).warning("{}", error)
            return
        if status.ready:
            worker.ready_since = worker.ready_since or asyncio.get_running_loop().time()
            self._proven.set()
        self._roster.tell(worker.name, worker.pid, status, worker.restarts)

    def _left(self, worker: _Worker, status: int) -> None:
        """It has ended because we stop. One that had not been ready had nothing to finish."""
        if status != 0 and worker.ready_since is not None:
            self._status = 1
            bound = logger.bind(event="worker_cut_off", worker=worker.name, worker_pid=worker.pid)
            bound.error("{}: {}", worker.name, _ended(status))

    async def _end(self) -> None:
        """Ask all to leave, wait for the grace and a margin, kill who is left."""
        logger.bind(event="stopping", grace_ms=self._grace_ms).info("finishing what has begun")
        for worker in self._workers:
            worker.send(signal.SIGTERM)
        ended = asyncio.gather(*self._tasks)
        within_s = leave_within_s(self._grace_ms)
        await _first_of(asyncio.wait(self._tasks), self._at_once.wait(), asyncio.sleep(within_s))
        why = "told to leave at once" if self._at_once.is_set() else f"did not leave within {within_s:g} s"
        for worker in self._workers:
            if worker.alive:
                self._status = 1
                bound = logger.bind(event="worker_killed", worker=worker.name, worker_pid=worker.pid)
                bound.error("killed {} (pid {}): {}", worker.name, worker.pid, why)
                worker.send(signal.SIGKILL)
        await ended
        logger.bind(event="stopped", exit_status=self._status).info("stopped")


def _ended(status: int) -> str:
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


async def _first_of(*awaited: Coroutine[Any, Any, object]) -> None:
    """Wait for the first of these, and give up the others."""
    tasks = [asyncio.ensure_future(one) for one in awaited]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
