"""Customer invoices in a real Tryton: posted once, read with state and payment, taken back by a credit note."""

import asyncio
from datetime import date
from decimal import Decimal

import pytest

from connectors.tryton import TrytonTarget
from connectors.tryton.invoices import CustomerInvoices
from contracts.money import Money
from pipeline.codes import PERIOD_CLOSED, TARGET_REFERENCE_MISSING, TARGET_REFUSED
from pipeline.errors import PermanentError
from pipeline.ports import Total
from tests.conformance.tryton.conftest import Open
from tests.conformance.tryton.masters import CLOSED_DAY, invoice, is_as_sent
from tests.conformance.tryton.paying import pay
from tests.erp.calls import Caller
from tryton import Tryton

#: Numbers go up with dates, and a term of 30 days that is over is only warned of.
TODAY = date.today()
SETTINGS = {"warnings_skipped": ("invoice_payment_term", "invoice_date_future")}


@pytest.fixture
def target(open_target: Open) -> TrytonTarget:
    return open_target(**SETTINGS)


@pytest.fixture
def invoices(target: TrytonTarget) -> CustomerInvoices:
    """What the connector can tell of invoices beyond the port."""
    return CustomerInvoices(target.rpc, target.lookups)


async def test_an_invoice_is_posted_once_with_tax_and_number_and_read_back(
    target: TrytonTarget, invoices: CustomerInvoices, name: str
):
    document = invoice(target=name, date=TODAY)
    assert await invoices.state(document.reference) is None
    first, second = await target.post(document), await target.post(document)
    assert (first.target_id, first.state) == (second.target_id, "posted")
    assert is_as_sent(await target.find(document.reference), document)
    state = await invoices.state(document.reference)
    assert state is not None
    assert (state.state, state.total, state.to_pay, state.paid_on) == ("posted", document.amount, Decimal(1350), None)
    assert state.number
    total = Money(amount=Decimal(1350), currency="EUR")
    assert await target.totals() == [Total(document_type="customer_invoice.v1", amount=total, count=1)]


async def test_the_same_invoices_from_two_processes_at_once_make_one_move_each(
    open_target: Open, name: str, call: Caller
):
    ours, theirs = open_target(**SETTINGS), open_target(**SETTINGS)
    documents = [invoice(f"I-{number}", target=name, date=TODAY) for number in range(2)]
    receipts = await asyncio.gather(*(one.post(each) for each in documents for one in (ours, theirs, ours)))
    assert len({receipt.target_id for receipt in receipts}) == 2
    for document in documents:
        domain = [["reference", "=", document.reference]]
        held = call("account.invoice.search_read", domain, 0, None, None, ["state", "move"])
        assert [one["state"] for one in held] == ["posted"]


async def test_a_payment_shows(
    target: TrytonTarget, invoices: CustomerInvoices, name: str, call: Caller, server: Tryton
):
    document = invoice(target=name, date=TODAY)
    pay(call, server, int((await target.post(document)).target_id.partition(",")[2]), "1350.00", str(TODAY))
    state = await invoices.state(document.reference)
    assert state is not None
    assert (state.state, state.to_pay, state.paid_on) == ("paid", 0, TODAY)
    with pytest.raises(PermanentError, match="is paid"):
        await target.reverse(document.reference, "a mistake")


async def test_a_posted_invoice_is_taken_back_by_a_credit_note_once(target: TrytonTarget, name: str, call: Caller):
    document = invoice(target=name, date=TODAY)
    posted = await target.post(document)
    for _ in range(2):
        assert (await target.reverse(document.reference, "a mistake")).target_id == posted.target_id
    found = await target.find(document.reference)
    assert found is not None
    assert found.reversed
    assert await target.totals() == []
    (number,) = [int(posted.target_id.partition(",")[2])]
    (held,) = call("account.invoice.read", [number], ["cancel_move.origin", "amount_to_pay"])
    assert held["cancel_move."]["origin"].startswith("account.invoice,")
    assert Decimal(held["amount_to_pay"]["decimal"]) == 0


async def test_an_invoice_that_tryton_makes_another_total_of_is_refused_and_leaves_no_draft(
    target: TrytonTarget, name: str, call: Caller
):
    document = invoice(target=name, date=TODAY, total="1125.00")
    with pytest.raises(PermanentError, match=r"1,350\.00") as refusal:
        await target.post(document)
    assert refusal.value.code == TARGET_REFUSED
    assert call("account.invoice.search_count", [["reference", "=", document.reference]]) == 0


async def test_a_draft_is_cancelled(open_target: Open, name: str):
    target = open_target(posts_invoices=False)
    document = invoice(target=name, date=TODAY)
    assert (await target.post(document)).state == "submitted"
    await target.reverse(document.reference, "a mistake")
    found = await target.find(document.reference)
    assert found is not None
    assert found.reversed


async def test_what_tryton_only_warns_of_is_refused_by_name_and_leaves_no_draft(
    open_target: Open, name: str, call: Caller
):
    target = open_target()
    document = invoice(target=name, date=date(2027, 12, 30))
    with pytest.raises(PermanentError, match="invoice_date_future") as refusal:
        await target.post(document)
    assert refusal.value.code == TARGET_REFUSED
    assert call("account.invoice.search_count", [["reference", "=", document.reference]]) == 0


async def test_a_closed_month_an_unknown_customer_and_an_unknown_product_are_refused(target: TrytonTarget, name: str):
    with pytest.raises(PermanentError) as refusal:
        await target.post(invoice(target=name, date=CLOSED_DAY))
    assert refusal.value.code == PERIOD_CLOSED
    with pytest.raises(PermanentError, match="no customer 'C-nobody'") as refusal:
        await target.post(invoice(target=name, customer="C-nobody"))
    assert refusal.value.code == TARGET_REFERENCE_MISSING
