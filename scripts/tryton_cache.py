"""Tryton installed, and a database of it seeded: made once, then kept below the user's cache directory.

Each thing is kept under a hash of what it is made from (lock file, seeding script), so that a change makes it anew. It
is built in a folder of its own that gets its name at the end, by one process while others wait: a build that was killed
leaves nothing behind that could be taken for a finished one.
"""

import fcntl
import hashlib
import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instances import CannotStart

SERIES = ("8.0", "8.2")
DATABASE = "erp"

step_timeout_s = 900
wait_timeout_s = 1800
poll_interval_s = 0.1
last_lines_shown = 12

_scripts = Path(__file__).parent / "erp"
_seeding = _scripts / "seed.py"

#: What a calling shell has set up for a Python of its own.
_foreign = {
    *("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON"),
    *("PIP_REQUIRE_VIRTUALENV", "TRYTOND_CONFIG", "TRYTOND_DATABASE_NAMES", "TRYTOND_LOGGING_CONFIG"),
}

Settings = dict[str, dict[str, str]]
Seed = dict[str, Any]


@dataclass(frozen=True)
class Database:
    """Where a Tryton database is: its name, the section of trytond.conf that leads there, what is in it by name."""

    name: str
    settings: dict[str, str]
    seed: Seed


def cache_directory() -> Path:
    """`TIEOUT_CACHE_DIR`, else what the system keeps for programs that cache."""
    if named := os.environ.get("TIEOUT_CACHE_DIR"):
        return Path(named).absolute() / "erp"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "tieout/erp"


def installed_tryton(series: str) -> Path:
    """The Python of an environment that Tryton is installed in, with the versions of its lock file.

    Raises:
      CannotStart: it can't be installed; pip's own words are in it.
    """
    lock = lock_file(series)
    interpreter = f"{sys.version} {sys.base_prefix}"

    def build(folder: Path) -> None:
        say(f"Installing Tryton {series} in an environment of its own: once, about half a minute")
        make = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
        run_step("making a virtual environment", make, folder / "log", "Debian and Ubuntu: apt install python3-venv")
        advice = "Is there a network? Behind a mirror, set PIP_INDEX_URL."
        install = [*installer(folder / "bin/python"), "--require-hashes", "-r", str(lock)]
        run_step(f"installing Tryton {series}", install, folder / "log", advice)

    return kept(f"tryton-{series}-{fingerprint(lock.read_bytes(), interpreter)}", build) / "bin/python"


def installer(python: Path) -> list[str]:
    """A command that installs into another environment than ours: uv where we have it, else pip."""
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python)]
    return [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-input"]


def prepared_sqlite(series: str) -> Path:
    """A folder with a seeded database in a file, `erp.sqlite`, and what is in it, `seed.json`: to copy, not to use.

    Raises:
      CannotStart: it can't be made.
    """
    python = installed_tryton(series)

    def build(folder: Path) -> None:
        say(f"Preparing a Tryton {series} database in SQLite: once, about a minute")
        (folder / f"{DATABASE}.sqlite").touch()
        run_seeding(python, "prepare", Database(DATABASE, sqlite_settings(folder), {}), folder)

    return kept(f"sqlite-{seeding_fingerprint(series)}", build)


def sqlite_settings(folder: Path) -> dict[str, str]:
    return {"uri": "sqlite://", "path": str(folder)}


def run_seeding(python: Path, verb: str, database: Database, folder: Path, *options: str) -> Seed:
    """Run the seeding script on a database; returns what is in it, which it also writes to `seed.json` in `folder`."""
    settings, written = folder / "seeding.conf", folder / "seed.json"
    write_settings(settings, {"database": database.settings})
    command = [str(python), str(_seeding), verb, "-c", str(settings), "-d", database.name, "-o", str(written), *options]
    run_step(f"seeding {database.name}", command, folder / "log")
    settings.unlink()  # names the folder that it was built in, and perhaps a password
    seed: Seed = json.loads(written.read_text())
    return seed


def write_settings(file: Path, settings: Settings) -> None:
    """Write a trytond.conf."""
    parser = ConfigParser(interpolation=None)
    parser.read_dict(settings)
    text = io.StringIO()
    parser.write(text)
    write_private(file, text.getvalue())


def write_private(file: Path, text: str) -> None:
    """Write a file that nobody else can read."""
    file.touch(mode=0o600)
    file.write_text(text)


def lock_file(series: str) -> Path:
    if series not in SERIES:
        raise CannotStart(f"no Tryton {series} here: choose one of {', '.join(SERIES)}")
    return _scripts / f"tryton-{series}.lock"


def seeding_fingerprint(series: str) -> str:
    return f"{series}-{fingerprint(lock_file(series).read_bytes(), _seeding.read_bytes())}"


def fingerprint(*parts: bytes | str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part.encode() if isinstance(part, str) else part).digest())
    return digest.hexdigest()[:16]


