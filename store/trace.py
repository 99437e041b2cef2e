"""The life of one record, found by whatever id a person has at hand."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Row, Table, select, union
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.money import Money
from store.audit import AuditEntry, entry_of
from store.database import Database
from store.dead_letter_filter import LETTER_COLUMNS, Letter, letter_of
from store.tables import audit, dead_letters, deliveries, parked, records, steps

#: The beginning of a record id that is enough to look for it.
prefix_chars_min = 6

#: Records that an ambiguous id is answered with.
candidates_max = 50

_ID_PREFIX = re.compile(rf"[a-z2-7]{{{prefix_chars_min},24}}")


class TracedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record as the ledger has it; `payload` None: retention removed it."""

    id: str
    source: str
    document_type: str
    subject: str
    revision: str
    state: str
    lane: str
    region: str | None
    correlation_id: str
    run_id: str | None
    row_number: int | None
    accepted_at: datetime
    changed_at: datetime
    flags: str | None
    amount: Money
    payload: bytes | None


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One of several records that an id may mean, or another revision of the same source key."""

    id: str
    source: str
    document_type: str
    subject: str
    revision: str
    state: str
    amount: Money


class TracedDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """One way to one target."""

    posting_key: str
    target: str
    state: str
    intent_at: datetime | None
    answered_at: datetime | None
    target_id: str | None
    replaces: str | None
    changed_at: datetime
    amount: Money


class TracedStep(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the record's life."""

    at: datetime
    stage: str
    outcome: str
    target: str | None
    code: str | None
    detail: str | None
    message_id: str | None
    attempt: int
    worker: str | None


class TracedParking(msgspec.Struct, frozen=True, kw_only=True):
    """What the record waits for."""

    target: str
    key: str
    stage: str
    parked_at: datetime


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one record. `revisions` are the others of its source key, oldest first; steps are in order."""

    record: TracedRecord
    revisions: list[Candidate]
    deliveries: list[TracedDelivery]
    steps: list[TracedStep]
    dead_letters: list[Letter]
    parked: list[TracedParking]
    audit: list[AuditEntry]


async def trace(db: Database, id_or_subject: str) -> Trace | list[Candidate] | None:
    """Find a record by its id (or the first 6 characters), the source's own id, or the id of a posting, a correlation
    or a dead letter.

    A source's own id means its newest revision. Returns a list when several records fit, None when none does.
    """
    async with db.connect() as connection:
        found = await _find(connection, id_or_subject.strip())
        if not found:
            return None
        if len({(row.source, row.document_type, row.subject) for row in found}) > 1:
            return [_candidate(row) for row in found]
        return await _trace(connection, found[-1].id)


async def _find(connection: AsyncConnection, wanted: str) -> list[Any]:
    """The records meant, by the most particular kind of id that fits; revisions in order."""
    lowered = wanted.lower()
    of_letter = select(dead_letters.c.record_id).where(dead_letters.c.id == wanted)
    of_posting = select(deliveries.c.record_id).where(deliveries.c.posting_key == wanted)
    kinds = [
        records.c.id == lowered,
        records.c.id.in_(union(of_letter, of_posting)),
        records.c.subject == wanted,
    ]
    if _ID_PREFIX.fullmatch(lowered):
        # "z" is the last letter of base32, in every collation.
        kinds.append(records.c.id.between(lowered, lowered.ljust(24, "z")))
    # Has no index: the last resort.
    kinds.append(records.c.correlation_id == wanted)
    for condition in kinds:
        rows = await connection.execute(
            select(*_columns(records, Candidate), records.c.revision_order, records.c.number)
            .where(condition)
            .order_by(records.c.number)
            .limit(candidates_max)
        )
        if found := rows.all():
            return sorted(found, key=lambda row: (row.revision_order, row.number))
    return []


async def _trace(connection: AsyncConnection, record_id: str) -> Trace:
    async def rows_of(table: Table, of: type[msgspec.Struct], order: str) -> Sequence[Row[Any]]:
        statement = select(*_columns(table, of)).where(table.c.record_id == record_id).order_by(table.c[order])
        return (await connection.execute(statement)).all()

    record = (await connection.execute(select(*_columns(records, TracedRecord)).where(records.c.id == record_id))).one()
    revisions = await connection.execute(
        select(*_columns(records, Candidate))
        .where(
            records.c.subject == record.subject,
            records.c.source == record.source,
            records.c.document_type == record.document_type,
            records.c.id != record_id,
        )
        .order_by(records.c.revision_order, records.c.number)
    )
    letters = await connection.execute(
        select(*LETTER_COLUMNS).where(dead_letters.c.record_id == record_id).order_by(dead_letters.c.first_at)
    )
    return Trace(
        record=_of(TracedRecord, record),
        revisions=[_candidate(row) for row in revisions],
        deliveries=[_of(TracedDelivery, row) for row in await rows_of(deliveries, TracedDelivery, "posting_key")],
        steps=[_of(TracedStep, row) for row in await rows_of(steps, TracedStep, "number")],
        dead_letters=[letter_of(row) for row in letters],
        parked=[_of(TracedParking, row) for row in await rows_of(parked, TracedParking, "key")],
        audit=[entry_of(row) for row in await rows_of(audit, AuditEntry, "number")],
    )


_Struct = TypeVar("_Struct", bound=msgspec.Struct)


def _columns(table: Table, of: type[msgspec.Struct]) -> list[Any]:
    """The columns a Struct is read from; an amount stands in two."""
    names = [name for name in of.__struct_fields__ if name != "amount"]
    money = ["currency", "amount_minor"] if "amount" in of.__struct_fields__ else []
    return [table.c[name] for name in names + money]


def _of(kind: type[_Struct], row: Row[Any]) -> _Struct:
    values = dict(row._mapping)
    if "currency" in values:
        values["amount"] = Money.of_minor(values.pop("amount_minor"), values.pop("currency"))
    return kind(**values)


def _candidate(row: Row[Any]) -> Candidate:
    values = {name: getattr(row, name) for name in Candidate.__struct_fields__ if name != "amount"}
    return Candidate(**values, amount=Money.of_minor(row.amount_minor, row.currency))
