"""A Tryton database of one's own: a copy of the prepared one, kept for the next time or removed in the end."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from instances import CannotStart
from tryton_cache import (
    DATABASE,
    Database,
    installed_tryton,
    prepared_sqlite,
    run_seeding,
    sqlite_settings,
    write_private,
)
from tryton_postgres import create_database, drop_database, fill, passing_database, postgres_settings

#: What is counted, by its name in the seed.
counted = {"customers": "customers", "workers": "employees", "projects": "projects"}


@contextmanager
def own_database(
    series: str,
    *,
    postgres: str | None = None,
    template: Database | None = None,
    keep: Path | None = None,
    counts: Mapping[str, int] | None = None,
) -> Iterator[Database]:
    """A database that nobody else uses; prepares what is not in the cache.

    Args:
      postgres: URL of a server to make it on; in an SQLite file without it.
      template: a database on that server to copy, instead of restoring one from the cache.
      keep: a folder in which it is found the next time. What is on PostgreSQL stays on its server.
      counts: of customers, workers and projects there shall be, where more than the first few.

    Raises:
      CannotStart: it can't be made, or what is kept in the folder is something else.
    """
    with ExitStack() as stack:
        if keep is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tieout-erp-")))
        else:
            folder = keep.absolute()
            folder.mkdir(parents=True, exist_ok=True)
        note = folder / "database.json"
        if note.exists():
            database = _kept(note, series, postgres)
        elif postgres:
            database = _on_postgres(stack, postgres, series, template, stays=keep is not None)
        else:
            database = _in_sqlite(folder, series)
        database = _grown(series, database, folder, counts or {})
        write_private(note, json.dumps(asdict(database)))
        yield database


def _in_sqlite(folder: Path, series: str) -> Database:
    prepared = prepared_sqlite(series)
    shutil.copy(prepared / f"{DATABASE}.sqlite", folder)
    return Database(DATABASE, sqlite_settings(folder), json.loads((prepared / "seed.json").read_text()))


def _on_postgres(stack: ExitStack, server: str, series: str, template: Database | None, stays: bool) -> Database:
    if template:
        name = stack.enter_context(passing_database(server, template.name))
        return Database(name, template.settings, template.seed)
    name = create_database(server)
    with ExitStack() as unless_it_stays:
        unless_it_stays.callback(drop_database, server, name)
        database = fill(server, name, series)
        if stays:
            unless_it_stays.pop_all()
        else:
            stack.push(unless_it_stays.pop_all())
    return database


def _kept(note: Path, series: str, postgres: str | None) -> Database:
    """What the folder was left with; an SQLite file may have been moved with its folder."""
    database = Database(**json.loads(note.read_text()))
    wanted = postgres_settings(postgres) if postgres else sqlite_settings(note.parent)
    if (there := database.seed["series"]) != series:
        raise CannotStart(f"{note.parent} keeps a database of Tryton {there}: say --series {there}, or another folder")
    if database.settings["uri"] != wanted["uri"]:
        raise CannotStart(f"{note.parent} keeps a database that is somewhere else: name another folder")
    return Database(database.name, wanted, database.seed)


def _grown(series: str, database: Database, folder: Path, counts: Mapping[str, int]) -> Database:
    """Seed more of what there is too little of."""
    if all(count <= len(database.seed[counted[kind]]) for kind, count in counts.items()):
        return database
    write_private(folder / "seed.json", json.dumps(database.seed))
    options = [part for kind, count in counts.items() for part in (f"--{kind}", str(count))]
    seed = run_seeding(installed_tryton(series), "grow", database, folder, *options)
    return Database(database.name, database.settings, seed)
