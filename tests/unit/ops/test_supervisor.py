"""The supervisor, over real processes: small programs that tell their status as a worker does."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from loguru import logger

from ops.readiness import ReadyFile, Roster, look
from ops.supervisor import Backoff, Supervisor

#: Does what the file of its name says: `work` until SIGTERM, `end` once it was ready, `fail` before, `stay` for ever.
WORKER = """
import os, signal, sys, time
name, descriptor, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
with open(f"{folder}/lives", "a") as lives:
    lives.write(f"{name}\\n")
does = open(f"{folder}/{name}").read()
signal.signal(signal.SIGTERM, signal.SIG_IGN if does == "stay" else lambda *_: sys.exit(0))
if does == "fail":
    sys.exit(2)
os.write(descriptor, b'{"ready": true, "rss_mb": 12.5}\\n')
if does == "end":
    sys.exit(3)
while True:
    time.sleep(60)
"""

QUICK = Backoff(pause_ms_first=20, pause_ms_max=160, steady_s=600)


class Rig:
    """A supervisor of workers that do what they are told."""

    def __init__(self, folder: Path, **does: str) -> None:
        self.folder, self.path = folder, folder / "ready"
        self.names = tuple(does)
        for name, what in does.items():
            self.tell(name, what)
        self.roster = Roster(self.names, ReadyFile(self.path))
        self.supervisor: Supervisor
        self.running: asyncio.Task[int]

    def tell(self, name: str, what: str) -> None:
        (self.folder / name).write_text(what)

    def command(self, name: str, descriptor: int) -> Sequence[str]:
        return [sys.executable, "-c", WORKER, name, str(descriptor), str(self.folder)]

    def start(self, *, grace_ms: int = 20_000, backoff: Backoff = QUICK, silent_s: float = 60) -> None:
        self.supervisor = Supervisor(
            self.names, self.command, self.roster, grace_ms=grace_ms, backoff=backoff, silent_s=silent_s
        )
        self.running = asyncio.create_task(self.supervisor.run())

    async def stop(self) -> int:
        self.supervisor.stop.set()
        return await self.running

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait for a condition, unless the supervisor fails first; the time limit only ends a test that fails."""
        async with asyncio.timeout(60):
            while not holds():
                assert not self.running.done(), self.running
                await asyncio.sleep(0.01)

    def pids(self) -> dict[str, int]:
        return {worker.name: worker.pid for worker in look(self.path).workers}

    def lives(self, name: str) -> int:
        return (self.folder / "lives").read_text().split().count(name)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Callable[..., Rig]]:
    rigs: list[Rig] = []
    before = set(psutil.Process().children())  # of other tests, or of multiprocessing

    def make(**does: str) -> Rig:
        rigs.append(Rig(tmp_path, **does))
        return rigs[-1]

    yield make
    for one in rigs:
        if hasattr(one, "running"):
            one.supervisor.leave_at_once()
            while not one.running.done():  # whatever a failed test has left behind
                for child in set(psutil.Process().children()) - before:
                    child.kill()
                await asyncio.wait((one.running,), timeout=0.1)
    assert set(psutil.Process().children()) <= before


@pytest.fixture
def said() -> Iterator[list[dict[str, Any]]]:
    """The fields of every log line."""
    lines: list[dict[str, Any]] = []
    sink = logger.add(lambda line: lines.append(line.record["extra"] | {"text": line.record["message"]}), level="DEBUG")
    yield lines
    logger.remove(sink)


