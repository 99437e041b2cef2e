"""What the suite asks of a connector under test: instances of its target, and documents that it takes."""

from datetime import date
from decimal import Decimal
from typing import Protocol

import msgspec

from connectors.ledger import EmbeddedLedger
from connectors.ledger.database import Database
from connectors.ledger.journal import JournalEntry, JournalLine
from contracts.channels import TargetDocument
from contracts.money import NOTHING, Money
from contracts.project import Project, Task
from pipeline.ports import Target
from store.database import Database as StoreDatabase
from store.masterdata import MasterData


class Subject(Protocol):
    """One connector with a system of its own behind it.

    `immutable`: what was posted under a reference stays as it is; other content under it is refused.
    `many`: how many documents it is asked for at once.
    """

    immutable: bool
    many: int

    def open(self) -> Target:
        """A new instance over the same system, as another process would have."""

    def document(self, number: int, revision: int = 1, *, replaces: int | None = None) -> TargetDocument:
        """Revision `revision` of document `number`; revisions differ in content. `replaces` is an earlier revision."""

    def refused_document(self, number: int) -> TargetDocument:
        """A document that the target refuses for good."""


def journal_document(
    reference: str,
    amount: str = "100.00",
    *,
    on: date = date(2026, 3, 5),
    legal_entity: str = "DE",
    document_type: str = "time_entry.v1",
    currency: str = "EUR",
    account: str = "1300",
    replaces: str | None = None,
    memo: str = "8 HUR of W-7 on P-100",
) -> TargetDocument:
    """A balanced entry over `amount`: `account` against revenue."""
    value = Decimal(amount)
    dimensions = {"worker": "W-7", "project": "P-100", "customer": "C-3", "cost_center": "CC-1"}
    entry = JournalEntry(
        document_type=document_type,
        date=on,
        legal_entity=legal_entity,
        entity_currency=currency,
        entity_amount=value,
        memo=memo,
        lines=(
            JournalLine(account=account, debit=value, **dimensions),
            JournalLine(account="4000", credit=value, **dimensions),
        ),
        details={"hours": "8", "unit": "HUR"},
    )
    return TargetDocument(
        target="ledger",
        kind="journal_entry",
        reference=reference,
        date=on,
        legal_entity=legal_entity,
        amount=Money(amount=value, currency=currency),
        body=msgspec.Raw(msgspec.json.encode(entry)),
        replaces=replaces,
    )


class LedgerSubject:
    """The embedded ledger."""

    immutable = True
    many = 10_000

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self) -> EmbeddedLedger:
        return EmbeddedLedger(self._database)

    def document(self, number: int, revision: int = 1, *, replaces: int | None = None) -> TargetDocument:
        return journal_document(
            _reference(number, revision),
            f"{100 + number + revision / 100:.2f}",
            replaces=_reference(number, replaces) if replaces else None,
        )

    def refused_document(self, number: int) -> TargetDocument:
        return journal_document(_reference(number, 1), account="9999")


class MasterDataSubject:
    """Master data: the target that the stages' own reference data is written by."""

    immutable = False
    many = 1_000

    def __init__(self, database: StoreDatabase) -> None:
        self._database = database

    def open(self) -> MasterData:
        return MasterData(self._database)

    def document(self, number: int, revision: int = 1, *, replaces: int | None = None) -> TargetDocument:
        project = Project(id=f"P-{number}", name=f"Bridge {number}.{revision}", tasks=(Task(id="T-1", name="Design"),))
        return self._document(number, revision, msgspec.json.encode(project), replaces)

    def refused_document(self, number: int) -> TargetDocument:
        return self._document(number, 1, b'{"name": "a project without an id"}', None)

    def _document(self, number: int, revision: int, body: bytes, replaces: int | None) -> TargetDocument:
        return TargetDocument(
            target="masterdata",
            kind="project.v1",
            reference=f"masterdata/project.v1/openair/P-{number}/{revision}",
            date=date(2026, 3, 5),
            legal_entity="DE",
            amount=NOTHING,
            body=msgspec.Raw(body),
            replaces=f"masterdata/project.v1/openair/P-{number}/{replaces}" if replaces else None,
        )


def _reference(number: int, revision: int) -> str:
    return f"ledger/time_entry.v1/openair/TE-{number}/{revision}"
