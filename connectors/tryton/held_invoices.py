"""Invoices as Tryton holds them, and as documents want them."""

import datetime
from collections import Counter
from decimal import Decimal
from typing import Any

import msgspec

from connectors.tryton.handler import POSTED, SUBMITTED, receipt
from contracts.channels import Receipt
from contracts.money import Money

INVOICE = "account.invoice"
DRAFTS, IN_BOOKS, CANCELLED = ("draft", "validated"), ("posted", "paid"), "cancelled"

FIELDS = (
    *("reference", "number", "state", "invoice_date", "description", "comment", "total_amount", "tax_amount"),
    *("currency.code", "party", "cancel_move", "amount_to_pay", "reconciled", "write_date", "create_date"),
    *("lines.account.code", "lines.amount", "lines.description", "lines.note", "lines.quantity", "lines.unit_price"),
    *("payment_lines.date", "lines.product.code", "taxes.amount", "taxes.manual", "taxes.tax.name"),
)


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice as Tryton holds it; `lines` and `taxes` are as Tryton says them."""

    id: int
    reference: str
    number: str | None
    state: str
    date: datetime.date | None
    description: str | None
    comment: str
    total: Money
    tax: Decimal
    party: int
    to_pay: Decimal
    paid_on: datetime.date | None
    lines: list[dict[str, Any]]
    taxes: list[dict[str, Any]]
    written: datetime.datetime

    @property
    def cancelled(self) -> bool:
        return self.state == CANCELLED

    @property
    def in_books(self) -> bool:
        return self.state in IN_BOOKS

    def receipt(self) -> Receipt:
        return receipt(INVOICE, self.id, SUBMITTED if self.state in DRAFTS else POSTED, self.written)

    def says(self, wanted: "Wanted") -> bool:
        """Whether it is what the document asks for, in all that ends up in the books."""
        values = wanted.values
        lines = Counter(
            (line["account."]["id"], Decimal(str(line["quantity"])), line["unit_price"]) for line in self.lines
        )
        wanted_lines = Counter(
            (line["account"], Decimal(str(line["quantity"])), line["unit_price"]) for line in values["lines"][0][1]
        )
        ours = (values["party"], values["invoice_date"], wanted.total)
        return (self.party, self.date, self.total) == ours and lines == wanted_lines


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice as it should be: what to create it from, and what it then comes to, taxes included.

    `anew`: one that was taken back does not stand in its way.
    """

    values: dict[str, Any]
    total: Money
    anew: bool = False


def _paid_on(record: dict[str, Any]) -> datetime.date | None:
    """The day of the last payment of one that is paid whole; `reconciled` is a later day on 8.2, when that was due."""
    days = [payment["date"] for payment in record.get("payment_lines.") or []]
    return max(days) if record["reconciled"] and days else None


def invoice_of(record: dict[str, Any]) -> Invoice:
    return Invoice(
        id=record["id"],
        reference=record["reference"] or "",
        number=record["number"],
        state=record["state"],
        date=record["invoice_date"],
        description=record["description"],
        comment=record["comment"] or "",
        total=Money(amount=record["total_amount"], currency=record["currency."]["code"]),
        tax=record["tax_amount"],
        party=record["party"],
        to_pay=record["amount_to_pay"],
        paid_on=_paid_on(record),
        lines=record.get("lines.") or [],
        taxes=record.get("taxes.") or [],
        written=record["write_date"] or record["create_date"],
    )
