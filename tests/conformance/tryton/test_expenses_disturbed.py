"""Expenses when something stands in the way: old invoices that can't be taken back, drafts of others, lost looks."""

from datetime import UTC, date, datetime
from decimal import Decimal
from threading import Event

import pytest

from connectors.tryton import TrytonTarget
from pipeline.codes import PERIOD_CLOSED
from pipeline.errors import OutcomeUnknown, PermanentError
from pipeline.ports import Total
from tests.conformance.tryton.conftest import Open
from tests.conformance.tryton.masters import expense, is_as_sent
from tests.conformance.tryton.paying import pay
from tests.conformance.tryton.periods import closed
from tests.conformance.tryton.test_expenses import invoices, money
from tests.erp.calls import Caller, a_date
from tests.erp.faults import before_tryton, calls
from tests.faults.exchange import Request
from tests.faults.plan import FaultPlan
from tryton import Tryton

# Corrections whose old invoice can't be taken back


#: More than the connector tries.
READS_MAX = 50


def journal_of(period: str) -> list:
    return [["period.name", "=", period], ["journal.type", "=", "expense"]]


async def test_nothing_is_posted_where_no_period_is_open_to_take_the_old_one_back(
    target: TrytonTarget, name: str, call: Caller, admin: Caller
):
    old = expense(target=name, date=date(2025, 2, 3))
    new = expense(revision=2, target=name, replaces=1, amount=Decimal("60.00"), tax=None)
    await target.post(old)
    today = f"{datetime.now(UTC):%Y-%m}"
    with closed(admin, "account.period", [["name", "in", ["2025-02", today]]]):
        for refused in (target.post(new), target.reverse(old.reference, "a mistake")):
            with pytest.raises(PermanentError, match="neither its period is open") as refusal:
                await refused
            assert refusal.value.code == PERIOD_CLOSED
    assert invoices(call, new.reference) == []
    await target.post(new)
    assert await target.totals() == [Total(document_type="expense.v1", amount=money("60.00"), count=1)]


@pytest.mark.parametrize("undone", [True, False])
async def test_a_new_invoice_whose_old_one_can_not_be_taken_back_is_taken_back_itself(
    server: Tryton, open_target: Open, name: str, call: Caller, admin: Caller, undone: bool
):
    old = expense(target=name, date=date(2025, 3, 3))
    new = expense(revision=2, target=name, replaces=1, amount=Decimal("60.00"), tax=None)
    cancels = []

    def second_cancel(request: Request) -> bool:
        if calls("account.invoice.cancel")(request):
            cancels.append(request)
        return len(cancels) == 2

    with before_tryton(server, FaultPlan(share=0), 1) as proxy:
        target = open_target(url=proxy.url)
        await target.post(old)
        if not undone:
            proxy.once("reset_before", second_cancel)
        with closed(admin, "account.journal.period", journal_of("2025-03")):
            with pytest.raises(PermanentError if undone else OutcomeUnknown):
                await target.post(new)
            assert [one["state"] for one in invoices(call, new.reference)] == ["cancelled" if undone else "posted"]
            assert is_as_sent(await target.find(old.reference), old)
            assert await target.find(new.reference) is None
        await target.post(new)
        assert is_as_sent(await target.find(new.reference), new)
        assert await target.totals() == [Total(document_type="expense.v1", amount=money("60.00"), count=1)]
    assert [one["state"] for one in invoices(call, old.reference)] == ["cancelled"]


async def test_a_correction_that_broke_off_is_taken_back_when_the_old_invoice_has_been_paid_meanwhile(
    server: Tryton, open_target: Open, name: str, call: Caller
):
    old = expense(target=name)
    new = expense(revision=2, target=name, replaces=1, amount=Decimal("60.00"), tax=None)
    with before_tryton(server, FaultPlan(share=0), 1) as proxy:
        target = open_target(url=proxy.url)
        number = int((await target.post(old)).target_id.partition(",")[2])
        proxy.once("reset_before", calls("account.invoice.cancel"))
        with pytest.raises(OutcomeUnknown):
            await target.post(new)
        pay(call, server, number, "119.99", "2026-03-20")
        with pytest.raises(PermanentError, match="is paid"):
            await target.post(new)
    assert [one["state"] for one in invoices(call, new.reference)] == ["cancelled"]


