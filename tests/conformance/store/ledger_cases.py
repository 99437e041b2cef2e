"""Records, documents and letters that the store's tests write about, and a look at what was written."""

from datetime import UTC, date, datetime
from typing import Any

import msgspec
from sqlalchemy import Table, insert, select

from contracts.channels import Receipt, TargetDocument
from contracts.envelope import Batch, Envelope, Item
from contracts.failure import BUSINESS, DeadLetter, Failure
from contracts.money import Money
from pipeline.entries import Parking
from pipeline.messages import encode
from pipeline.ports import posting_key
from store.database import Database
from store.tables import deliveries, records

NOW = datetime(2026, 3, 5, 12, tzinfo=UTC)
SOURCE, DOCUMENT_TYPE = "openair", "expense.v1"
TEN_EUROS = Money.of_minor(1000, "EUR")


async def accept(
    db: Database,
    record_id: str = "r1",
    *,
    subject: str | None = None,
    revision: str = "1",
    fingerprint: str | None = None,
    state: str = "in_flight",
    document_type: str = DOCUMENT_TYPE,
    money: Money = TEN_EUROS,
) -> str:
    """Put a record into the ledger as if ingest had accepted it."""
    row = {
        "id": record_id,
        "source": SOURCE,
        "document_type": document_type,
        "subject": subject or record_id,
        "revision": revision,
        "revision_order": revision.zfill(5),
        "fingerprint": fingerprint or f"content of {record_id}",
        "lane": "bulk",
        "correlation_id": record_id,
        "accepted_at": NOW,
        "changed_at": NOW,
        "currency": money.currency,
        "amount_minor": money.minor(),
        "state": state,
    }
    async with db.begin() as connection:
        await connection.execute(insert(records).values(**row))
    return record_id


def document(
    record_id: str = "r1",
    *,
    subject: str | None = None,
    revision: str = "1",
    target: str = "ledger",
    document_type: str = DOCUMENT_TYPE,
    body: dict[str, Any] | None = None,
    money: Money = TEN_EUROS,
) -> TargetDocument:
    """The document of a record for a target."""
    return TargetDocument(
        target=target,
        kind=document_type,
        reference=posting_key(target, document_type, SOURCE, subject or record_id, revision),
        date=date(2026, 3, 5),
        legal_entity="MAIN",
        amount=money,
        body=msgspec.Raw(msgspec.json.encode(body or {"id": subject or record_id})),
    )


def receipt(target_id: str = "J-1", state: str = "posted") -> Receipt:
    return Receipt(target_id=target_id, state=state, at=NOW)


def letter(
    record_id: str = "r1",
    *,
    stage: str = "enrich",
    code: str = "RATE_MISSING",
    category: str = BUSINESS,
    target: str | None = None,
    letter_id: str | None = None,
    attempts: int = 1,
    message: str = "no rate on 2026-03-05",
    body: bytes = b"{}",
) -> DeadLetter:
    """A dead letter about a record."""
    failure = Failure(
        stage=stage,
        code=code,
        category=category,
        owner="pmo",
        message=message,
        attempts=attempts,
        first_at=NOW,
        last_at=NOW,
    )
    return DeadLetter(
        id=letter_id or f"{record_id}-{stage}-{target}",
        record_id=record_id,
        source=SOURCE,
        document_type=DOCUMENT_TYPE,
        subject=record_id,
        revision="1",
        correlationid=record_id,
        lane="bulk",
        failure=failure,
        amount=TEN_EUROS,
        body=msgspec.Raw(body),
        target=target,
    )


def parking(record_id: str = "r1", key: str = "project.v1:P-1", *, target: str | None = None) -> Parking:
    """A parking of a record at `enrich`; its message says that it travels in the live lane."""
    item = Item(id=record_id, subject=record_id, revision="1", correlationid=record_id, body=msgspec.Raw(b"{}"))
    envelope = Envelope(id=f"m-{record_id}", source=SOURCE, type=DOCUMENT_TYPE, time=NOW, lane="live")
    message = encode(Batch(envelope=envelope, items=(item,)))
    return Parking(record_id=record_id, key=key, stage="enrich", message=message, target=target)


async def rows(db: Database, table: Table) -> list[dict[str, Any]]:
    """Everything in a table."""
    async with db.connect() as connection:
        statement = select(table).order_by(*table.primary_key.columns)
        return [dict(row) for row in (await connection.execute(statement)).mappings()]


async def state_of(db: Database, record_id: str = "r1") -> str:
    return str(next(row["state"] for row in await rows(db, records) if row["id"] == record_id))


async def lease_of(db: Database, record_id: str = "r1") -> datetime | None:
    """Until when somebody's call may be under way."""
    lease: datetime | None = (await delivery_of(db, record_id))["leased_until"]
    return lease


async def delivery_of(db: Database, record_id: str = "r1", target: str = "ledger") -> dict[str, Any]:
    return next(row for row in await rows(db, deliveries) if (row["record_id"], row["target"]) == (record_id, target))
