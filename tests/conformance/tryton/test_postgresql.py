"""Invoices on PostgreSQL, where Tryton checks that moves balance, and sends away whom it has no lock for."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from connectors.tryton import TrytonTarget
from contracts.channels import Receipt, TargetDocument
from pipeline.errors import TransientError
from tests.conformance.tryton.masters import customer, expense, invoice, is_as_sent, opened, project, worker
from tests.erp.calls import Caller
from tryton import Tryton

pytestmark = pytest.mark.slow

tries_max = 20
TODAY = date.today()


@pytest.fixture
async def targets(postgres_erp: Tryton, name: str) -> AsyncIterator[list[TrytonTarget]]:
    """Three processes that post to one database."""
    settings: dict[str, Any] = {"name": name, "warnings_skipped": ("invoice_payment_term",)}
    targets = [opened(postgres_erp, **settings) for _ in range(3)]
    yield targets
    for target in targets:
        await target.close()


async def posted(target: TrytonTarget, document: TargetDocument) -> Receipt:
    """As the broker sees to it: what fails for now is tried again."""
    for _ in range(tries_max):
        try:
            return await target.post(document)
        except TransientError:
            continue
    raise AssertionError(f"{document.reference} was not posted in {tries_max} tries")


async def test_what_several_processes_post_at_once_is_there_once_and_balances(
    targets: list[TrytonTarget], postgres_erp: Tryton, name: str
):
    documents = [
        expense(f"E-{number}", target=name, amount=Decimal(f"10.0{number}"), tax=Decimal("1.67")) for number in range(4)
    ]
    documents += [invoice("I-1", target=name, date=TODAY), customer(f"C-{name}", target=name)]
    documents += [worker(f"W-{name}", target=name), project(f"P-{name}", target=name)]
    receipts = await asyncio.gather(*(posted(target, document) for document in documents for target in targets))
    assert len({receipt.target_id for receipt in receipts}) == len(documents)
    for document in documents:
        assert is_as_sent(await targets[0].find(document.reference), document)
    counts = {total.document_type: total.count for total in await targets[0].totals()}
    assert counts == {"expense.v1": 4, "customer_invoice.v1": 1, "customer.v1": 1, "worker.v1": 1, "project.v1": 1}
    call = Caller(postgres_erp)
    lines = call("account.move.line.search_read", [], 0, None, None, ["debit", "credit"])
    balance = sum(Decimal(line["debit"]["decimal"]) - Decimal(line["credit"]["decimal"]) for line in lines)
    assert (balance, len(lines) > 0) == (0, True)
    call.close()


async def test_expenses_are_corrected_and_taken_back_by_several_at_once(targets: list[TrytonTarget], name: str):
    old = expense(target=name)
    new = expense(revision=2, target=name, replaces=1, amount=Decimal("60.00"), tax=Decimal("10.00"))
    await posted(targets[0], old)
    await asyncio.gather(*(posted(target, new) for target in targets))
    (total,) = await targets[0].totals()
    assert (total.count, total.amount.amount) == (1, Decimal("60.00"))
