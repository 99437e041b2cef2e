"""Retention: removes bodies that nobody needs any more; the accounts of what happened stay."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Column, ColumnElement, and_, exists, func, null, or_, select, true, update

from pipeline.states import DISCARDED, DUPLICATE, POSTED, RECONCILED, SUBMITTED, SUPERSEDED
from store import audit
from store.database import Database
from store.dead_letter_filter import OPEN
from store.tables import audit as audit_table
from store.tables import dead_letters, deliveries, records, rejects

#: Nothing more will happen to these by themselves.
FINISHED = (POSTED, RECONCILED, DUPLICATE, SUPERSEDED, DISCARDED)

#: Rows emptied by one transaction, so that nobody waits long for the database.
rows_per_transaction_max = 1000


class Retained(msgspec.Struct, frozen=True, kw_only=True):
    """How many bodies were removed (in a dry run: would be)."""

    payloads: int
    documents: int
    letters: int
    rejects: int
    originals: int
    dry_run: bool


class _Body(msgspec.Struct, frozen=True):
    """A column to empty, in the rows that meet the condition; `key` identifies a row."""

    key: Column[Any]
    column: Column[Any]
    condition: ColumnElement[bool]


async def retain(db: Database, older_than: timedelta, dry_run: bool = False, *, actor: str = "retention") -> Retained:
    """Remove the bodies of what was finished longer ago than `older_than`.

    These are the payloads of finished records, the documents sent for them, their dead letters, the originals that the
    audit trail keeps of edited ones, and the raw text of refused rows. Whatever is dead, parked or on its way keeps
    everything.
    """
    bodies = _bodies(datetime.now(UTC) - older_than)
    counted = {name: await (_count(db, body) if dry_run else _remove(db, body)) for name, body in bodies.items()}
    if not dry_run and any(counted.values()):
        async with db.begin() as connection:
            reason = f"finished more than {older_than.days} days ago"
            await audit.write(connection, actor, "retention", reason, detail=counted)
    return Retained(**counted, dry_run=dry_run)


def _bodies(cutoff: datetime) -> dict[str, _Body]:
    finished = and_(records.c.state.in_(FINISHED), records.c.changed_at < cutoff)

    def of_finished(record_id: ColumnElement[Any]) -> ColumnElement[bool]:
        return exists().where(records.c.id == record_id, finished)

    # What a target holds and nobody has read back yet will be compared with what was sent.
    delivered = and_(
        deliveries.c.state.not_in((SUBMITTED, POSTED)),
        deliveries.c.changed_at < cutoff,
        of_finished(deliveries.c.record_id),
    )
    # What people still look at is open, or its record is not finished; a message that is not ours has no record.
    ended = or_(dead_letters.c.record_id.is_(None), of_finished(dead_letters.c.record_id))
    letter = and_(dead_letters.c.status != OPEN, dead_letters.c.last_at < cutoff, ended)
    edit = and_(audit_table.c.action == "edit", audit_table.c.at < cutoff, of_finished(audit_table.c.record_id))
    return {
        "payloads": _Body(records.c.number, records.c.payload, finished),
        "documents": _Body(deliveries.c.posting_key, deliveries.c.document, delivered),
        "letters": _Body(dead_letters.c.id, dead_letters.c.letter, letter),
        "rejects": _Body(rejects.c.fingerprint, rejects.c.raw, rejects.c.at < cutoff),
        "originals": _Body(audit_table.c.number, audit_table.c.detail, edit),
    }


async def _count(db: Database, body: _Body) -> int:
    statement = select(func.count(body.key)).where(body.condition, body.column.is_not(None))
    async with db.connect() as connection:
        return int(await connection.scalar(statement) or 0)


async def _remove(db: Database, body: _Body) -> int:
    """Empty the column, a bounded number of rows at a time, passing over the table once."""
    removed, last = 0, None
    while True:
        behind = body.key > last if last is not None else true()
        full = and_(behind, body.condition, body.column.is_not(None))
        async with db.begin() as connection:
            some = select(body.key).where(full).order_by(body.key).limit(rows_per_transaction_max)
            keys = (await connection.scalars(some)).all()
            if not keys:
                return removed
            # The condition again: a record may have left the finished ones since.
            emptied = update(body.key.table).where(body.key.in_(keys), body.condition).values({body.column: null()})
            removed += (await connection.execute(emptied)).rowcount
        last = keys[-1]
