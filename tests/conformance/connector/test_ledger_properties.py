"""Whatever is posted, reversed and replaced, in whatever order: debits equal credits and the totals are right."""

import asyncio
import secrets
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.ledger import EmbeddedLedger
from contracts.channels import Receipt, TargetDocument
from pipeline.codes import NOT_IN_TARGET, TARGET_REFUSED
from pipeline.errors import PermanentError, PipelineError, TransientError
from store.database import Database

from .subjects import journal_document

#: (what to do, document, amount, which document is replaced)
Step = tuple[Literal["post", "reverse", "replace"], int, int, int]

steps = st.lists(
    st.tuples(st.sampled_from(["post", "reverse", "replace"]), st.integers(0, 4), st.integers(1, 3), st.integers(0, 4)),
    max_size=25,
)
against_a_database = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@dataclass
class Expected:
    """One document of the model."""

    amount: int
    reversed: bool = False
    replaced_by: int | None = None


class Model:
    """What the ledger should hold, told in a dictionary."""

    def __init__(self) -> None:
        self.documents: dict[int, Expected] = {}

    def apply(self, step: Step) -> str:
        """The outcome: `done`, `refused`, `missing` or `later`."""
        what, number, amount, replaced = step
        if what == "reverse":
            if number not in self.documents:
                return "missing"
            self.documents[number].reversed = True
            return "done"
        if what == "replace" and replaced == number:
            return "refused"
        if (existing := self.documents.get(number)) is not None:
            return "refused" if existing.reversed or existing.amount != amount else "done"
        if what == "replace":
            if (old := self.documents.get(replaced)) is None:
                return "refused"
            if old.replaced_by is not None and not self.documents[old.replaced_by].reversed:
                return "later"
            old.reversed, old.replaced_by = True, number
        self.documents[number] = Expected(amount)
        return "done"

    @property
    def living(self) -> list[int]:
        return [document.amount for document in self.documents.values() if not document.reversed]


class Run:
    """One example in a corner of the database of its own: its documents have a type and an entity of their own."""

    def __init__(self, ledger: EmbeddedLedger) -> None:
        self.ledger, self.name = ledger, secrets.token_hex(6)

    def document(self, step: Step) -> TargetDocument:
        what, number, amount, replaced = step
        return journal_document(
            f"{self.name}/{number}",
            f"{amount}.00",
            legal_entity=self.name,
            document_type=self.name,
            replaces=f"{self.name}/{replaced}" if what == "replace" else None,
        )

    async def apply(self, step: Step) -> str:
        try:
            if step[0] == "reverse":
                await self.ledger.reverse(f"{self.name}/{step[1]}", "a property")
            else:
                await self.ledger.post(self.document(step))
        except PermanentError as error:
            return {TARGET_REFUSED: "refused", NOT_IN_TARGET: "missing"}[error.code]
        except TransientError:
            return "later"
        return "done"

    async def total(self) -> tuple[int, Decimal]:
        mine = [total for total in await self.ledger.totals() if total.document_type == self.name]
        return sum(total.count for total in mine), sum((total.amount.amount for total in mine), Decimal(0))

    async def is_in_balance(self) -> bool:
        mine = [side for side in await self.ledger.trial_balance() if side.legal_entity == self.name]
        return all(side.debit == side.credit for side in mine) and await self.ledger.irregularities() == []


@against_a_database
@given(steps=steps)
async def test_any_mix_of_postings_reversals_and_corrections_does_what_the_model_says(
    database: Database, steps: list[Step]
) -> None:
    ledger = EmbeddedLedger(database)
    run, model = Run(ledger), Model()
    for step in steps:
        assert await run.apply(step) == model.apply(step), step
    assert await run.total() == (len(model.living), Decimal(sum(model.living)))
    assert await run.is_in_balance()
    for number, expected in model.documents.items():
        found = await ledger.find(f"{run.name}/{number}")
        assert found is not None
        assert (found.amount.amount, found.reversed) == (expected.amount, expected.reversed)
    await ledger.close()


@against_a_database
@given(steps=steps)
async def test_any_mix_at_once_from_two_processes_leaves_the_books_in_balance(
    database: Database, steps: list[Step]
) -> None:
    first, second = EmbeddedLedger(database), EmbeddedLedger(database)
    run, other = Run(first), Run(second)
    other.name = run.name
    await asyncio.gather(*((run, other)[number % 2].apply(step) for number, step in enumerate(steps)))
    found = [await first.find(f"{run.name}/{number}") for number in range(5)]
    living = [one.amount.amount for one in found if one is not None and not one.reversed]
    assert await run.total() == (len(living), sum(living, Decimal(0)))
    assert await run.is_in_balance()
    await first.close()
    await second.close()


@against_a_database
@given(steps=steps)
async def test_one_call_does_what_the_same_documents_do_one_by_one(database: Database, steps: list[Step]) -> None:
    ledger = EmbeddedLedger(database)
    run = Run(ledger)
    documents = [run.document(step) for step in steps if step[0] != "reverse"]
    outcomes = await ledger.post_bulk(documents)
    assert all(isinstance(outcome, Receipt | PipelineError) for outcome in outcomes)
    assert await run.is_in_balance()
    for document, outcome in zip(documents, outcomes, strict=True):
        if isinstance(outcome, Receipt):
            found = await ledger.find(document.reference)
            assert found is not None
            assert (found.receipt, found.amount) == (outcome, document.amount)
    await ledger.close()
