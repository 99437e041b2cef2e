"""What the embedded ledger promises an accountant: periods, reversals, balances, books that always balance."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from connectors.ledger import EmbeddedLedger
from connectors.ledger.chart import DEFAULT_CHART, Account
from connectors.ledger.tables import lines
from contracts.channels import Receipt
from contracts.money import Money
from pipeline.codes import NOT_IN_TARGET, PERIOD_CLOSED, TARGET_REFUSED, Code
from pipeline.errors import OutcomeUnknown, PermanentError, TransientError
from store.database import Database

from .subjects import journal_document


async def code_of(call: Any) -> Code:
    with pytest.raises(PermanentError) as refusal:
        await call
    return refusal.value.code


async def in_balance(ledger: EmbeddedLedger) -> bool:
    sides = await ledger.trial_balance()
    return all(side.debit == side.credit for side in sides) and await ledger.irregularities() == []


async def test_nothing_is_posted_into_a_closed_period_until_it_is_opened_again(ledger: EmbeddedLedger) -> None:
    await ledger.close_period("DE", "2026-03")
    assert await code_of(ledger.post(journal_document("a"))) == PERIOD_CLOSED
    assert await ledger.find("a") is None
    await ledger.post(journal_document("b", legal_entity="FR"))
    await ledger.post(journal_document("c", on=date(2026, 4, 1)))
    await ledger.open_period("DE", "2026-03")
    await ledger.post(journal_document("a"))


async def test_a_period_closed_for_every_entity_is_closed_for_each(ledger: EmbeddedLedger) -> None:
    await ledger.close_period("*", "2026-03")
    assert await code_of(ledger.post(journal_document("a"))) == PERIOD_CLOSED
    assert await code_of(ledger.post(journal_document("b", legal_entity="FR"))) == PERIOD_CLOSED
    closed = [period for period in await ledger.list_periods() if period.closed]
    assert [(period.legal_entity, period.name) for period in closed] == [("*", "2026-03")]


async def test_a_document_posted_before_its_period_was_closed_is_answered_as_before(ledger: EmbeddedLedger) -> None:
    receipt = await ledger.post(journal_document("a"))
    await ledger.close_period("DE", "2026-03")
    assert await ledger.post(journal_document("a")) == receipt


async def test_a_period_that_is_no_month_is_refused(ledger: EmbeddedLedger) -> None:
    with pytest.raises(ValueError, match="2026-13"):
        await ledger.close_period("DE", "2026-13")


async def test_once_the_closing_is_answered_nothing_more_gets_in(database: Database, ledger: EmbeddedLedger) -> None:
    other = EmbeddedLedger(database)
    posting = [asyncio.ensure_future(ledger.post(journal_document(f"a{number}"))) for number in range(300)]
    while await ledger.find("a0") is None:
        posting += [asyncio.ensure_future(ledger.post(journal_document(f"b{len(posting)}")))]
    await other.close_period("DE", "2026-03")
    at_closing = sum(total.count for total in await other.totals())
    outcomes = await asyncio.gather(
        *posting, *(ledger.post(journal_document(f"c{n}")) for n in range(50)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Receipt) for outcome in outcomes) == at_closing
    assert sum(total.count for total in await ledger.totals()) == at_closing
    assert outcomes[-1].code == PERIOD_CLOSED  # type: ignore[union-attr]
    await other.close()


async def test_a_reversal_exchanges_debits_and_credits_and_leaves_the_totals(ledger: EmbeddedLedger) -> None:
    await ledger.post(journal_document("a", "120.50"))
    await ledger.post(journal_document("b", "10.00"))
    receipt = await ledger.reverse("a", "entered twice")
    original, reversal = await ledger.find("a"), await ledger.find("a#reversal")
    assert original is not None
    assert reversal is not None
    assert (original.reversed, reversal.receipt) == (True, receipt)
    assert reversal.fields["memo"] == "entered twice"
    assert [line.get("credit") for line in reversal.fields["lines"]] == ["120.50", None]
    (total,) = await ledger.totals()
    assert (total.count, total.amount.amount) == (1, Decimal("10.00"))
    assert await in_balance(ledger)


async def test_reversing_twice_reverses_once(database: Database, ledger: EmbeddedLedger) -> None:
    await ledger.post(journal_document("a"))
    other = EmbeddedLedger(database)
    receipts = await asyncio.gather(*(one.reverse("a", "why not") for one in [ledger, other] * 5))
    await other.close()
    assert len({receipt.target_id for receipt in receipts}) == 1
    assert await in_balance(ledger)
    assert {balance.balance.amount for balance in await ledger.balances()} == {Decimal(0)}


async def test_a_reversal_of_a_closed_period_is_dated_on_the_first_open_day_after(ledger: EmbeddedLedger) -> None:
    await ledger.post(journal_document("a", on=date(2026, 11, 20)))
    await ledger.close_period("DE", "2026-11")
    await ledger.close_period("*", "2026-12")
    await ledger.reverse("a", "late")
    reversal = await ledger.find("a#reversal")
    assert reversal is not None
    assert reversal.fields["date"] == "2027-01-01"


async def test_what_is_not_there_or_is_a_reversal_can_not_be_reversed(ledger: EmbeddedLedger) -> None:
    assert await code_of(ledger.reverse("a", "?")) == NOT_IN_TARGET
    await ledger.post(journal_document("a"))
    await ledger.reverse("a", "!")
    assert await code_of(ledger.reverse("a#reversal", "?")) == TARGET_REFUSED


async def test_a_reversed_document_is_not_posted_again_under_its_reference(ledger: EmbeddedLedger) -> None:
    await ledger.post(journal_document("a"))
    await ledger.reverse("a", "wrong")
    assert await code_of(ledger.post(journal_document("a"))) == TARGET_REFUSED


async def test_a_correction_reverses_the_old_entry_in_an_open_period(ledger: EmbeddedLedger) -> None:
    await ledger.post(journal_document("a/1", "100.00", on=date(2026, 2, 27)))
    await ledger.close_period("DE", "2026-02")
    await ledger.post(journal_document("a/2", "80.00", on=date(2026, 3, 2), replaces="a/1"))
    old, reversal = await ledger.find("a/1"), await ledger.find("a/1#reversal")
    assert old is not None
    assert reversal is not None
    assert (old.reversed, reversal.fields["date"]) == (True, "2026-03-01")
    (revenue,) = await ledger.balances(account="4000", period="2026-03")
    assert (revenue.debit.amount, revenue.credit.amount) == (Decimal("100.00"), Decimal("80.00"))
    assert await in_balance(ledger)


async def test_a_correction_dated_in_a_closed_period_changes_nothing(ledger: EmbeddedLedger) -> None:
    await ledger.post(journal_document("a/1"))
    await ledger.close_period("DE", "2026-03")
    assert await code_of(ledger.post(journal_document("a/2", "80.00", replaces="a/1"))) == PERIOD_CLOSED
    found = await ledger.find("a/1")
    assert found is not None
    assert not found.reversed


async def test_a_correction_of_what_was_never_posted_is_refused(ledger: EmbeddedLedger) -> None:
    assert await code_of(ledger.post(journal_document("a/2", replaces="a/1"))) == TARGET_REFUSED
    assert await ledger.find("a/2") is None


async def test_of_two_corrections_of_one_entry_the_second_has_to_look_again(ledger: EmbeddedLedger) -> None:
    await ledger.post(journal_document("a/1", "100.00"))
    outcomes = await asyncio.gather(
        ledger.post(journal_document("a/2", "80.00", replaces="a/1")),
        ledger.post(journal_document("a/3", "90.00", replaces="a/1")),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], TransientError)
    await ledger.post(journal_document("a/3", "90.00", replaces="a/2"))
    (total,) = await ledger.totals()
    assert (total.count, total.amount.amount) == (1, Decimal("90.00"))


async def test_an_entry_and_its_correction_may_travel_in_one_call(ledger: EmbeddedLedger) -> None:
    outcomes = await ledger.post_bulk(
        [
            journal_document("a/1", "100.00"),
            journal_document("a/2", "80.00", replaces="a/1"),
            journal_document("a/3", "90.00", replaces="a/2"),
        ]
    )
    assert all(isinstance(outcome, Receipt) for outcome in outcomes)
    (total,) = await ledger.totals()
    assert (total.count, total.amount.amount) == (1, Decimal("90.00"))
    assert await in_balance(ledger)


async def test_an_unknown_account_is_refused_until_it_is_added(ledger: EmbeddedLedger) -> None:
    assert await code_of(ledger.post(journal_document("a", account="6666"))) == TARGET_REFUSED
    await ledger.add_account(Account("6666", "Gifts", "expense"))
    await ledger.post(journal_document("a", account="6666"))
    assert {account.code for account in await ledger.accounts()} == {one.code for one in DEFAULT_CHART} | {"6666"}


async def test_an_account_added_elsewhere_is_known_here(database: Database, ledger: EmbeddedLedger) -> None:
    await ledger.post(journal_document("a"))
    other = EmbeddedLedger(database)
    await other.add_account(Account("6666", "Gifts", "expense"))
    await other.close()
    await ledger.post(journal_document("b", account="6666"))


async def test_text_that_the_database_refuses_fails_that_document_alone(ledger: EmbeddedLedger) -> None:
    documents = [journal_document(f"a{number}") for number in range(9)]
    documents[4] = journal_document("a4", memo="no\x00good")
    outcomes = await ledger.post_bulk(documents)
    del outcomes[4]
    assert all(isinstance(outcome, Receipt) for outcome in outcomes)
    assert await in_balance(ledger)


async def test_balances_add_up_per_account_entity_and_period(ledger: EmbeddedLedger) -> None:
    await ledger.post(journal_document("a", "10.00"))
    await ledger.post(journal_document("b", "5.00"))
    await ledger.post(journal_document("c", "7.00", legal_entity="CH", currency="CHF"))
    await ledger.post(journal_document("d", "3.00", on=date(2026, 4, 2)))
    (march,) = await ledger.balances(account="1300", legal_entity="DE", period="2026-03")
    assert march.balance == Money(amount=Decimal("15.00"), currency="EUR")
    entities = {side.legal_entity: side.debit for side in await ledger.trial_balance()}
    assert entities == {
        "CH": Money(amount=Decimal("7.00"), currency="CHF"),
        "DE": Money(amount=Decimal("18.00"), currency="EUR"),
    }


async def test_a_line_with_both_or_neither_side_does_not_get_into_the_table(
    database: Database, ledger: EmbeddedLedger
) -> None:
    await ledger.post(journal_document("a"))
    for debit, credit in ((1, 1), (0, 0), (-1, 0), (0, -1)):
        row = {"entry": 1, "line": 9, "account": "1300", "debit_minor": debit, "credit_minor": credit}
        with pytest.raises(IntegrityError):
            async with database.begin() as connection:
                await connection.execute(lines.insert(), row)


async def test_books_that_were_tampered_with_are_noticed(database: Database, ledger: EmbeddedLedger) -> None:
    for reference in ("a", "b", "c", "d"):
        await ledger.post(journal_document(reference))
    await ledger.reverse("d", "wrong")
    async with database.begin() as connection:
        await connection.execute(text("UPDATE ledger_lines SET debit_minor = 1 WHERE entry = 1 AND line = 1"))
        await connection.execute(text("UPDATE ledger_entries SET entity_amount_minor = 1 WHERE number = 2"))
        await connection.execute(text("UPDATE ledger_entries SET reversed_by = 1 WHERE number = 3"))
    found = await ledger.irregularities()
    assert [words.split(" ")[:2] for words in found] == [["entry", "1"], ["entry", "2"], ["entry", "3"]]


async def test_a_document_sent_twice_in_one_call_with_different_content_is_posted_once(ledger: EmbeddedLedger) -> None:
    first, second, third = await ledger.post_bulk(
        [journal_document("a"), journal_document("a", "99.00"), journal_document("a")]
    )
    assert isinstance(first, Receipt)
    assert third == first
    assert isinstance(second, PermanentError)


async def test_the_amount_is_compared_as_a_number(ledger: EmbeddedLedger) -> None:
    receipt = await ledger.post(journal_document("a", "100.00"))
    assert await ledger.post(journal_document("a", "100.0")) == receipt


class FailingDatabase:
    """The real database, whose commit goes wrong: lost before anything is written, or after it with its answer."""

    def __init__(self, database: Database, *, committed: bool) -> None:
        self._database, self._committed = database, committed

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        if not self._committed:
            raise TransientError("database is locked")
        async with self._database.begin() as connection:
            yield connection
        raise TransientError("connection lost")

    def connect(self) -> Any:
        return self._database.connect()

    def __getattr__(self, name: str) -> Any:
        """Everything else is the real database's."""
        return getattr(self._database, name)


