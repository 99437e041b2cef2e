"""Hundreds of rows in one statement, on PostgreSQL as one parameter.

Thousands of placeholders cost psycopg more time to parse than PostgreSQL needs to insert the rows: there the rows
travel as one JSON array, and the keys of a look-up as one array.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import Column, ColumnElement, Table, TextClause, any_, literal, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

POSTGRESQL = "postgresql"


async def insert_rows(connection: AsyncConnection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows that all have the same columns; none is fine."""
    if not rows:
        return
    if connection.dialect.name == POSTGRESQL:
        await connection.execute(_from_json(table, tuple(rows[0])), {"rows": _encoded(rows)})
    else:
        await connection.execute(table.insert(), rows)


async def insert_new_rows(
    connection: AsyncConnection, table: Table, rows: Sequence[dict[str, Any]], *, unique: str, returning: str
) -> dict[str, Any]:
    """Insert those rows whose `unique` column is new to the table; `returning` of each, by `unique`."""
    if connection.dialect.name == POSTGRESQL:
        inserting = _from_json(
            table, tuple(rows[0]), f" ON CONFLICT ({unique}) DO NOTHING RETURNING {unique}, {returning}"
        )
        created = await connection.execute(inserting, {"rows": _encoded(rows)})
    else:
        ignoring = sqlite.insert(table).on_conflict_do_nothing(index_elements=[unique])
        created = await connection.execute(ignoring.returning(table.c[unique], table.c[returning]), rows)
    return {row[0]: row[1] for row in created}


def among(connection: AsyncConnection, column: Column[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    """Whether the column is one of these values."""
    if connection.dialect.name == POSTGRESQL:
        return column == any_(literal(list(values), ARRAY(column.type)))
    return column.in_(values)


@cache
def _from_json(table: Table, columns: tuple[str, ...], ending: str = "") -> TextClause:
    names = ", ".join(f'"{name}"' for name in columns)
    source = f"json_populate_recordset(CAST(NULL AS {table.name}), CAST(:rows AS json))"
    return text(f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {source}{ending}")


def _encoded(rows: Sequence[dict[str, Any]]) -> str:
    return msgspec.json.encode(rows).decode()
