"""Expense: money a worker spent that the firm books, and may bill on."""

from datetime import date, datetime
from decimal import Decimal

from contracts.base import Contract, CurrencyCode, Id


class Expense(Contract, frozen=True, kw_only=True, tag_field="type", tag="expense.v1"):
    """An approved expense. `amount` includes `tax`; `original_amount` is what the receipt says in its own currency.

    `customer`, `legal_entity` and `cost_center` are usually left out and found by `enrich`.
    """

    id: Id
    date: date
    amount: Decimal
    currency: CurrencyCode
    report: str | None = None
    worker: Id | None = None
    project: Id | None = None
    task: Id | None = None
    category: str | None = None
    tax: Decimal | None = None
    original_amount: Decimal | None = None
    original_currency: CurrencyCode | None = None
    rate: Decimal | None = None
    billable: bool = False
    reimbursable: bool = True
    receipt_url: str | None = None
    note: str | None = None
    status: str = "approved"
    approved_at: datetime | None = None
    approved_by: str | None = None
    corrects: Id | None = None
    customer: Id | None = None
    legal_entity: Id | None = None
    cost_center: str | None = None
