"""Statements given to the driver itself, several in one packet.

What SQLAlchemy does for a statement and its result costs more than the rows in it, and a round trip costs both sides.
Here the text of a statement never changes, so that PostgreSQL prepares it once per connection; keys are one parameter,
however many, and statements that need not wait for each other travel together. On SQLite a statement is one hop to the
thread of the driver instead of four.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Column, ColumnElement, literal
from sqlalchemy import any_ as any_of
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")

POSTGRESQL = "postgresql"

#: Values in one IN list: a statement takes 32,766 parameters on SQLite and 65,535 on PostgreSQL.
values_per_statement_max = 5000

Rows = list[tuple[Any, ...]]
Processors = tuple[tuple[int, Callable[[Any], Any]], ...]

DIALECTS = {POSTGRESQL: postgresql.dialect(), "sqlite": sqlite.dialect()}


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut a list into pieces that one statement of SQLAlchemy's takes as parameters."""
    for start in range(0, len(values), values_per_statement_max):
        yield values[start : start + values_per_statement_max]


class Statement(msgspec.Struct, frozen=True):
    """One statement in the words of both databases; where its text is empty it is left out."""

    postgresql: str
    sqlite: str

    def __call__(self, *parameters: Any) -> "Call":
        return Call(self, parameters)

    def locking(self, clause: str) -> "Statement":
        """With the locks that PostgreSQL takes; on SQLite the transaction holds the one lock there is."""
        return Statement(f"{self.postgresql} {clause}", self.sqlite)


class Call(msgspec.Struct, frozen=True):
    """A statement and its parameters; a list of keys is one of them."""

    statement: Statement
    parameters: tuple[Any, ...]


def statement(text: str) -> Statement:
    """The statement for both databases: `:?` is a parameter, `AMONG :?` compares a text with a list of keys."""
    return Statement(
        text.replace("AMONG :?", "= ANY(ARRAY(SELECT json_array_elements_text(%s::json)))").replace(":?", "%s"),
        text.replace("AMONG :?", "IN (SELECT value FROM json_each(?))").replace(":?", "?"),
    )


#: What follows in the transaction finds rows by key alone. PostgreSQL keeps a plan made while a table was small, or had
#: no statistics, when it has millions of rows; with nothing but indexes to consider it is the right one from the start.
BY_KEY = Statement(
    "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), "
    "set_config('enable_mergejoin', 'off', true), set_config('jit', 'off', true)",
    "",
)()


async def ask(connection: AsyncConnection, *calls: Call) -> list[Rows]:
    """Run statements, in order, in the caller's transaction; returns the rows of each.

    Raises:
      DBAPIError: what SQLAlchemy would raise; the transaction can only be rolled back.
    """
    driver = driver_of(connection)
    try:
        if is_postgresql(connection):
            return await _ask_postgresql(driver, calls)
        return [await _ask_sqlite(driver, call) for call in calls]
    except errors_of(connection) as error:
        raise await translated(connection, error) from error


def among(connection: AsyncConnection, column: Column[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    """For SQLAlchemy's statements: whether the column is one of these values."""
    if is_postgresql(connection):
        return column == any_of(literal(list(values), postgresql.ARRAY(column.type)))
    return column.in_(values)


def is_postgresql(connection: AsyncConnection) -> bool:
    return connection.dialect.name == POSTGRESQL


def as_json(rows: Sequence[Any]) -> str:
    return msgspec.json.encode(rows).decode()


def readers(connection: AsyncConnection, columns: Sequence[Column[Any]]) -> "Processors":
    """What makes the columns' own values of the driver's, by place, where there is something to do."""
    return _processors(connection.dialect.name, tuple(columns))


async def _ask_postgresql(driver: Any, calls: Sequence[Call]) -> list[Rows]:
    """In one packet, together with the BEGIN if they are the first."""
    async with driver.pipeline():
        cursors = [await driver.execute(call.statement.postgresql, _plain(call)) for call in calls]
    return [await cursor.fetchall() if cursor.description else [] for cursor in cursors]


async def _ask_sqlite(driver: Any, call: Call) -> Rows:
    if not call.statement.sqlite:
        return []
    return list(await driver.execute_fetchall(call.statement.sqlite, _plain(call)))


def _plain(call: Call) -> list[Any]:
    """The parameters as both drivers take them quickly: a list of keys as JSON, too."""
    return [as_json(one) if isinstance(one, list) else one for one in call.parameters]


@cache
def _processors(dialect_name: str, columns: tuple[Column[Any], ...]) -> Processors:
    dialect = DIALECTS[dialect_name]
    found = [column.type.dialect_impl(dialect).result_processor(dialect, None) for column in columns]
    return tuple((place, process) for place, process in enumerate(found) if process is not None)


def driver_of(connection: AsyncConnection) -> Any:
    """psycopg's or aiosqlite's own connection, in the transaction that SQLAlchemy has begun on it."""
    return connection.sync_connection.connection.driver_connection  # type: ignore[union-attr]


def errors_of(connection: AsyncConnection) -> type[Exception]:
    return connection.dialect.loaded_dbapi.Error  # type: ignore[no-any-return]


async def translated(connection: AsyncConnection, error: Exception) -> BaseException:
    """The driver's error as SQLAlchemy's; a connection that is lost leaves the pool."""
    adapted = connection.sync_connection.connection.dbapi_connection  # type: ignore[union-attr]
    lost = connection.dialect.is_disconnect(error, adapted, None)
    if lost:
        await connection.invalidate(error)
    return DBAPIError.instance(
        None, None, error, errors_of(connection), connection_invalidated=lost, dialect=connection.dialect
    )
