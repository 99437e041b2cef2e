"""Canonical documents to what the store accepts: identity, fingerprint, business key, worth. Deterministic."""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import blake2b

import msgspec

from contracts.base import Contract
from contracts.envelope import LIVE, Batch, Envelope, Item
from contracts.expense import Expense
from contracts.money import NOTHING, Money, UnknownCurrency
from contracts.time_entry import TimeEntry
from ops.ingest.layout import MappingRules
from ops.ingest.rows import Row
from ops.ingest.translation import BadCell, Mapped
from pipeline.history import worker_day
from pipeline.messages import derived_id, encode
from pipeline.reference import Reference
from pipeline.rules import Rules
from pipeline.settings import Settings
from pipeline.worth import worth
from store.intake import AcceptedRecord, Reject, record_id, revision_order
from store.outbox import OutboxRow

#: Who approved it and when says nothing about the content: a re-approval of equal content changes nothing.
APPROVAL = frozenset(("approved_at", "approved_by"))
#: Kept of a refused row, so that a person recognises it.
raw_chars_max = 2000
#: What a message carries around each record and around all of them, in bytes, rounded up.
item_bytes, envelope_bytes = 500, 2000
_NOTHING_KNOWN = Reference()
_encoder = msgspec.json.Encoder(order="deterministic")


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where the records of one run come from, and how they travel."""

    mapping: MappingRules
    settings: Settings
    lane: str
    started: datetime
    approved_states: Collection[str] = Rules().approved_states

    def record(self, mapped: Mapped, row_number: int) -> AcceptedRecord:
        """The record of a mapped row.

        Raises:
          BadCell: it is too large for a message.
        """
        document, source = mapped.document, self.mapping.source
        payload = msgspec.json.encode(document)
        if len(payload) > self.settings.message_bytes_max - item_bytes - envelope_bytes:
            raise BadCell("", f"the record has {len(payload):,} bytes: too large for one message")
        revision = mapped.revision or _digest(_content(document, frozenset()))
        # Revisions that are told apart by their content only are in the order in which they were read.
        order = revision_order(mapped.revision) if mapped.revision else self._order(row_number)
        number = record_id(source, self.mapping.document_type, mapped.subject, revision)
        return AcceptedRecord(
            id=number,
            source=source,
            document_type=self.mapping.document_type,
            subject=mapped.subject,
            revision=revision,
            revision_order=order,
            fingerprint=_digest(_content(document, self._says_nothing(document))),
            lane=self.lane,
            correlation_id=number,
            money=worth(document, _NOTHING_KNOWN),
            payload=payload,
            business_key=business_key(self.mapping.document_type, document),
            worker_day=worker_day(document.worker, document.date) if isinstance(document, TimeEntry) else None,
            hours=document.hours if isinstance(document, TimeEntry) else None,
            region=self.settings.region,
            row_number=row_number,
        )

    def reject(self, row: Row, refusal: BadCell) -> Reject:
        """A refused row, with what it is worth as far as that could be read."""
        content = row.text if isinstance(row.text, bytes) else row.text.encode("utf-8", "surrogateescape")
        return Reject(
            row_number=row.number,
            reason=refusal.reason,
            money=_partial_worth(refusal),
            fingerprint=_digest(self.mapping.source.encode(), self.mapping.document_type.encode(), content.strip()),
            column=refusal.column or None,
            raw=content[: raw_chars_max * 4].decode("utf-8", "replace")[:raw_chars_max],
        )

    def _says_nothing(self, document: Contract) -> frozenset[str]:
        """Fields that make no new content: approved, invoiced and paid are one; withdrawn, or closed, is not."""
        if isinstance(document, TimeEntry | Expense):
            if document.status.casefold() in {state.casefold() for state in self.approved_states}:
                return APPROVAL | {"status"}
            return APPROVAL
        return frozenset()

    def messages(self, records: Sequence[AcceptedRecord], stage: str) -> list[OutboxRow]:
        """The messages that take these records to the first stage: single ones on the live lane, else full batches."""
        return [self._message(group, stage) for group in self._groups(records)]

    def _groups(self, records: Sequence[AcceptedRecord]) -> Iterator[Sequence[AcceptedRecord]]:
        records_max = 1 if self.lane == LIVE else self.settings.bulk_batch_records_max
        group: list[AcceptedRecord] = []
        size = envelope_bytes
        for record in records:
            grows_by = len(record.payload) + item_bytes
            if group and (len(group) >= records_max or size + grows_by > self.settings.message_bytes_max):
                yield group
                group, size = [], envelope_bytes
            group.append(record)
            size += grows_by
        if group:
            yield group

    def _message(self, group: Sequence[AcceptedRecord], stage: str) -> OutboxRow:
        envelope = Envelope(
            id=derived_id("ingest", stage, group[0].id),
            source=self.mapping.source,
            type=self.mapping.document_type,
            dataschema=self.mapping.document_type,
            time=datetime.now(UTC),
            lane=self.lane,
            region=self.settings.region,
        )
        items = tuple(
            Item(
                id=record.id,
                subject=record.subject,
                revision=record.revision,
                correlationid=record.correlation_id,
                body=msgspec.Raw(record.payload),
            )
            for record in group
        )
        body = encode(Batch(envelope=envelope, items=items))
        return OutboxRow(stage=stage, lane=self.lane, records=len(items), body=body)

    def _order(self, row_number: int) -> str:
        return f"{self.started.astimezone(UTC).isoformat(timespec='microseconds')}/{row_number:012d}"


def business_key(document_type: str, document: Contract) -> str | None:
    """Equal for records that may be one and the same under two ids: worker, day, quantity, currency and category.

    None where the worker is not known: then too many would be equal.
    """
    match document:
        case TimeEntry(hours=quantity) | Expense(amount=quantity) if document.worker:
            parts = (document.worker, document.date, quantity.normalize(), document.currency, document.category)
            return _digest(_encoder.encode((document_type, *map(str, parts))))
    return None


def _content(document: Contract, without: frozenset[str]) -> bytes:
    """The fields that say something: one that a later version adds changes nothing until it is filled."""
    fields = msgspec.structs.asdict(document)
    return _encoder.encode({name: value for name, value in fields.items() if value is not None and name not in without})


def _digest(*parts: bytes) -> str:
    digest = blake2b(digest_size=20)
    for part in parts:
        digest.update(b"%d:" % len(part) + part)
    return digest.hexdigest()


def _partial_worth(refusal: BadCell) -> Money:
    amount, currency = refusal.partial.get("amount"), refusal.partial.get("currency")
    if not isinstance(amount, Decimal) or not isinstance(currency, str):
        return NOTHING
    try:
        return Money(amount=amount, currency=currency).rounded()
    except UnknownCurrency:
        return NOTHING
