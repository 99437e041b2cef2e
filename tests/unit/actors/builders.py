"""Records, contexts and small honest ports for the stages' tests. Today is 20 March 2026."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from actors.enrich import enrich
from actors.validate import validate
from contracts.channels import (
    Attribution,
    Document,
    Enriched,
    Receipt,
    TargetDocument,
    Validated,
)
from contracts.customer import Customer
from contracts.envelope import Envelope, Item
from contracts.expense import Expense
from contracts.money import Money
from contracts.project import Project
from contracts.rate_card import RateCard
from contracts.time_entry import TimeEntry
from contracts.worker import Worker
from pipeline.errors import PermanentError, TransientError
from pipeline.history import History, Revision
from pipeline.ports import Capabilities, Found, Intent, Total
from pipeline.reference import Mapping, Period, Reference
from pipeline.rules import LegalEntity, Rules
from pipeline.stage import Context

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
DAY = date(2026, 3, 4)
MINE = "r-mine"

ENTITIES = {
    "DE01": LegalEntity(currency="EUR", tax_regime="DE"),
    "CH01": LegalEntity(currency="CHF", tax_regime="CH"),
}
TWO_ENTITIES = Rules(legal_entities=ENTITIES, default_legal_entity="DE01")


def eur(amount: str) -> Money:
    return Money(amount=Decimal(amount), currency="EUR")


def an_entry(**changes: Any) -> TimeEntry:
    return replace(TimeEntry(id="T-1", worker="W-1", date=DAY, hours=Decimal(8), project="P-1"), **changes)


def an_expense(**changes: Any) -> Expense:
    return replace(Expense(id="X-1", date=DAY, amount=Decimal("12.30"), currency="EUR", worker="W-1"), **changes)


def a_worker(**changes: Any) -> Worker:
    return replace(Worker(id="W-1", role="engineer", cost_center="CC-7"), **changes)


def a_project(**changes: Any) -> Project:
    return replace(Project(id="P-1", name="Bridge", customer="C-1"), **changes)


def a_customer(**changes: Any) -> Customer:
    return replace(Customer(id="C-1", name="Delta"), **changes)


def a_card(**changes: Any) -> RateCard:
    return replace(RateCard(id="R-1", rate=Decimal(100), currency="EUR"), **changes)


def a_reference(
    *masters: Customer | Project | Worker | RateCard,
    mappings: dict[str, dict[str, str]] | None = None,
    rows: Iterable[Mapping] = (),
    closed: Iterable[tuple[str, str]] = (),
) -> Reference:
    """Master records, undated mappings, dated ones of one kind and key, and closed months per legal entity."""
    reference = Reference()
    for master in masters:
        reference.put_master(master.id, master)
    for kind, values in (mappings or {}).items():
        for key, value in values.items():
            reference.put_mappings(kind, key, [Mapping(kind=kind, key=key, value=value)])
    dated = list(rows)
    if dated:
        reference.put_mappings(dated[0].kind, dated[0].key, dated)
    for entity, name in closed:
        reference.put_period(Period(legal_entity=entity, name=name, closed=True))
    return reference


def a_context(document: Any = None, *, source: str = "psa", document_type: str = "", **parts: Any) -> Context:
    """The context of a document, whose type the envelope names; `parts` are fields of Context."""
    tag = str(document.__struct_config__.tag) if isinstance(document, Document) else "time_entry.v1"
    values: dict[str, Any] = {
        "envelope": Envelope(id="m-1", source=source, type=document_type or tag, time=NOW, lane="live"),
        "item": Item(id=MINE, subject="T-1", revision="2", correlationid="c-1", body=msgspec.Raw(b"{}")),
        "reference": Reference(),
        "rules": Rules(),
        "now": NOW,
    }
    return Context(**(values | parts))


def revisions(*states: str, mine: int, contents: str | None = None) -> History:
    """The history of revisions 1, 2, ... in these states; number `mine` is the one judged, letters are contents."""
    contents = contents or "abcdefgh"[: len(states)]
    return History(
        record_id=MINE,
        revisions=tuple(
            Revision(
                record_id=MINE if number == mine else f"r-{number}",
                revision=str(number),
                order=str(number),
                fingerprint=content,
                state=state,
            )
            for number, (state, content) in enumerate(zip(states, contents, strict=True), 1)
        ),
    )


def validating_refused(document: Document, **parts: Any) -> PermanentError:
    """The error that `validate` refuses the document with."""
    with pytest.raises(PermanentError) as caught:
        validate(document, a_context(document, **parts))
    return caught.value


def enriching(document: Document, *masters: Customer | Project | Worker | RateCard, **parts: Any) -> Enriched:
    """What `enrich` makes of the document when these master records have arrived."""
    parts.setdefault("reference", a_reference(*masters))
    found: Enriched = enrich(Validated(document=document), a_context(document, **parts))
    return found


def enriching_refused(
    document: Document, *masters: Customer | Project | Worker | RateCard, **parts: Any
) -> PermanentError:
    """The error that `enrich` refuses the document with."""
    with pytest.raises(PermanentError) as caught:
        enriching(document, *masters, **parts)
    return caught.value


def enriched(document: Document, legal_entity: str = "MAIN") -> Enriched:
    return Enriched(
        document=document,
        attribution=Attribution(legal_entity=legal_entity, amount=eur("100.00"), entity_amount=eur("100.00")),
    )


def a_target_document(reference: str = "memory/time_entry.v1/psa/T-1/2", **changes: Any) -> TargetDocument:
    values: dict[str, Any] = {
        "target": "memory",
        "kind": "journal_entry",
        "reference": reference,
        "date": DAY,
        "legal_entity": "MAIN",
        "amount": eur("100.00"),
        "body": msgspec.Raw(b'{"memo": "8 hours", "lines": [{"account": "0400", "debit": "100.00"}]}'),
    }
    return TargetDocument(**(values | changes))


class MemoryTarget:
    """A target in memory: creates, corrects and reads back.

    `failures` are how its first calls end: whether the document is created all the same, and the error.
    """

    name = "memory"

    def __init__(self, *, unique_reference: bool = False, failures: Sequence[tuple[bool, Exception]] = ()) -> None:
        self.capabilities = Capabilities(unique_reference=unique_reference, reverse=True)
        self.held: dict[str, Found] = {}
        self.failures = list(failures)
        self.calls: list[TargetDocument] = []

    async def post(self, document: TargetDocument) -> Receipt:
        self.calls.append(document)
        created, error = self.failures.pop(0) if self.failures else (True, None)
        if created:
            self._create(document)
        if error is not None:
            raise error
        return self.held[document.reference].receipt

    def _create(self, document: TargetDocument) -> None:
        if document.replaces:
            self.held[document.replaces] = replace(self.held[document.replaces], reversed=True)
        self.held[document.reference] = Found(
            reference=document.reference,
            receipt=Receipt(target_id=f"JE-{len(self.held) + 1}", state="posted", at=NOW),
            amount=document.amount,
            fields=msgspec.json.decode(document.body),
        )

    async def find(self, reference: str) -> Found | None:
        return self.held.get(reference)

    async def totals(self) -> Sequence[Total]:
        return ()

    async def close(self) -> None:
        pass


@dataclass
class MemoryPostings:
    """Intents and answers in memory, without a clock: a lease holds until `lapse` lets it go.

    `older` is the reference of a posted older revision; `ended` ends every intent, as a newer revision would.
    """

    older: str | None = None
    ended: Intent | None = None
    announced: set[str] = field(default_factory=set)
    leased: dict[str, datetime] = field(default_factory=dict)
    leases: int = 0
    receipts: dict[str, Receipt] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)
    unreachable: bool = False

    async def intend(self, record_id: str, document: TargetDocument, lease_ms: int) -> Intent:
        reference = document.reference
        if self.ended is not None:
            return self.ended
        if reference in self.receipts:
            return Intent(status="answered", receipt=self.receipts[reference], replaces=self.older)
        if reference in self.leased:
            return Intent(status="leased")
        status = "in_doubt" if reference in self.announced else "new"
        self.announced.add(reference)
        lease = None
        if lease_ms:
            self.leases += 1
            lease = self.leased[reference] = NOW + timedelta(milliseconds=lease_ms, microseconds=self.leases)
        return Intent(status=status, replaces=self.older, leased_until=lease)

    async def answer(self, record_id: str, document: TargetDocument, receipt: Receipt) -> None:
        if self.unreachable:
            raise TransientError("the database is away")
        self.receipts[document.reference] = receipt

    async def doubt(self, record_id: str, document: TargetDocument, reason: str, lease: datetime | None) -> None:
        self.doubts[document.reference] = reason
        self._end(document, lease)

    async def not_created(self, record_id: str, document: TargetDocument, lease: datetime | None) -> None:
        self._end(document, lease)

    def _end(self, document: TargetDocument, lease: datetime | None) -> None:
        if self.leased.get(document.reference) == lease:
            self.leased.pop(document.reference, None)

    def lapse(self) -> None:
        """Time goes by until every lease has run out."""
        self.leased.clear()
