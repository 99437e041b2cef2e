"""What a Tryton target is sent of an expense."""

from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.tryton import TrytonTranslator
from contracts.channels import TargetDocument
from contracts.expense import Expense
from contracts.money import Money
from pipeline.codes import MISSING_ATTRIBUTE
from pipeline.errors import MappingMissing, PermanentError
from tests.conformance.tryton.masters import context, enriched

TAXI: dict[str, Any] = {
    "id": "E-1",
    "date": date(2026, 3, 5),
    "amount": Decimal("119.99"),
    "tax": Decimal("19.99"),
    "currency": "EUR",
    "worker": "W-1",
    "category": "Travel",
}


def translated(mappings: dict[str, str | None] | None = None, **fields: Any) -> TargetDocument:
    document = enriched(Expense(**TAXI | fields), project="P-1", customer="C-1", cost_center="CC-7")
    return TrytonTranslator("erp").translate(document, "erp/expense.v1/psa/E-1/1", context("erp", **mappings or {}))


def body(mappings: dict[str, str | None] | None = None, **fields: Any) -> dict[str, Any]:
    return dict(msgspec.json.decode(translated(mappings, **fields).body))


def test_an_expense_becomes_a_line_over_the_net_amount_and_its_tax_beside_it():
    document = translated(note="Taxi", report="R-7")
    assert (document.kind, document.amount) == ("supplier_invoice", Money(amount=Decimal("119.99"), currency="EUR"))
    assert msgspec.json.decode(document.body) == {
        "date": "2026-03-05",
        "currency": "EUR",
        "description": "Taxi",
        "account": "5.1.3",
        "net": "100.00",
        "worker": "W-1",
        "tax": "19.99",
        "tax_name": "VAT 20%",
        "details": "category Travel; report R-7; project P-1; customer C-1; cost center CC-7",
    }


@given(cents=st.integers(-10_000_000, 10_000_000), tax_cents=st.integers(-100_000, 100_000))
def test_net_and_tax_add_up_to_the_amount(cents: int, tax_cents: int):
    amount, tax = Decimal(cents).scaleb(-2), Decimal(tax_cents).scaleb(-2)
    sent = body(amount=amount, tax=tax)
    assert Decimal(sent["net"]) + Decimal(sent.get("tax", "0")) == amount
    assert ("tax_name" in sent) == (tax != 0)


def test_what_the_firm_paid_itself_is_owed_to_whom_the_mapping_says():
    sent = body(reimbursable=False)
    assert (sent["supplier"], sent.get("worker")) == ("CRM-0003", None)
    assert "worker W-1" in sent["details"]


@pytest.mark.parametrize(
    ("mapping", "fields"),
    [("expense_account", {}), ("expense_tax", {}), ("expense_supplier", {"reimbursable": False})],
)
def test_what_nobody_has_mapped_for_this_target_is_asked_for_by_name(mapping: str, fields: dict[str, Any]):
    with pytest.raises(MappingMissing) as missing:
        translated({mapping: None}, **fields)
    assert (missing.value.kind, missing.value.key, missing.value.owner) == (f"{mapping}:erp", "Travel", "finance")


def test_an_expense_without_tax_needs_no_mapping_of_one():
    assert "tax_name" not in body({"expense_tax": None}, tax=None)


def test_an_expense_that_is_to_be_paid_back_to_nobody_is_refused():
    with pytest.raises(PermanentError, match="names no worker") as refusal:
        translated(worker=None)
    assert refusal.value.code == MISSING_ATTRIBUTE
