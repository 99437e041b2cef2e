"""Small batches and stages for the pipeline's own tests."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

import msgspec

from contracts.channels import Document, Validated
from contracts.envelope import Batch, Envelope, Item
from contracts.expense import Expense
from contracts.failure import DeadLetter
from pipeline.entries import Entry
from pipeline.ports import Message
from pipeline.reference import Reference
from pipeline.rules import Rules
from pipeline.stage import Context


def an_expense(subject: str = "E-1", amount: str = "12.30") -> Expense:
    return Expense(id=subject, date=date(2026, 3, 4), amount=Decimal(amount), currency="EUR")


def an_envelope(**changes: object) -> Envelope:
    values = {"id": "m-1", "source": "psa", "type": "expense.v1", "time": datetime.now(UTC), "lane": "bulk"}
    return Envelope(**(values | changes))


def an_item(document: Document, revision: str = "1", target: str | None = None) -> Item:
    return Item(
        id=f"r-{document.id}",
        subject=document.id,
        revision=revision,
        correlationid=f"c-{document.id}",
        body=msgspec.Raw(msgspec.json.encode(document)),
        target=target,
    )


def a_batch(*documents: Document, **changes: object) -> Batch:
    return Batch(envelope=an_envelope(**changes), items=tuple(an_item(document) for document in documents))


def a_context(item: Item, **changes: object) -> Context:
    return Context(envelope=an_envelope(**changes), item=item, reference=Reference(), rules=Rules())


def passes(record: Document, context: Context) -> Validated:
    return Validated(document=record)


class ListLedger:
    """A ledger in memory; `refuses` makes the next entries fail, as a lost database would."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.refuses: Exception | None = None

    async def record(self, entry: Entry) -> None:
        if self.refuses:
            raise self.refuses
        self.entries.append(entry)


class ListPublisher:
    """A publisher in memory, with the same switch."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.letters: list[DeadLetter] = []
        self.refuses: Exception | None = None

    async def publish(self, messages: Sequence[Message]) -> None:
        if self.refuses:
            raise self.refuses
        self.messages += messages

    async def publish_dead(self, letters: Sequence[DeadLetter]) -> None:
        self.letters += letters
