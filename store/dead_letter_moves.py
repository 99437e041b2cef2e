"""What happens to dead letters together with the records they are about, in the caller's transaction."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pipeline.states import DEAD, DISCARDED
from store import audit
from store.audit import AuditEntry
from store.database import Database
from store.dead_letter_filter import OPEN, REQUEUED
from store.standing import Standing
from store.tables import dead_letters, steps

#: What a person did, as the outcome of a step.
OUTCOMES = {"requeue": "requeued", "discard": "discarded"}


async def claim(
    connection: AsyncConnection, db: Database, ids: Sequence[str], status: str, state: str
) -> Sequence[Row[Any]]:
    """Take open letters, and bring what they are about from `dead` into `state`; returns those that were taken.

    Only what is dead still moves: what has been settled otherwise must not. Whom two operators want goes to the first,
    since both must hold the record's lock. The rows are as they were before.
    """
    letters = dead_letters.c
    of_page = letters.id.in_(ids)
    record_ids = await connection.scalars(select(letters.record_id).where(of_page, letters.record_id.is_not(None)))
    standing = await Standing.load(connection, set(record_ids))
    rows = await connection.execute(
        select(dead_letters).where(of_page, letters.status == OPEN).order_by(letters.id).with_for_update()
    )
    taken = {row.id: row for row in rows if _takes(standing, row, state)}
    if taken:
        requeues = letters.requeues + (1 if status == REQUEUED else 0)
        await connection.execute(
            update(dead_letters).where(letters.id.in_(taken)).values(status=status, requeues=requeues)
        )
    # Last, since it resolves whatever other letters are still open for what has moved.
    await standing.save(connection)
    return [taken[letter_id] for letter_id in ids if letter_id in taken]


async def tell(
    connection: AsyncConnection, letters: Sequence[Row[Any]], actor: str, action: str, reason: str, batch: str
) -> None:
    """One line of audit per letter, one step per record: who, when and why."""
    now = datetime.now(UTC)
    entries = [
        AuditEntry(
            actor=actor,
            action=action,
            reason=reason,
            record_id=letter.record_id,
            dead_letter_id=letter.id,
            detail={"batch": batch},
            at=now,
        )
        for letter in letters
    ]
    await audit.write_all(connection, entries)
    rows = [step_of(letter, OUTCOMES[action], actor, reason, now) for letter in letters if letter.record_id is not None]
    if rows:
        await connection.execute(insert(steps), rows)


def step_of(letter: Row[Any], outcome: str, actor: str, reason: str, now: datetime) -> dict[str, Any]:
    """The step of a person's decision about a letter."""
    return {
        "record_id": letter.record_id,
        "at": now,
        "stage": letter.stage,
        "outcome": outcome,
        "target": letter.target,
        "code": letter.code,
        "detail": f"{actor}: {reason}",
    }


def _takes(standing: Standing, row: Row[Any], state: str) -> bool:
    """Move what the letter is about. Without a record of ours, all that can be done is to discard it."""
    if row.record_id is None or not standing.holds(row.record_id):
        return state == DISCARDED
    if state == DISCARDED and standing.in_doubt(row.record_id, row.target):
        return False  # the target may hold it: once it is out of sight, nobody would ever ask
    return row.letter is not None and standing.move(row.record_id, row.target, state, allowed_from=(DEAD,))
