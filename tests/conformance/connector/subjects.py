"""What the suite asks of a connector under test: instances of its target, and documents that it takes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import date
from decimal import Decimal
from typing import Protocol, Self

import msgspec

from connectors.ledger import EmbeddedLedger
from connectors.ledger.journal import JournalEntry, JournalLine
from contracts.channels import TargetDocument
from contracts.money import NOTHING, Money
from contracts.project import Project, Task
from pipeline.ports import Target, posting_key
from store.database import Database as StoreDatabase
from store.masterdata import MasterData
from tests.conformance.connector.roads import PortRoad, Road
from tests.conftest import DATABASE_KINDS
from tests.faults.plan import FaultPlan


class Subject(Protocol):
    """One connector with a system of its own behind it.

    `immutable`: what was posted under a reference stays as it is; other content under it is refused.
    `remote`: the system works on a call in another process, so that it may go on when the caller has died.
    `databases`: of ours that it is tried with: both where the system itself is in it.
    `many`: how many documents it is asked for at once.
    `keeps_periods`: a document dated in a closed period is refused; where not, it is taken like any other.
    `place`: where the system is, for another process of the test's; a database of ours goes without saying.
    """

    immutable: bool
    remote: bool
    databases: tuple[str, ...]
    many: int
    keeps_periods: bool
    place: str

    @classmethod
    def at(cls, place: str, database: StoreDatabase) -> Self:
        """The subject over a system that is there already."""

    def open(self) -> Target:
        """A new instance over the same system, as another process would have."""

    def road(self, plan: FaultPlan, seed: int) -> AbstractContextManager[Road]:
        """A way to the system on which calls are disturbed."""

    def document(self, number: int, revision: int = 1, *, replaces: int | None = None) -> TargetDocument:
        """Revision `revision` of document `number`; revisions differ in content. `replaces` is an earlier revision."""

    def refused_document(self, number: int) -> TargetDocument:
        """A document that the target refuses for good."""

    def named(self, name: str) -> TargetDocument:
        """A document that has this id in its source, whatever the id is made of."""

    async def in_closed_period(self, number: int) -> TargetDocument:
        """Document `number`, dated in a period that is closed by now, where the system has periods."""


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


class LocalSubject(ABC):
    """A target in our own process, over the database that it is given; most are."""

    immutable = True
    remote = False
    databases = DATABASE_KINDS
    many = 1_000
    keeps_periods = False
    place = ""

    def __init__(self, database: StoreDatabase) -> None:
        self.database = database

    @classmethod
    def at(cls, place: str, database: StoreDatabase) -> Self:
        return cls(database)

    @abstractmethod
    def open(self) -> Target: ...

    @abstractmethod
    def document(self, number: int, revision: int = 1, *, replaces: int | None = None) -> TargetDocument: ...

    @contextmanager
    def road(self, plan: FaultPlan, seed: int) -> Iterator[Road]:
        yield PortRoad(self.open, plan, seed)

    async def in_closed_period(self, number: int) -> TargetDocument:
        return self.document(number)


class LedgerSubject(LocalSubject):
    """The embedded ledger."""

    many = 10_000
    keeps_periods = True

    def open(self) -> EmbeddedLedger:
        return EmbeddedLedger(self.database)

    def document(self, number: int, revision: int = 1, *, replaces: int | None = None) -> TargetDocument:
        return journal_document(
            _reference(number, revision),
            f"{100 + number + revision / 100:.2f}",
            replaces=_reference(number, replaces) if replaces else None,
        )

    def refused_document(self, number: int) -> TargetDocument:
        return journal_document(_reference(number, 1), account="9999")

    def named(self, name: str) -> TargetDocument:
        return journal_document(posting_key("ledger", "time_entry.v1", "openair", name, "1"))

    async def in_closed_period(self, number: int) -> TargetDocument:
        ledger = self.open()
        await ledger.close_period("DE", "2026-02")
        await ledger.close()
        return journal_document(_reference(number, 1), on=date(2026, 2, 5))


class MasterDataSubject(LocalSubject):
    """Master data: the target that the stages' own reference data is written by."""

    immutable = False

    def open(self) -> MasterData:
        return MasterData(self.database)

    def document(self, number: int, revision: int = 1, *, replaces: int | None = None) -> TargetDocument:
        return self._document(f"P-{number}", revision, _project(f"P-{number}", f"Bridge {number}.{revision}"), replaces)

    def refused_document(self, number: int) -> TargetDocument:
        return self._document(f"P-{number}", 1, b'{"name": "a project without an id"}')

    def named(self, name: str) -> TargetDocument:
        return self._document(name, 1, _project(name, "Bridge"))

    def _document(self, name: str, revision: int, body: bytes, replaces: int | None = None) -> TargetDocument:
        return TargetDocument(
            target="masterdata",
            kind="project.v1",
            reference=posting_key("masterdata", "project.v1", "openair", name, str(revision)),
            date=date(2026, 3, 5),
            legal_entity="DE",
            amount=NOTHING,
            body=msgspec.Raw(body),
            replaces=posting_key("masterdata", "project.v1", "openair", name, str(replaces)) if replaces else None,
        )


def _project(name: str, title: str) -> bytes:
    return msgspec.json.encode(Project(id=name, name=title, tasks=(Task(id="T-1", name="Design"),)))


def _reference(number: int, revision: int) -> str:
    return f"ledger/time_entry.v1/openair/TE-{number}/{revision}"
