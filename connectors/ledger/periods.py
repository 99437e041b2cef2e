"""Accounting periods of the embedded ledger: open until somebody closes them, per legal entity or for all (`*`)."""

import re
from collections.abc import Iterable
from datetime import date

import msgspec
from sqlalchemy import select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from connectors.ledger.database import Database
from connectors.ledger.journal import period_of
from connectors.ledger.tables import periods
from pipeline.codes import PERIOD_CLOSED
from pipeline.errors import PermanentError

EVERY_ENTITY = "*"
#: How far ahead a reversal looks for an open period.
months_ahead_max = 120


class LedgerPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """One period of one legal entity, or of all of them (`*`)."""

    legal_entity: str
    name: str
    closed: bool


Months = set[tuple[str, str]]


async def closed_among(database: Database, connection: AsyncConnection, months: Iterable[tuple[str, str]]) -> Months:
    """Those of the (legal entity, period) pairs that are closed.

    Their rows are locked in shared mode until the commit, and whoever closes a period writes its row: so nothing is
    posted into a period once its closing has been answered.
    """
    asked = set(months)
    wanted = asked | {(EVERY_ENTITY, name) for _, name in asked}
    if not asked:
        return set()
    locking = (
        select(periods.c.legal_entity, periods.c.name, periods.c.closed)
        .where(tuple_(periods.c.legal_entity, periods.c.name).in_(sorted(wanted)))
        .order_by(periods.c.legal_entity, periods.c.name)
        .with_for_update(read=True)
    )
    rows = (await connection.execute(locking)).all()
    if missing := wanted - {(row.legal_entity, row.name) for row in rows}:
        await _ensure(database, connection, missing)
        rows = (await connection.execute(locking)).all()
    shut = {(row.legal_entity, row.name) for row in rows if row.closed}
    return {(entity, name) for entity, name in asked if {(entity, name), (EVERY_ENTITY, name)} & shut}


async def first_open_day(database: Database, connection: AsyncConnection, legal_entity: str, day: date) -> date:
    """The day itself if its period is open, else the first day of the next period that is.

    Raises:
      PermanentError: PERIOD_CLOSED, every period of the next ten years is closed.
    """
    for _ in range(months_ahead_max):
        if not await closed_among(database, connection, [(legal_entity, period_of(day))]):
            return day
        day = date(day.year + day.month // 12, day.month % 12 + 1, 1)
    raise PermanentError(PERIOD_CLOSED, f"ledger: no open period of {legal_entity} up to {day}: open one")


async def set_closed(
    database: Database, connection: AsyncConnection, legal_entity: str, name: str, closed: bool
) -> None:
    """Close or open a period; waits for postings into it that are under way.

    Raises:
      ValueError: `name` is not a month.
    """
    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", name):
        raise ValueError(f"period {name!r}: expected a month like 2026-03")
    await _ensure(database, connection, {(legal_entity, name)})
    await connection.execute(
        update(periods).where(periods.c.legal_entity == legal_entity, periods.c.name == name).values(closed=closed)
    )


async def read_periods(connection: AsyncConnection) -> list[LedgerPeriod]:
    """Every period that something was posted to or decided about, in order."""
    rows = await connection.execute(select(periods).order_by(periods.c.legal_entity, periods.c.name))
    return [LedgerPeriod(legal_entity=row.legal_entity, name=row.name, closed=row.closed) for row in rows]


async def _ensure(database: Database, connection: AsyncConnection, months: Months) -> None:
    """A row per period, so that there is something to lock; in order, so that two writers can't block each other."""
    await connection.execute(
        database.insert(periods).on_conflict_do_nothing(index_elements=["legal_entity", "name"]),
        [{"legal_entity": entity, "name": name, "closed": False} for entity, name in sorted(months)],
    )
