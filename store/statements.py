"""Statements over many rows: cut to what the databases take, written in bulk."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import bindparam, update
from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")

#: Values in one IN list: a statement takes 32,766 parameters on SQLite and 65,535 on PostgreSQL.
values_per_statement_max = 5000


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut a list into pieces that one statement takes as parameters."""
    for start in range(0, len(values), values_per_statement_max):
        yield values[start : start + values_per_statement_max]


async def update_rows(
    connection: AsyncConnection, table: Any, key: str, columns: Sequence[str], rows: Sequence[Any], now: datetime
) -> None:
    """Write these columns of rows under lock."""
    if rows:
        await connection.execute(
            update(table)
            .where(table.c[key] == bindparam("of"))
            .values({name: bindparam(f"new_{name}") for name in columns} | {"changed_at": now}),
            [{"of": getattr(row, key)} | {f"new_{name}": getattr(row, name) for name in columns} for row in rows],
        )
