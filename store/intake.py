"""Intake: accepts records and writes what they cause into one transaction (transactional outbox)."""

import base64
import re
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import msgspec
from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.money import Money
from pipeline.states import IN_FLIGHT
from store.database import Database
from store.outbox import Outbox, OutboxRow
from store.tables import records as records_table
from store.tables import rejects as rejects_table
from store.tables import runs, steps

#: What is kept of a refused row, so that a person recognises it.
raw_bytes_max = 2000
column_chars_max = 200

#: Whole numbers sort right up to this many digits.
revision_digits_max = 40

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d([T ].+)?")


class UnknownRun(LookupError):
    """No run of this id was opened."""


class AcceptedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record at the door. `id` is `record_id(...)`; `payload` the encoded contract; `money` what it is worth so far.

    Texts fit their columns (subject and revision 200 characters), and `money` is in an ISO 4217 currency (XXX: none).
    """

    id: str
    source: str
    document_type: str
    subject: str
    revision: str
    revision_order: str
    fingerprint: str
    lane: str
    correlation_id: str
    money: Money
    payload: bytes
    business_key: str | None = None
    worker_day: str | None = None
    hours: Decimal | None = None
    region: str | None = None
    row_number: int | None = None


class Reject(msgspec.Struct, frozen=True, kw_only=True):
    """A row refused at the door. `fingerprint` says which row of which content it is: read again, it counts once."""

    row_number: int
    reason: str
    money: Money
    fingerprint: str
    column: str | None = None
    raw: str | None = None


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one chunk. `new` are record ids, `seen_before` counts records and rejects known already.

    `outbox` holds the committed messages: publish them at once and forget them when confirmed.
    """

    new: list[str]
    seen_before: int
    rejected: int
    outbox: list[OutboxRow]


def record_id(source: str, document_type: str, subject: str, revision: str) -> str:
    """The record's id: the same source key and revision always give the same 24 characters."""
    digest = blake2b(digest_size=15)
    for part in (source, document_type, subject, revision):
        encoded = part.encode()
        # The length in front keeps ("ab", "c") and ("a", "bc") apart.
        digest.update(b"%d:" % len(encoded) + encoded)
    return base64.b32encode(digest.digest()).decode().lower()


def revision_order(revision: str) -> str:
    """A text that sorts revisions of one kind: whole numbers by value, timestamps by moment, others as they are.

    ISO 8601 timestamps without an offset are taken as UTC.
    """
    if revision.isascii() and revision.isdigit():
        return revision.lstrip("0").zfill(revision_digits_max)
    if _TIMESTAMP.fullmatch(revision):
        try:
            moment = datetime.fromisoformat(revision)
            moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
        except (ValueError, OverflowError):
            return revision
        return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    return revision


