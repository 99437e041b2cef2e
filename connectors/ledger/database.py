"""What the embedded ledger asks of the database it lives in."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

from sqlalchemy import Column, ColumnElement, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from pipeline.errors import OutcomeUnknown, TransientError


class Database(Protocol):
    """SQLite, or PostgreSQL writing at READ COMMITTED: the store's own database fits.

    Both ways in raise TransientError when the database is locked, lost or out of connections.
    """

    def begin(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A write transaction: committed when left, rolled back when left by an exception."""

    def connect(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A snapshot to read from."""

    def insert(self, table: Table) -> Any:
        """The dialect's own INSERT, which knows `on_conflict_do_nothing`."""

    async def insert_rows(self, connection: AsyncConnection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
        """Insert rows that all have the same columns, in one statement; none is fine."""

    async def insert_new_rows(
        self, connection: AsyncConnection, table: Table, rows: Sequence[dict[str, Any]], *, unique: str, returning: str
    ) -> dict[Any, Any]:
        """Insert those rows whose `unique` column is new to the table; `returning` of each, by `unique`."""

    def among(self, connection: AsyncConnection, column: Column[Any], values: Sequence[Any]) -> ColumnElement[bool]:
        """Whether the column is one of these values, which travel as one parameter where they can."""


@asynccontextmanager
async def posting_to(database: Database) -> AsyncIterator[AsyncConnection]:
    """A write transaction that tells a failed commit from a failure before it.

    Raises:
      TransientError: the database failed before the commit: certainly nothing was written.
      OutcomeUnknown: it failed during the commit: it may or may not be written.
    """
    committing = False
    try:
        async with database.begin() as connection:
            yield connection
            committing = True
    except TransientError as error:
        if committing:
            raise OutcomeUnknown(f"the ledger's commit was not answered: {error}") from error
        raise