# Drafts and invoices of other content


async def test_a_draft_of_other_content_is_made_anew_before_it_is_posted(open_target: Open, name: str, call: Caller):
    await open_target(posts_invoices=False).post(expense(target=name))
    target, document = open_target(), expense(target=name, amount=Decimal("60.00"), tax=None)
    await target.post(document)
    assert is_as_sent(await target.find(document.reference), document)
    assert [one["state"] for one in invoices(call, document.reference)] == ["posted"]
    for other in (expense(target=name), expense(target=name, amount=Decimal("60.00"), tax=None, worker="HR-0003")):
        with pytest.raises(PermanentError, match="already there with different content"):
            await target.post(other)
    assert [one["state"] for one in invoices(call, document.reference)] == ["posted"]


@pytest.mark.parametrize("posts", [True, False])
async def test_a_draft_that_came_late_is_removed_when_it_is_met_and_counts_until_then(
    open_target: Open, name: str, call: Caller, posts: bool
):
    target, document = open_target(posts_invoices=posts), expense(target=name)
    number = int((await target.post(document)).target_id.partition(",")[2])

    def late(day: str = str(document.date)) -> int:
        (draft,) = call("account.invoice.copy", [number])
        values = {"reference": document.reference, "invoice_date": a_date(day)}
        call("account.invoice.write", [draft], values)
        return int(draft)

    late()
    assert is_as_sent(await target.find(document.reference), document)
    assert [one["id"] for one in invoices(call, document.reference)] == [number]
    late()
    assert [total.count for total in await target.totals()] == [1]
    assert [one["id"] for one in invoices(call, document.reference)] == [number]
    if posts:
        call("account.invoice.validate_invoice", [late("2025-10-06")])
        assert await target.totals() == [Total(document_type="expense.v1", amount=money("239.98"), count=2)]


# What goes wrong after something was written


async def test_a_look_that_fails_after_a_draft_was_made_leaves_the_outcome_open(
    server: Tryton, open_target: Open, name: str
):
    document, made = expense(target=name), Event()

    def after_creating(request: Request) -> bool:
        if calls("account.invoice.create")(request):
            made.set()
        return made.is_set() and calls("account.invoice.search_read")(request)

    with before_tryton(server, FaultPlan(share=0), 1) as proxy:
        target = open_target(url=proxy.url)
        for _ in range(READS_MAX):
            proxy.once("unavailable", after_creating)
        with pytest.raises(OutcomeUnknown, match="written in part"):
            await target.post(document)
    target = open_target()
    assert (await target.post(document)).state == "posted"
    assert is_as_sent(await target.find(document.reference), document)


async def test_a_refused_draft_that_somebody_else_posts_meanwhile_is_posted(
    server: Tryton, open_target: Open, name: str, call: Caller, admin: Caller
):
    document = expense(target=name, date=date(2025, 4, 3))
    (period,) = admin("account.period.search", [["name", "=", "2025-04"]], 0, None, None)
    admin("account.period.close", [period])

    def accountant(request: Request) -> bool:
        if calls("account.invoice.delete")(request):
            admin("account.period.reopen", [period])
            call("account.invoice.post", [one["id"] for one in invoices(call, document.reference)])
        return False

    with before_tryton(server, FaultPlan(share=0), 1) as proxy:
        target = open_target(url=proxy.url)
        proxy.once("unavailable", accountant)
        assert (await target.post(document)).state == "posted"
        assert is_as_sent(await target.find(document.reference), document)