class Intake:
    """Accepts records durably, chunk by chunk, each chunk in one transaction with the messages it owes."""

    def __init__(self, db: Database, outbox: Outbox) -> None:
        self._db = db
        self._outbox = outbox

    async def open_run(self, *, actor: str, origin: str, source: str, document_type: str, lane: str) -> str:
        """Begin a run of ingest over one file or call; `origin` names it (`declarations.csv`). Returns the run's id."""
        run_id = uuid.uuid4().hex
        run = {"actor": actor, "origin": origin, "source": source, "document_type": document_type, "lane": lane}
        async with self._db.begin() as connection:
            await connection.execute(insert(runs).values(id=run_id, started_at=datetime.now(UTC), **run))
        return run_id

    async def accept(
        self,
        run_id: str,
        records: Sequence[AcceptedRecord],
        rejects: Sequence[Reject],
        *,
        rows: int,
        filtered: int,
        read: int,
        messages: Callable[[Sequence[AcceptedRecord]], Sequence[OutboxRow]],
    ) -> Accepted:
        """Write one chunk: all of it is committed when this returns, or none of it.

        Args:
          rows, filtered, read: rows of this chunk, those the row filter left out, those read: added to the run.
          messages: builds the messages for the new records, in their order. Called inside the transaction.

        Raises:
          UnknownRun: `run_id` is not from `open_run`.
        """
        now = datetime.now(UTC)
        async with self._db.begin() as connection:
            run = await _run(connection, run_id)
            new = await self._insert_records(connection, run_id, records, now)
            rejected = await self._insert_rejects(connection, run, rejects, now)
            seen_before = len(records) - len(new) + len(rejects) - rejected
            counted = {
                "rows": rows,
                "filtered": filtered,
                "read": read,
                "accepted": len(new),
                "seen_before": seen_before,
                "rejected": rejected,
            }
            added = {name: runs.c[name] + count for name, count in counted.items()}
            await connection.execute(update(runs).where(runs.c.id == run_id).values(added))
            outbox: list[OutboxRow] = []
            if new:
                await connection.execute(insert(steps), [_step(record, run.origin, now) for record in new])
                outbox = list(await self._outbox.add(connection, messages(new)))
        return Accepted(new=[record.id for record in new], seen_before=seen_before, rejected=rejected, outbox=outbox)

    async def close_run(self, run_id: str) -> None:
        """Note that the run has read everything."""
        async with self._db.begin() as connection:
            await connection.execute(update(runs).where(runs.c.id == run_id).values(finished_at=datetime.now(UTC)))

    async def _insert_records(
        self, connection: AsyncConnection, run_id: str, records: Sequence[AcceptedRecord], now: datetime
    ) -> list[AcceptedRecord]:
        """Insert those not known yet; returns them in their order, each id once."""
        first = {record.id: record for record in reversed(records)}
        distinct = [record for record in records if first[record.id] is record]
        if not distinct:
            return []
        statement = self._db.insert(records_table).on_conflict_do_nothing().returning(records_table.c.id)
        inserted = set(await connection.scalars(statement, [_row(record, run_id, now) for record in distinct]))
        return [record for record in distinct if record.id in inserted]

    async def _insert_rejects(
        self, connection: AsyncConnection, run: Row[Any], rejects: Sequence[Reject], now: datetime
    ) -> int:
        """Insert those not known yet; returns how many that were."""
        distinct = {reject.fingerprint: reject for reject in reversed(rejects)}.values()
        if not distinct:
            return 0
        statement = (
            self._db.insert(rejects_table)
            .on_conflict_do_nothing(index_elements=[rejects_table.c.fingerprint])
            .returning(rejects_table.c.fingerprint)
        )
        rows = [_reject_row(reject, run, now) for reject in distinct]
        return len((await connection.scalars(statement, rows)).all())


async def _run(connection: AsyncConnection, run_id: str) -> Row[Any]:
    row = (await connection.execute(select(runs).where(runs.c.id == run_id))).one_or_none()
    if row is None:
        raise UnknownRun(f"no run {run_id!r} was opened")
    return row


def _row(record: AcceptedRecord, run_id: str, now: datetime) -> dict[str, Any]:
    row = msgspec.structs.asdict(record)
    money = row.pop("money")
    return row | {
        "hours": str(record.hours) if record.hours is not None else None,
        "run_id": run_id,
        "accepted_at": now,
        "changed_at": now,
        "state": IN_FLIGHT,
        "currency": money.currency,
        "amount_minor": money.minor(),
    }


def _step(record: AcceptedRecord, origin: str, now: datetime) -> dict[str, Any]:
    detail = origin if record.row_number is None else f"{origin}:{record.row_number}"
    return {"record_id": record.id, "at": now, "stage": "ingest", "outcome": "accepted", "detail": detail}


def _reject_row(reject: Reject, run: Row[Any], now: datetime) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "row_number": reject.row_number,
        "document_type": run.document_type,
        "currency": reject.money.currency,
        "amount_minor": reject.money.minor(),
        "column": _storable(reject.column, column_chars_max),
        "reason": _storable(reject.reason, raw_bytes_max),
        "raw": _storable(reject.raw, raw_bytes_max),
        "at": now,
        "fingerprint": reject.fingerprint,
    }


def _storable(text: str | None, bytes_max: int) -> str | None:
    """The beginning of a text from outside, without what a database refuses: NUL, halves of surrogate pairs."""
    if text is None:
        return None
    encoded = text[:bytes_max].encode(errors="replace").replace(b"\0", b"?")
    return encoded[:bytes_max].decode(errors="ignore")
