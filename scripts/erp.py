"""A real ERP to try things on: `erp.py run` starts a Tryton server of our own, with a small firm in it.

The first time it installs Tryton in an environment of its own and prepares a database, which takes a minute or two;
both are kept in the user's cache (TIEOUT_CACHE_DIR names another place). Each run works on a copy, which is gone
afterwards unless --keep names a folder for it. Ctrl-C ends it. `erp.py prepare` fills the cache and starts nothing;
`erp.py demo` runs `tieout demo` into such a server, and ends it afterwards.
"""

import argparse
import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from instances import CannotStart
from servers import Interrupted, ended_by, without_password
from tryton import Tryton, tryton
from tryton_cache import SERIES, installed_tryton, prepared_sqlite, say
from tryton_databases import counted
from tryton_postgres import fill, passing_database


def main(arguments: list[str]) -> int:
    options = parsed(arguments)
    for number in ended_by:
        signal.signal(number, interrupt)
    try:
        return {"run": run, "prepare": prepare, "demo": demo}[options.verb](options)
    except CannotStart as error:
        print(f"erp: {error}", file=sys.stderr)
        return 2
    except Interrupted as interruption:
        return 128 + interruption.number


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="erp.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("verb", choices=["run", "prepare", "demo"])
    parser.add_argument("--series", choices=SERIES, default=SERIES[0], help="of Tryton (%(default)s)")
    parser.add_argument("--postgres", metavar="URL", help="make the database on this server, instead of in SQLite")
    parser.add_argument("--port", type=int, help="to listen on (a free one)")
    parser.add_argument("--keep", metavar="DIR", type=Path, help="keep the database, and find it there the next time")
    for kind in counted:
        parser.add_argument(
            f"--{kind}", metavar="N", type=int, help=f"seed so many {kind}, where more than the first few"
        )
    return parser.parse_args(arguments)


def prepare(options: argparse.Namespace) -> int:
    """Fill the cache."""
    installed_tryton(options.series)
    if options.postgres:
        with passing_database(options.postgres) as name:
            fill(options.postgres, name, options.series)
    else:
        prepared_sqlite(options.series)
    say(f"Tryton {options.series} is prepared")
    return 0


def run(options: argparse.Namespace) -> int:
    """Serve until we are told to end, which is how it is meant to end."""
    with serving(options) as server:
        report(server, options)
        try:
            last_words = server.wait()
        except Interrupted:
            return 0
        print(f"erp: Tryton ended by itself:\n{last_words}", file=sys.stderr)
        return 1


def demo(options: argparse.Namespace) -> int:
    """Run the demo's month into it; its exit status is ours."""
    with serving(options) as server:
        address = f"{server.url}/{server.database}"
        command = [sys.executable, "-m", "cli", "demo", "--erp", address, "--erp-user", server.user]
        environment = os.environ | {"TIEOUT_TRYTON_PASSWORD": server.password}
        with subprocess.Popen(command, env=environment) as story:
            try:
                return story.wait()
            except Interrupted:
                story.terminate()
                raise


def serving(options: argparse.Namespace) -> AbstractContextManager[Tryton]:
    """The server that these options ask for."""
    counts = {kind: count for kind in counted if (count := getattr(options, kind)) is not None}
    return tryton(options.series, postgres=options.postgres, keep=options.keep, port=options.port, counts=counts)


def report(server: Tryton, options: argparse.Namespace) -> None:
    where = without_password(options.postgres) if options.postgres else f"SQLite, {options.keep or 'gone when it ends'}"
    users = ", ".join(f"{login}/{password}" for login, password in server.seed["users"].items())
    print(f"Tryton {options.series:<5} {server.url}/{server.database}/rpc/")
    print(f"database     {server.database} ({where})")
    print(f"users        {users}")
    print(f"stop         Ctrl-C, or kill {os.getpid()}", flush=True)


def interrupt(number: int, frame: object) -> None:
    for ended in ended_by:  # a second Ctrl-C must not leave anything behind
        signal.signal(ended, signal.SIG_IGN)
    raise Interrupted(number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