def named(said: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [line for line in said if line.get("event") == event]


async def test_it_is_ready_once_every_worker_is_and_not_when_it_stops(rig, said):
    three = rig(a="work", b="work", c="work")
    three.start()
    await three.until(lambda: look(three.path).ready)
    assert list(three.pids()) == ["a", "b", "c"]
    assert len(named(said, "ready")) == 1
    assert await three.stop() == 0
    assert not look(three.path).ready


async def test_a_killed_worker_is_started_again_while_its_siblings_go_on(rig, said):
    two = rig(a="work", b="work")
    two.start()
    await two.until(lambda: look(two.path).ready)
    before = two.pids()
    os.kill(before["a"], signal.SIGKILL)
    await two.until(lambda: two.roster.ready and two.pids()["a"] != before["a"])
    assert two.pids()["b"] == before["b"]
    assert two.lives("b") == 1
    (ended,) = named(said, "worker_ended")
    assert "SIGKILL" in ended["text"]
    assert [worker.restarts for worker in look(two.path).workers] == [1, 0]
    assert await two.stop() == 0


async def test_a_worker_that_hangs_is_ended_and_started_again(rig, said):
    one = rig(a="stay")
    one.start(grace_ms=0, silent_s=0.5)
    await one.until(lambda: look(one.path).ready)
    before = one.pids()
    one.tell("a", "work")
    await one.until(lambda: one.roster.ready and one.pids() != before)
    assert named(said, "worker_hangs")[0]["worker_pid"] == before["a"]
    assert one.lives("a") >= 2
    assert await one.stop() == 0


async def test_nothing_is_ready_while_a_worker_is_down(rig):
    two = rig(a="work", b="work")
    two.start()
    await two.until(lambda: look(two.path).ready)
    two.tell("b", "fail")
    os.kill(two.pids()["b"], signal.SIGKILL)
    await two.until(lambda: two.lives("b") > 2)
    assert not look(two.path).ready
    two.tell("b", "work")
    await two.until(lambda: look(two.path).ready)


async def test_what_keeps_the_first_from_starting_ends_all_with_its_exit_status(rig, said):
    three = rig(a="fail", b="fail", c="fail")
    three.start()
    assert await three.running == 2
    assert (three.folder / "lives").read_text().split() == ["a"]
    assert [line for line in said if line["event"] not in ("worker_spawned", "not_started")] == []


async def test_a_worker_that_cannot_start_later_on_is_tried_again(rig):
    two = rig(a="work", b="fail")
    two.start()
    await two.until(lambda: (two.folder / "lives").exists() and two.lives("b") == 4)
    assert two.lives("a") == 1
    assert await two.stop() == 0


async def test_pauses_grow_up_to_a_bound_while_it_ends_soon(rig, said):
    two = rig(a="work", b="end")
    two.start()
    await two.until(lambda: len(named(said, "worker_ended")) == 6)
    pauses_s = [line["restart_in_s"] for line in named(said, "worker_ended")]
    assert pauses_s[:4] == sorted(pauses_s[:4])
    assert pauses_s[0] <= 0.02
    assert all(0.08 <= pause_s <= 0.16 for pause_s in pauses_s[3:])


async def test_pauses_begin_anew_once_it_has_lived_for_a_while(rig, said):
    two = rig(a="work", b="end")
    two.start(backoff=Backoff(pause_ms_first=20, pause_ms_max=160, steady_s=0))
    await two.until(lambda: len(named(said, "worker_ended")) == 6)
    assert all(line["restart_in_s"] <= 0.02 for line in named(said, "worker_ended"))


async def test_who_does_not_leave_within_the_grace_is_killed_and_named(rig, said):
    two = rig(a="work", b="stay")
    two.start(grace_ms=10)
    await two.until(lambda: look(two.path).ready)
    pid = two.pids()["b"]
    assert await two.stop() == 1
    (killed,) = named(said, "worker_killed")
    assert (killed["worker"], killed["worker_pid"]) == ("b", pid)


async def test_told_to_leave_at_once_it_waits_for_nobody(rig, said):
    two = rig(a="stay", b="stay")
    two.start(grace_ms=3_600_000)
    await two.until(lambda: look(two.path).ready)
    two.supervisor.stop.set()
    await two.until(lambda: named(said, "stopping"))
    two.supervisor.leave_at_once()
    assert await two.running == 1
    assert {line["worker"] for line in named(said, "worker_killed")} == {"a", "b"}


async def test_a_stop_while_a_worker_waits_for_its_next_start_is_clean(rig, said):
    two = rig(a="work", b="fail")
    two.start(backoff=Backoff(pause_ms_first=3_600_000, pause_ms_max=3_600_000))
    await two.until(lambda: named(said, "worker_ended"))
    assert await two.stop() == 0
    assert two.lives("b") == 1
