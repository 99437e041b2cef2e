"""Drives the installed product from outside, as an operator's shell would."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
wait_s_max = 120


class Product:
    """`tieout` in a folder of its own, with nothing in its environment but what the test says."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LC_ALL") if name in os.environ}
        self.environment = inherited | environment | {"TIEOUT_DATA_DIR": str(folder / "var")}

    def command(self, *arguments: str | Path) -> list[str]:
        return [str(Path(sys.executable).with_name("tieout")), *map(str, arguments)]

    def run(
        self, *arguments: str | Path, expect: int | None = 0, timeout_s: int = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; a wrong exit status shows everything it said."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
        said = f"\n{arguments}: exit {done.returncode}\nstdout: {done.stdout[-4000:]}\nstderr: {done.stderr[-6000:]}"
        assert expect is None or done.returncode == expect, said
        assert "Traceback (most recent call last)" not in done.stderr, said
        return done

    def json(self, *arguments: str | Path, expect: int | None = 0, timeout_s: int = 300) -> Any:
        """Run a command with `--json` and decode the one document it prints."""
        done = self.run(*arguments, "--json", expect=expect, timeout_s=timeout_s)
        return json.loads(done.stdout)

    def start(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """Start a process that stays; its log goes to a file beside the data."""
        with (self.folder / f"{arguments[0]}.log").open("ab") as log:
            return subprocess.Popen(
                self.command(*arguments),
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @contextmanager
    def running(self, *arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
        """A process for the length of the block; it must leave by itself within the grace when asked to."""
        process = self.start(*arguments)
        try:
            yield process
            assert process.poll() is None, (self.folder / f"{arguments[0]}.log").read_text()[-6000:]
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0, (self.folder / f"{arguments[0]}.log").read_text()[-6000:]
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def sheets(self, *, expect: int | None = 0) -> dict[tuple[str, str], dict[str, Any]]:
        """The balance, by document type and currency."""
        return {(sheet["document_type"], sheet["currency"]): sheet for sheet in self.json("balance", expect=expect)}

    def unfinished(self, *, expect: int | None = None) -> int:
        """How many records are still on their way, or in the target and not read back yet."""
        moving = ("in_flight", "in_doubt", "submitted", "posted")
        return sum(sheet[state] for sheet in self.sheets(expect=expect).values() for state in moving)


def wait_until(holds: Callable[[], bool], what: str, *, within_s: float = wait_s_max, every_s: float = 0.05) -> None:
    """Wait for a condition, however long it takes within the bound."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"still not after {within_s} s: {what}"
        time.sleep(every_s)
