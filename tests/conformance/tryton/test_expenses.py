"""Expenses in a real Tryton: supplier invoices, exact to the cent, once each, corrected and taken back."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest

from connectors.tryton import TrytonTarget
from contracts.money import Money
from pipeline.codes import NOT_IN_TARGET, PERIOD_CLOSED, TARGET_REFERENCE_MISSING, TARGET_REFUSED
from pipeline.errors import PermanentError, TransientError
from pipeline.ports import Total
from tests.conformance.tryton.conftest import Open
from tests.conformance.tryton.masters import CLOSED_DAY, NO_YEAR, expense, is_as_sent, worker
from tests.conformance.tryton.paying import pay
from tests.conformance.tryton.periods import closed
from tests.erp.calls import Caller, a_date
from tests.erp.faults import before_tryton, calls
from tests.faults.plan import FaultPlan
from tryton import Tryton

SIDES = ["lines.account.code", "lines.debit", "lines.credit", "lines.party", "state", "date"]


def money(amount: str, currency: str = "EUR") -> Money:
    return Money(amount=Decimal(amount), currency=currency)


def invoices(call: Caller, reference: str) -> list[dict]:
    fields = ["state", "number", "move", "cancel_move"]
    domain = [["type", "=", "in"], ["reference", "=", reference]]
    return list(call("account.invoice.search_read", domain, 0, None, [["id", "ASC"]], fields))


def sides(call: Caller, move: int) -> dict[str, tuple[str, str]]:
    """Debit and credit by account."""
    (read,) = call("account.move.read", [move], SIDES)
    assert read["state"] == "posted"
    return {line["account."]["code"]: (line["debit"]["decimal"], line["credit"]["decimal"]) for line in read["lines."]}


async def test_an_expense_is_posted_once_exact_to_the_cent_and_owed_to_the_worker(
    target: TrytonTarget, name: str, call: Caller
):
    document = expense(target=name)  # 20 % of the net amount would be a cent more
    first, second = await target.post(document), await target.post(document)
    assert (first.target_id, first.state) == (second.target_id, second.state)
    assert first.state == "posted"
    found = await target.find(document.reference)
    assert is_as_sent(found, document)
    assert found is not None
    assert found.amount == money("119.99")
    (one,) = invoices(call, document.reference)
    moved = sides(call, one["move"])
    assert {account: tuple(map(Decimal, amounts)) for account, amounts in moved.items()} == {
        "5.1.3": (Decimal(100), 0),
        "6.3.6": (Decimal("19.99"), 0),
        "2.1.1": (0, Decimal("119.99")),
    }
    assert await target.totals() == [Total(document_type="expense.v1", amount=money("119.99"), count=1)]


async def test_the_same_expenses_from_two_processes_at_once_are_posted_once(open_target: Open, name: str, call: Caller):
    ours, theirs = open_target(), open_target()
    documents = [expense(f"E-{number}", target=name) for number in range(4)]
    posts = [one.post(document) for document in documents for one in (ours, theirs, ours)]
    receipts = await asyncio.gather(*posts)
    assert len({receipt.target_id for receipt in receipts}) == 4
    assert await ours.totals() == [Total(document_type="expense.v1", amount=money("479.96"), count=4)]
    for document in documents:
        assert [one["state"] for one in invoices(call, document.reference)] == ["posted"]


@pytest.mark.parametrize(
    ("fields", "amount"),
    [
        ({"tax": None}, money("119.99")),
        ({"amount": Decimal("44.00"), "tax": Decimal("7.33"), "currency": "USD"}, money("44.00", "USD")),
        ({"amount": Decimal("0.01"), "tax": None}, money("0.01")),
        ({"amount": Decimal("0.00"), "tax": None}, money("0.00")),
        ({"amount": Decimal("-12.00"), "tax": Decimal("-2.00")}, money("-12.00")),
        ({"reimbursable": False, "worker": "HR-0001"}, money("119.99")),
    ],
    ids=["without tax", "in dollars", "a cent", "nothing", "a refund", "paid by the firm"],
)
async def test_expenses_of_every_sort_tie_out(target: TrytonTarget, name: str, fields: dict, amount: Money):
    document = expense(target=name, **fields)
    assert (await target.post(document)).state == "posted"
    assert is_as_sent(await target.find(document.reference), document)
    assert [total.amount for total in await target.totals()] == [amount]


async def test_a_worker_that_we_made_ourselves_is_paid_back(target: TrytonTarget, name: str):
    await target.post(worker(f"W-{name}", target=name))
    document = expense(target=name, worker=f"W-{name}")
    await target.post(document)
    assert is_as_sent(await target.find(document.reference), document)


@pytest.mark.parametrize("day", [CLOSED_DAY, NO_YEAR], ids=["closed period", "no fiscal year"])
async def test_a_month_that_is_not_open_is_refused_leaves_nothing_behind_and_fails_no_neighbour(
    target: TrytonTarget, name: str, call: Caller, day: date
):
    documents = [expense(f"E-{number}", target=name, **({"date": day} if number == 1 else {})) for number in range(4)]
    outcomes = await asyncio.gather(*(target.post(document) for document in documents), return_exceptions=True)
    refusal = outcomes.pop(1)
    assert isinstance(refusal, PermanentError)
    assert refusal.code == PERIOD_CLOSED
    assert [one for one in outcomes if isinstance(one, BaseException)] == []
    assert invoices(call, documents[1].reference) == []
    assert [total.count for total in await target.totals()] == [3]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"worker": "W-nobody"}, "worker 'W-nobody'"),
        ({"account": "6200"}, "account '6200': correct the expense_account mapping"),
        ({"tax_name": "Luxury"}, "tax 'Luxury'"),
        ({"currency": "JPY"}, "currency 'JPY'"),
    ],
)
async def test_what_tryton_does_not_know_is_named(target: TrytonTarget, name: str, change: dict, words: str):
    document = expense(target=name)
    body = msgspec.json.decode(document.body) | change
    with pytest.raises(PermanentError, match=words) as refusal:
        await target.post(msgspec.structs.replace(document, body=msgspec.Raw(msgspec.json.encode(body))))
    assert refusal.value.code == TARGET_REFERENCE_MISSING
    assert await target.find(document.reference) is None


async def test_a_draft_that_a_crash_left_is_not_found_and_then_posted(
    target: TrytonTarget, open_target: Open, name: str
):
    document = expense(target=name)
    draft = await open_target(posts_invoices=False).post(document)
    assert await target.find(document.reference) is None
    assert await target.totals() == []
    receipt = await target.post(document)
    assert (receipt.target_id, receipt.state) == (draft.target_id, "posted")


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("create", "lost_after_commit"),
        ("post", "lost_after_commit"),
        ("post", "unavailable"),
        ("cancel", "reset_before"),
        ("cancel", "lost_after_commit"),
    ],
)
async def test_wherever_a_correction_breaks_off_the_next_try_ends_it(
    server: Tryton, open_target: Open, name: str, call: Caller, method: str, fault: str
):
    old = expense(target=name)
    new = expense(revision=2, target=name, replaces=1, amount=Decimal("60.00"), tax=None)
    with before_tryton(server, FaultPlan(share=0), 1) as proxy:
        target = open_target(url=proxy.url)
        await target.post(old)
        struck = proxy.once(fault, calls(f"account.invoice.{method}"))
        with pytest.raises(TransientError):
            await target.post(new)
        assert struck.is_set()
        if await target.find(new.reference) is None:
            await target.post(new)
        assert is_as_sent(await target.find(new.reference), new)
        assert await target.totals() == [Total(document_type="expense.v1", amount=money("60.00"), count=1)]
    assert [one["state"] for one in invoices(call, new.reference)] == ["posted"]
    assert [one["state"] for one in invoices(call, old.reference)] == ["cancelled"]


async def test_a_correction_takes_the_old_invoice_back_and_counts_once(target: TrytonTarget, name: str, call: Caller):
    old = expense(target=name)
    new = expense(revision=2, target=name, replaces=1, amount=Decimal("60.00"), tax=Decimal("10.00"))
    await target.post(old)
    first, second = await target.post(new), await target.post(new)
    assert (first.target_id, first.state) == (second.target_id, second.state)
    assert is_as_sent(await target.find(new.reference), new)
    before = await target.find(old.reference)
    assert before is not None
    assert before.reversed
    assert await target.totals() == [Total(document_type="expense.v1", amount=money("60.00"), count=1)]
    (gone,) = invoices(call, old.reference)
    assert gone["state"] == "cancelled"
    moved = sides(call, gone["cancel_move"])
    assert Decimal(moved["2.1.1"][1]) == Decimal("-119.99")


async def test_a_correction_into_a_closed_month_leaves_the_old_one_as_it_was(target: TrytonTarget, name: str):
    old = expense(target=name)
    await target.post(old)
    with pytest.raises(PermanentError) as refusal:
        await target.post(expense(revision=2, target=name, replaces=1, date=CLOSED_DAY))
    assert refusal.value.code == PERIOD_CLOSED
    assert is_as_sent(await target.find(old.reference), old)
    assert [total.count for total in await target.totals()] == [1]


async def test_a_correction_of_a_paid_expense_is_refused_before_anything_is_posted(
    target: TrytonTarget, name: str, call: Caller, server: Tryton
):
    old, new = expense(target=name), expense(revision=2, target=name, replaces=1, amount=Decimal("60.00"), tax=None)
    number = int((await target.post(old)).target_id.partition(",")[2])
    pay(call, server, number, "119.99", "2026-03-20")
    for refused in (target.post(new), target.reverse(old.reference, "a mistake")):
        with pytest.raises(PermanentError, match="is paid") as refusal:
            await refused
        assert refusal.value.code == TARGET_REFUSED
    assert invoices(call, new.reference) == []
    assert is_as_sent(await target.find(old.reference), old)


async def test_an_expense_is_taken_back_once_and_found_as_reversed(target: TrytonTarget, name: str, call: Caller):
    document = expense(target=name)
    posted = await target.post(document)
    first = await target.reverse(document.reference, "a mistake")
    second = await target.reverse(document.reference, "a mistake")
    assert first.target_id == second.target_id == posted.target_id
    found = await target.find(document.reference)
    assert found is not None
    assert found.reversed
    assert await target.totals() == []
    assert (await target.post(document)).target_id == posted.target_id
    assert await target.totals() == []
    with pytest.raises(PermanentError) as refusal:
        await target.reverse(document.reference + "0", "a mistake")
    assert refusal.value.code == NOT_IN_TARGET


async def test_what_lies_in_a_month_closed_since_is_taken_back_today(
    target: TrytonTarget, name: str, call: Caller, admin: Caller
):
    document = expense(target=name, date=date(2025, 2, 3))
    await target.post(document)
    with closed(admin, "account.period", [["name", "=", "2025-02"]]):
        await target.reverse(document.reference, "a mistake")
    (one,) = invoices(call, document.reference)
    (move,) = call("account.move.read", [one["cancel_move"]], ["date"])
    assert move["date"] != a_date("2025-02-03")


async def test_drafts_are_left_to_an_accountant_where_the_settings_say_so(open_target: Open, name: str, call: Caller):
    target = open_target(posts_invoices=False)
    document = expense(target=name)
    first, second = await target.post(document), await target.post(document)
    assert (first.target_id, first.state) == (second.target_id, "submitted")
    found = await target.find(document.reference)
    assert found is not None
    assert found.receipt.state == "submitted"
    call("account.invoice.post", [int(first.target_id.partition(",")[2])])
    found = await target.find(document.reference)
    assert found is not None
    assert found.receipt.state == "posted"
    assert is_as_sent(found, document)


async def test_what_was_written_since_a_moment_is_listed(target: TrytonTarget, name: str):
    before = datetime.now(UTC) - timedelta(seconds=5)
    documents = [expense(f"E-{number}", target=name) for number in range(3)]
    await asyncio.gather(*(target.post(document) for document in documents))
    found = [one.reference async for one in target.since(before)]
    assert sorted(found) == sorted(document.reference for document in documents)
    assert [one async for one in target.since(datetime.now(UTC) + timedelta(minutes=1))] == []
