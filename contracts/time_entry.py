"""Time entry: hours one worker spent on one project and day."""

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated

from contracts.base import CONFIDENTIAL, Contract, CurrencyCode, Id


class TimeEntry(Contract, frozen=True, kw_only=True, tag_field="type", tag="time_entry.v1"):
    """Approved time. `rate`, when the source gives one, is per hour in `currency` and beats the rate card.

    `customer`, `legal_entity` and `cost_center` are usually left out and found by `enrich`.
    """

    id: Id
    worker: Id
    date: date
    hours: Decimal
    project: Id | None = None
    task: Id | None = None
    unit: str = "HUR"
    billable: bool = True
    rate: Decimal | None = None
    cost_rate: Annotated[Decimal | None, CONFIDENTIAL] = None
    currency: CurrencyCode | None = None
    category: str | None = None
    note: str | None = None
    status: str = "approved"
    approved_at: datetime | None = None
    approved_by: str | None = None
    corrects: Id | None = None
    customer: Id | None = None
    legal_entity: Id | None = None
    cost_center: str | None = None
