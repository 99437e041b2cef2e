"""What a test of the store starts from: accepted records, brought to a state through the ledger itself."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from contracts.channels import Receipt, TargetDocument
from contracts.envelope import Batch, Envelope, Item
from contracts.failure import DeadLetter, Failure
from contracts.money import Money
from pipeline.codes import PERIOD_CLOSED, Code
from pipeline.entries import Entry, NewDelivery, Parking, StateChange, Step
from pipeline.messages import encode
from pipeline.ports import posting_key
from store.database import Database
from store.intake import Accepted, AcceptedRecord, Intake, Reject, record_id, revision_order
from store.ledger import LedgerWriter
from store.outbox import Outbox, OutboxRow
from store.postings import StorePostings

EXPENSE = "expense.v1"
SOURCE = "openair"


def euros(amount: str | int) -> Money:
    return Money(amount=Decimal(amount), currency="EUR")


def a_record(subject: str, revision: str = "1", amount: str | int = 10, **changes: Any) -> AcceptedRecord:
    source, document_type = changes.pop("source", SOURCE), changes.pop("document_type", EXPENSE)
    plain = AcceptedRecord(
        id=record_id(source, document_type, subject, revision),
        source=source,
        document_type=document_type,
        subject=subject,
        revision=revision,
        revision_order=revision_order(revision),
        fingerprint=f"{subject}/{revision}",
        lane="bulk",
        correlation_id=f"corr-{subject}",
        money=euros(amount),
        payload=msgspec.json.encode({"id": subject}),
        row_number=1,
    )
    return msgspec.structs.replace(plain, **changes)


def a_reject(row_number: int, amount: str | int = 5, raw: str | None = "a;b;c") -> Reject:
    return Reject(
        row_number=row_number,
        column="amount",
        reason="not a number",
        raw=raw,
        money=euros(amount),
        fingerprint=f"row {row_number}",
    )


def a_message(records: Sequence[AcceptedRecord], stage: str = "validate") -> OutboxRow:
    items = tuple(
        Item(
            id=record.id,
            subject=record.subject,
            revision=record.revision,
            correlationid=record.correlation_id,
            body=msgspec.Raw(record.payload),
        )
        for record in records
    )
    envelope = Envelope(id="m-1", source=SOURCE, type=EXPENSE, time=datetime.now(UTC), lane="bulk")
    return OutboxRow(stage=stage, lane="bulk", records=len(items), body=encode(Batch(envelope=envelope, items=items)))


def a_letter(
    record: AcceptedRecord,
    code: Code = PERIOD_CLOSED,
    *,
    stage: str = "enrich",
    target: str | None = None,
    **changes: Any,
) -> DeadLetter:
    now = datetime.now(UTC)
    letter = DeadLetter(
        id=f"dead-{record.subject}-{record.revision}-{target or ''}-{stage}",
        record_id=record.id,
        source=record.source,
        document_type=record.document_type,
        subject=record.subject,
        revision=record.revision,
        correlationid=record.correlation_id,
        lane=record.lane,
        failure=Failure(
            stage=stage,
            code=code.name,
            category=code.category,
            owner=code.owner,
            message=f"the period of {record.subject} is closed",
            attempts=1,
            first_at=now,
            last_at=now,
        ),
        amount=record.money,
        body=msgspec.Raw(b'{"id":"' + record.subject.encode() + b'"}'),
        target=target,
    )
    return msgspec.structs.replace(letter, **changes)


def continuation(letters: Sequence[DeadLetter]) -> list[OutboxRow]:
    """What a requeue of letters owes to the broker: a message each."""
    return [_continuation(letter) for letter in letters]


def _continuation(letter: DeadLetter) -> OutboxRow:
    item = Item(
        id=letter.record_id, subject=letter.subject, revision=letter.revision, correlationid="c", body=letter.body
    )
    envelope = Envelope(id=letter.id, source=SOURCE, type=EXPENSE, time=datetime.now(UTC), lane=letter.lane)
    return OutboxRow(
        stage=letter.failure.stage,
        lane=letter.lane,
        records=1,
        body=encode(Batch(envelope=envelope, items=(item,))),
    )


class Given:
    """A database, its intake and its ledger, and short ways to bring records somewhere."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.outbox = Outbox(db)
        self.intake = Intake(db, self.outbox)
        self.ledger = LedgerWriter(db, worker="test", rows_max=1000)
        self.postings = StorePostings(db, self.outbox, worker="test", rows_max=1000, on_outbox=self._ignore)

    async def a_run(self, document_type: str = EXPENSE) -> str:
        return await self.intake.open_run(
            actor="ann", origin="file.csv", source=SOURCE, document_type=document_type, lane="bulk"
        )

    async def accepted(self, *records: AcceptedRecord, rejects: Sequence[Reject] = (), run_id: str = "") -> Accepted:
        """Accept records whose messages the broker has confirmed at once."""
        done = await self.intake.accept(
            run_id or await self.a_run(records[0].document_type if records else EXPENSE),
            records,
            rejects,
            rows=len(records) + len(rejects),
            filtered=0,
            read=len(records) + len(rejects),
            messages=lambda new: [a_message(new)],
        )
        await self.outbox.delete([row.number for row in done.outbox])
        return done

    async def state(self, state: str, *records: AcceptedRecord, target: str | None = None) -> None:
        changes = [StateChange(record_id=record.id, state=state, target=target) for record in records]
        await self.ledger.record(Entry(states=changes))

    async def dead(self, *letters: DeadLetter) -> None:
        await self.ledger.record(Entry(dead=list(letters)))

    async def parked(self, record: AcceptedRecord, key: str = "project.v1:P-1") -> None:
        message = a_message([record], "enrich").body
        parking = Parking(record_id=record.id, key=key, stage="enrich", message=message)
        await self.ledger.record(Entry(parkings=[parking]))

    async def step(self, record: AcceptedRecord, stage: str, outcome: str = "passed") -> None:
        await self.ledger.record(Entry(steps=[Step(record_id=record.id, stage=stage, outcome=outcome)]))

    async def routed(self, record: AcceptedRecord, *targets: str) -> None:
        deliveries = [
            NewDelivery(record_id=record.id, target=target, posting_key=key_of(record, target), amount=record.money)
            for target in targets
        ]
        await self.ledger.record(Entry(deliveries=deliveries))

    async def posted(self, record: AcceptedRecord, target: str = "ledger", state: str = "posted") -> None:
        """Route a record to a target and let that answer."""
        await self.routed(record, target)
        document = TargetDocument(
            target=target,
            kind="journal_entry",
            reference=key_of(record, target),
            date=datetime.now(UTC).date(),
            legal_entity="MAIN",
            amount=record.money,
            body=msgspec.Raw(b"{}"),
        )
        await self.postings.intend(record.id, document, 1000)
        await self.postings.answer(
            record.id, document, Receipt(target_id=f"J-{record.subject}", state=state, at=datetime.now(UTC))
        )

    async def close(self) -> None:
        await self.ledger.close()
        await self.postings.close()

    @staticmethod
    def _ignore(_rows: Sequence[OutboxRow]) -> None:
        """Nobody is parked in these tests for what they post."""


def key_of(record: AcceptedRecord, target: str) -> str:
    return posting_key(target, record.document_type, record.source, record.subject, record.revision)


@asynccontextmanager
async def given_in(db: Database) -> AsyncIterator[Given]:
    given = Given(db)
    try:
        yield given
    finally:
        await given.close()