def kept(name: str, build: Callable[[Path], None]) -> Path:
    """The folder of that name in the cache; unless it is there, one process calls `build` with an empty folder.

    Raises:
      CannotStart: `build` could not do it, or the cache can't be written.
    """
    final = cache_directory() / name
    if final.is_dir():
        return final
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with alone(final.parent / f"{name}.lock"):
            if not final.is_dir():
                _build(final, build)
    except OSError as error:
        raise CannotStart(f"{final.parent} can't be used ({error}): name another with TIEOUT_CACHE_DIR") from error
    return final


def _build(final: Path, build: Callable[[Path], None]) -> None:
    """Build aside, then rename."""
    for abandoned in final.parent.glob(f"{final.name}.building-*"):  # whose builder was killed: we hold the lock
        shutil.rmtree(abandoned, ignore_errors=True)
    building = Path(tempfile.mkdtemp(prefix=f"{final.name}.building-", dir=final.parent))
    try:
        build(building)
        building.rename(final)
    finally:
        shutil.rmtree(building, ignore_errors=True)


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold a lock that ends with its process, whatever ends that."""
    deadline = time.monotonic() + wait_timeout_s
    with lock.open("w") as held:
        told = False
        while not _locked(held.fileno()):
            if not told:
                say("Another process is preparing the same: waiting for it")
                told = True
            if time.monotonic() > deadline:
                raise CannotStart(f"{lock} has been held by another process for {wait_timeout_s} s")
            time.sleep(poll_interval_s)
        yield


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def run_step(what: str, command: list[str], log: Path, advice: str = "", **added: str) -> None:
    """Run a command to its end, showing the lines of its standard output; it ends with us, if we are interrupted.

    Args:
      log: where its standard error goes.
      advice: what to do when it fails.
      added: to its environment.

    Raises:
      CannotStart: it failed, or is not done in time; its last words are in the text.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _foreign} | added
    deadline = time.monotonic() + step_timeout_s
    with log.open("w+") as errors, tempfile.TemporaryFile("w+") as output:
        try:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,  # closes when we end, whatever ends us
                stdout=output.fileno(),
                stderr=errors,
                start_new_session=True,
            )
        except OSError as error:
            raise CannotStart(f"{what} failed: {error}") from error
        try:
            _follow(process, output.fileno(), deadline)
        finally:
            _end_session(process)
        errors.seek(0)
        said = errors.read().splitlines()[-last_lines_shown:]
    if process.returncode != 0:
        words = "\n".join([*(f"    {line}" for line in said), *([advice] if advice else [])])
        raise CannotStart(f"{what} failed:\n{words}")


def _follow(process: "subprocess.Popen[bytes]", output: int, deadline: float) -> None:
    """Show what the process writes until it ends, or the time is up."""
    shown, began = 0, time.monotonic()
    while True:
        ended = process.poll() is not None
        lines = os.pread(output, 1 << 20, 0).decode(errors="replace").splitlines()
        for line in lines[shown:]:
            say(f"  {time.monotonic() - began:4.0f} s  {line}")
        shown = len(lines)
        if ended or time.monotonic() > deadline:
            return
        time.sleep(poll_interval_s)


def _end_session(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # also what it left behind
    process.wait()
    if process.stdin:
        process.stdin.close()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