async def test_a_lost_answer_is_an_unknown_outcome_and_asking_resolves_it(
    database: Database, ledger: EmbeddedLedger
) -> None:
    losing = EmbeddedLedger(FailingDatabase(database, committed=True))
    documents = [journal_document(f"a{number}") for number in range(3)]
    outcomes = await asyncio.gather(*(losing.post(document) for document in documents), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [OutcomeUnknown] * 3
    found = await losing.find("a1")
    assert found is not None
    assert await ledger.post(documents[1]) == found.receipt
    assert [total.count for total in await ledger.totals()] == [3]
    await losing.close()


async def test_a_database_that_can_not_be_written_to_is_a_transient_fault(
    database: Database, ledger: EmbeddedLedger
) -> None:
    locked = EmbeddedLedger(FailingDatabase(database, committed=False))
    with pytest.raises(TransientError) as fault:
        await locked.post(journal_document("a"))
    assert not isinstance(fault.value, OutcomeUnknown)
    assert await ledger.find("a") is None
    await locked.close()


async def test_a_connection_lost_before_the_commit_leaves_nothing_behind(migrated_postgresql_url: str) -> None:
    database, other = await Database.open(migrated_postgresql_url), await Database.open(migrated_postgresql_url)
    ledger = EmbeddedLedger(database)
    await ledger.post(journal_document("a"))
    async with other.begin() as connection:
        await connection.execute(text("UPDATE ledger_periods SET closed = closed"))
        posting = asyncio.ensure_future(ledger.post(journal_document("b")))
        killing = text(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        for _ in range(1000):
            if (await connection.execute(killing)).scalar_one():
                break
            await asyncio.sleep(0.01)
    with pytest.raises(TransientError) as fault:
        await posting
    assert not isinstance(fault.value, OutcomeUnknown)
    assert await ledger.find("b") is None
    await ledger.post(journal_document("b"))
    await ledger.close()
    await database.close()
    await other.close()


async def test_a_zero_amount_is_posted_without_lines_and_read_back(ledger: EmbeddedLedger) -> None:
    document = journal_document("a", "100.00")
    body = msgspec.json.decode(document.body)
    body |= {"entity_amount": "0.00", "lines": []}
    empty = msgspec.structs.replace(
        document,
        amount=Money(amount=Decimal(0), currency="EUR"),
        body=msgspec.Raw(msgspec.json.encode(body)),
    )
    await ledger.post(empty)
    found = await ledger.find("a")
    assert found is not None
    assert found.amount == Money(amount=Decimal("0.00"), currency="EUR")
    await ledger.reverse("a", "nothing to see")
    assert await in_balance(ledger)
