"""Reversal: an entry is never changed or deleted, a second one with debits and credits exchanged takes it back."""

from datetime import UTC, date, datetime

from sqlalchemy import RowMapping, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from connectors.ledger.database import Database
from connectors.ledger.journal import REVERSAL_SUFFIX, period_of
from connectors.ledger.tables import entries, lines


async def locked_entry(connection: AsyncConnection, reference: str) -> RowMapping | None:
    """The entry under this reference, kept for us until the commit."""
    query = select(entries).where(entries.c.reference == reference).with_for_update()
    return (await connection.execute(query)).mappings().one_or_none()


async def reverse_entry(
    database: Database,
    connection: AsyncConnection,
    entry: RowMapping,
    on: date,
    memo: str,
    replaced_by: int | None = None,
) -> int:
    """Take back a locked, not yet reversed entry on an open day; the number of the reversing entry."""
    row = {
        **entry,
        "reference": entry["reference"] + REVERSAL_SUFFIX,
        "date": on,
        "period": period_of(on),
        "amount_minor": -entry["amount_minor"],
        "entity_amount_minor": -entry["entity_amount_minor"],
        "memo": memo,
        "posted_at": datetime.now(UTC),
        "reverses": entry["number"],
        "replaced_by": None,
    }
    del row["number"]
    number: int = (await connection.execute(insert(entries).values(row).returning(entries.c.number))).scalar_one()
    of_entry = (await connection.execute(select(lines).where(lines.c.entry == entry["number"]))).mappings().all()
    exchanged = [
        {**line, "entry": number, "debit_minor": line["credit_minor"], "credit_minor": line["debit_minor"]}
        for line in of_entry
    ]
    await database.insert_rows(connection, lines, exchanged)
    await connection.execute(
        update(entries).where(entries.c.number == entry["number"]).values(reversed_by=number, replaced_by=replaced_by)
    )
    return number
