"""The product's processes: started again whenever they end, as a PaaS does, killed when the run says so."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import IO

import psutil

from tests.acceptance.product import REPOSITORY

restart_pause_s = 0.5
grace_s = 20
#: How often only one child is killed.
one_child_only = 0.4


class Process:
    """One `tieout` command that stays; its log goes to `<name>.log`."""

    def __init__(self, name: str, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.name, self.restarts = name, 0
        self.exits: Counter[int] = Counter()
        self._arguments, self._folder, self._environment = arguments, folder, environment
        self._wanted = True
        self._running: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        self._running = start(self._arguments, self._folder, self._environment, self.name)

    def kill(self, random: Random) -> None:
        """SIGKILL for the whole process group, or for one child of it: whoever started that has to notice."""
        with self._lock:
            if self._running is None or self._running.poll() is not None:
                return
            children = psutil.Process(self._running.pid).children(recursive=True)
            if children and random.random() < one_child_only:
                random.choice(children).kill()
            else:
                os.killpg(self._running.pid, signal.SIGKILL)

    def look_after(self) -> None:
        """Start it again when it has ended; what it left running in its group ends with it."""
        with self._lock:
            if self._wanted and self._running is not None and self._running.poll() is not None:
                self.exits[self._running.returncode] += 1
                _end_group(self._running)
                self.restarts += 1
                self.start()

    def stop(self) -> int:
        """SIGTERM; returns its exit status, or -9 when it had to be killed after the grace."""
        with self._lock:
            self._wanted = False
            if self._running is None:
                return 0
            if self._running.poll() is None:
                self._running.terminate()
            try:
                return self._running.wait(grace_s)
            except subprocess.TimeoutExpired:
                return -signal.SIGKILL
            finally:
                _end_group(self._running)
                self._running.wait()


class Supervisor:
    """Looks after processes in a thread of its own."""

    def __init__(self, processes: list[Process]) -> None:
        self.processes = processes
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        for process in processes:
            process.start()
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(restart_pause_s):
            for process in self.processes:
                process.look_after()

    def stop(self) -> dict[str, int]:
        """Stop them all; returns exit statuses by name."""
        self._stop.set()
        self._thread.join()
        return {process.name: process.stop() for process in self.processes}


def environment_of(folder: Path, database_url: str, amqp_url: str, **settings: str) -> dict[str, str]:
    """What a process of the product finds in its environment: nothing of the caller's own deployment."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LC_ALL") if name in os.environ}
    ours = {"DATABASE_URL": database_url, "AMQP_URL": amqp_url, "TIEOUT_DATA_DIR": str(folder / "var")}
    # The product of this very checkout, wherever the one in the virtual environment came from.
    return inherited | ours | settings | {"PYTHONPATH": str(REPOSITORY)}


def start(
    arguments: list[str], folder: Path, environment: dict[str, str], log: str, output: IO[str] | None = None
) -> "subprocess.Popen[bytes]":
    """Start a command; what it says goes to `<log>.log`, its standard output to `output` where that is given."""
    with (folder / f"{log}.log").open("ab") as logged:
        logged.write(f"=== {time.strftime('%H:%M:%S')} {' '.join(arguments)}\n".encode())
        logged.flush()
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("tieout")), *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output or logged,
            stderr=logged,
            start_new_session=True,
        )


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
