"""A process of a contender: its log, its last words, and its end, with everything that it has forked."""

import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

STOP_S = 15.0
LOG_LINES_SHOWN = 12


class Child:
    """A process in a session of its own, so that Ctrl-C is ours to hand on. What it prints goes to its log.

    With `talks`, its standard input and output are pipes.
    """

    def __init__(self, command: Sequence[str], environment: dict[str, str], log: Path, *, talks: bool = False) -> None:
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else file,
                stderr=file,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def ended(self) -> int | None:
        """Its exit status, once it has one."""
        return self.process.poll()

    def say(self, line: bytes) -> None:
        """Write a line to it; one that has ended hears nothing, and its silence will be noticed."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(line + b"\n")
            self.process.stdin.flush()

    def hear(self, timeout_s: float) -> bytes:
        """The next line it says; empty when it has ended, or says nothing for so long. It says one line at a time."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], timeout_s)
        return self.process.stdout.readline() if ready else b""

    def last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        return "".join(f"\n    {line}" for line in lines[-LOG_LINES_SHOWN:])


def stop(children: Sequence[Child]) -> None:
    """Ask all of them to stop, then make them. For one that listens, the end of its input is asking enough."""
    for child in children:
        if child.process.stdin is None:
            child.process.send_signal(signal.SIGTERM)
            continue
        with suppress(BrokenPipeError):
            child.process.stdin.close()
    deadline = time.monotonic() + STOP_S
    for child in children:
        with suppress(subprocess.TimeoutExpired):
            child.process.wait(max(0.1, deadline - time.monotonic()))
        # Libraries fork: what is left of its session goes as well.
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.process.wait()
        if child.process.stdout is not None:
            child.process.stdout.close()
