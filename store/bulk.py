"""Whole sets of rows written by one statement.

Thousands of placeholders cost psycopg more time to parse than PostgreSQL needs for the rows: there the rows travel as
one JSON document under one placeholder. SQLite takes them one by one, in one hop to the thread of its driver.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import repeat
from operator import attrgetter, itemgetter
from typing import Any

import msgspec
from sqlalchemy import JSON, BigInteger, Boolean, Column, Date, DateTime, Integer, LargeBinary, Table
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeDecorator, TypeEngine

from store.statements import (
    DIALECTS,
    Statement,
    as_json,
    ask,
    driver_of,
    errors_of,
    is_postgresql,
    statement,
    translated,
)

#: A row by the names of its columns: a dict, or a Struct with at least those fields.
Row = dict[str, Any] | msgspec.Struct
Names = tuple[str, ...]
Constants = dict[str, Any]


async def insert_rows(
    connection: AsyncConnection, table: Table, rows: Sequence[Row], *, conflict: str = "", **constants: Any
) -> None:
    """Insert rows that all have the same columns; none is fine.

    Args:
      conflict: an ON CONFLICT clause; it may use `excluded`.
      constants: columns that are the same in every row.
    """
    if rows:
        columns = tuple(rows[0]) if isinstance(rows[0], dict) else rows[0].__struct_fields__
        writing = insertion(table, columns, tuple(constants), conflict)
        await _write(connection, writing, table, rows, columns, constants)


async def insert_new_rows(
    connection: AsyncConnection, table: Table, rows: Sequence[dict[str, Any]], *, unique: str, returning: str
) -> dict[Any, Any]:
    """Insert those rows whose `unique` text is new to the table; `returning` of each, by `unique`. None is fine."""
    if not rows:
        return {}
    columns = tuple(rows[0])
    if is_postgresql(connection):
        ending = f"ON CONFLICT ({unique}) DO NOTHING RETURNING {unique}, {returning}"
        (created,) = await ask(connection, insertion(table, columns, (), ending)(as_json(rows)))
        return dict(created)
    # Nobody else writes meanwhile. A RETURNING would have to be fetched row by row.
    look = _look_up(table, unique, returning)
    (found,) = await ask(connection, look([row[unique] for row in rows]))
    known = dict(found)
    new = [row for row in rows if row[unique] not in known]
    await insert_rows(connection, table, new)
    (created,) = await ask(connection, look([row[unique] for row in new]))
    return dict(created)


async def update_rows(
    connection: AsyncConnection,
    table: Table,
    key: str,
    columns: Names,
    rows: Sequence[Row],
    **constants: Any,
) -> None:
    """Write these columns of the rows with these keys; none is fine.

    Args:
      constants: columns that come to be the same in every row.
    """
    if rows:
        writing = _update(table, key, columns, tuple(constants))
        await _write(connection, writing, table, rows, (*columns, key), constants)


async def _write(
    connection: AsyncConnection,
    writing: Statement,
    table: Table,
    rows: Sequence[Row],
    names: Names,
    constants: Constants,
) -> None:
    if is_postgresql(connection):
        await ask(connection, writing(*constants.values(), as_json(rows)))
        return
    try:
        await driver_of(connection).executemany(writing.sqlite, _bound(table, rows, names, constants))
    except errors_of(connection) as error:
        raise await translated(connection, error) from error


def _bound(table: Table, rows: Sequence[Row], names: Names, constants: Constants) -> list[tuple[Any, ...]]:
    """The rows as SQLite is given them: the constants, then these columns."""
    get = itemgetter if isinstance(rows[0], dict) else attrgetter
    of_sqlite = _writers(table)
    values: list[Iterable[Any]] = [
        repeat(of_sqlite[name](value) if name in of_sqlite else value) for name, value in constants.items()
    ]
    for name in names:
        found = map(get(name), rows)
        values.append(map(of_sqlite[name], found) if name in of_sqlite else found)
    return list(zip(*values, strict=False))


@cache
def insertion(table: Table, columns: Names, constants: Names = (), ending: str = "") -> Statement:
    """Takes the constants, then rows as JSON; on SQLite one row at a time."""
    names = ", ".join(f'"{name}"' for name in (*constants, *columns))
    values = ", ".join(["%s"] * len(constants) + [_read(table.c[name]) for name in columns])
    places = ", ".join("?" * len((*constants, *columns)))
    return Statement(
        f"INSERT INTO {table.name} ({names}) SELECT {values} FROM {_recordset(table, columns)} {ending}",
        f"INSERT INTO {table.name} ({names}) VALUES ({places}) {ending}",
    )


@cache
def _look_up(table: Table, key: str, wanted: str) -> Statement:
    return statement(f'SELECT "{key}", "{wanted}" FROM {table.name} WHERE "{key}" AMONG :?')


@cache
def _update(table: Table, key: str, columns: Names, constants: Names) -> Statement:
    fixed = [f'"{name}" = %s' for name in constants]
    given = [f'"{name}" = {_read(table.c[name])}' for name in columns]
    places = ", ".join(f'"{name}" = ?' for name in (*constants, *columns))
    known = f"FROM {_recordset(table, (*columns, key))}"
    return Statement(
        f'UPDATE {table.name} AS old SET {", ".join(fixed + given)} {known} WHERE old."{key}" = new."{key}"',
        f'UPDATE {table.name} AS old SET {places} WHERE old."{key}" = ?',
    )


def _recordset(table: Table, columns: Names) -> str:
    types = ", ".join(f'"{name}" {_json_type(table.c[name])}' for name in columns)
    return f"json_to_recordset(%s::json) AS new({types})"


_JSON_TYPES: tuple[tuple[type[TypeEngine[Any]], str], ...] = (
    (DateTime, "timestamptz"),
    (Date, "date"),
    (Boolean, "boolean"),
    (BigInteger, "bigint"),
    (Integer, "integer"),
    (JSON, "json"),
)


def _json_type(column: Column[Any]) -> str:
    """What a value in JSON is read as; the column itself then refuses what is too long for it."""
    return next((name for kind, name in _JSON_TYPES if issubclass(_kind(column), kind)), "text")


def _kind(column: Column[Any]) -> type[TypeEngine[Any]]:
    return type(column.type.impl_instance if isinstance(column.type, TypeDecorator) else column.type)


def _read(column: Column[Any]) -> str:
    value = f'new."{column.name}"'
    return f"decode({value}, 'base64')" if isinstance(column.type, LargeBinary) else value


@cache
def _writers(table: Table) -> dict[str, Callable[[Any], Any]]:
    """What makes SQLite's values of a table's, by column, where there is something to do."""
    dialect = DIALECTS["sqlite"]
    found = {column.name: column.type.dialect_impl(dialect).bind_processor(dialect) for column in table.c}
    instants = {column.name: _instant for column in table.c if _kind(column) is DateTime}
    return {name: process for name, process in found.items() if process is not None} | instants


def _instant(value: datetime | None) -> str | None:
    """As SQLAlchemy writes it, in a quarter of the time."""
    return None if value is None else value.astimezone(UTC).isoformat(" ", "microseconds")[:26]
