"""The prepared Tryton database in PostgreSQL: seeded once, dumped into the cache, restored on any server."""

import json
import re
import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg import sql

from instances import CannotStart, installed
from tryton_cache import Database, Seed, installed_tryton, kept, run_seeding, run_step, say, seeding_fingerprint

connect_timeout_s = 10

#: How the name of every database begins that is made here.
prefix = "tieout_erp_"


def postgres_settings(server: str) -> dict[str, str]:
    """The section of trytond.conf; the name of the database is said on the command line."""
    return {"uri": urlsplit(libpq_url(server))._replace(path="/").geturl()}


def libpq_url(server: str) -> str:
    """The URL as libpq knows it, without the driver that SQLAlchemy is told."""
    return re.sub(r"^postgres(ql)?(\+\w+)?:", "postgresql:", server)


def create_database(server: str, template: str = "template1") -> str:
    """Create a database under a name that nobody else uses.

    Raises:
      CannotStart: the server does not let us.
    """
    name = prefix + secrets.token_hex(6)
    command = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
    try:
        with _admin(server) as admin:
            admin.execute(command)
    except psycopg.Error as error:
        raise CannotStart(f"PostgreSQL can't be used: {' '.join(str(error).split())}") from error
    return name


def drop_database(server: str, name: str) -> None:
    """Drop a database, whoever may still be connected."""
    with _admin(server) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def passing_database(server: str, template: str = "template1") -> Iterator[str]:
    """A database that is dropped in the end; yields its name."""
    name = create_database(server, template)
    try:
        yield name
    finally:
        drop_database(server, name)


def fill(server: str, name: str, series: str) -> Database:
    """Bring an empty database to what is seeded: from the cache, or seed it now and keep a dump.

    Raises:
      CannotStart: it can't be done.
    """
    with tempfile.TemporaryDirectory() as folder:
        seed = _fill(server, name, series, Path(folder))
    return Database(name, postgres_settings(server), seed)


def _fill(server: str, name: str, series: str, folder: Path) -> Seed:
    dump, restore, major = installed("pg_dump"), installed("pg_restore"), server_major(server)
    if dump is None or restore is None or tool_major(dump) < major:
        say(f"No pg_dump {major} here to keep the database for the next time: seeding it, once more, for two minutes")
        return _seed(server, name, series, folder)

    def build(folder: Path) -> None:
        say(f"Preparing a Tryton {series} database in PostgreSQL {major}: once, about two minutes")
        with passing_database(server) as passing:
            _seed(server, passing, series, folder)
            connection, password = _as_arguments(server, passing)
            command = [
                dump,
                "--format=custom",
                "--no-owner",
                "--no-privileges",
                f"--file={folder / 'dump'}",
                connection,
            ]
            run_step("pg_dump", command, folder / "log", **password)

    prepared = kept(f"postgresql{major}-{seeding_fingerprint(series)}", build)
    connection, password = _as_arguments(server, name)
    command = [
        restore,
        "--no-owner",
        "--exit-on-error",
        "--single-transaction",
        f"--dbname={connection}",
        str(prepared / "dump"),
    ]
    run_step("pg_restore", command, folder / "log", **password)
    seed: Seed = json.loads((prepared / "seed.json").read_text())
    return seed


def _seed(server: str, name: str, series: str, folder: Path) -> Seed:
    database = Database(name, postgres_settings(server), {})
    return run_seeding(installed_tryton(series), "prepare", database, folder)


def server_major(server: str) -> int:
    try:
        with _admin(server) as admin:
            return admin.info.server_version // 10_000
    except psycopg.Error as error:
        raise CannotStart(f"PostgreSQL can't be used: {' '.join(str(error).split())}") from error


def tool_major(program: str) -> int:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"(\d+)(\.\d+)*", said)
    return int(version[1]) if version else 0


def _admin(server: str) -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(libpq_url(server), autocommit=True, connect_timeout=connect_timeout_s)


def _as_arguments(server: str, name: str) -> tuple[str, dict[str, str]]:
    """What a program of PostgreSQL's is told: a URL without password, and the password in its environment."""
    parts = urlsplit(libpq_url(server))
    user, at, host = parts.netloc.rpartition("@")
    url = parts._replace(netloc=user.partition(":")[0] + at + host, path=f"/{name}").geturl()
    return url, {"PGPASSWORD": unquote(parts.password)} if parts.password else {}
