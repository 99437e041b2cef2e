"""Project, with its tasks: what the work is for, and which legal entity books it."""

from datetime import date
from decimal import Decimal

from contracts.base import Contract, CurrencyCode, Id


class Task(Contract, frozen=True, kw_only=True):
    """One piece of a project that time is booked on."""

    id: Id
    code: str | None = None
    name: str | None = None
    billable: bool = True


class Project(Contract, frozen=True, kw_only=True, tag_field="type", tag="project.v1"):
    """A project as the PSA knows it; valid from and to are inclusive dates."""

    id: Id
    name: str
    code: str | None = None
    customer: Id | None = None
    contract_ref: str | None = None
    status: str = "active"
    valid_from: date | None = None
    valid_to: date | None = None
    manager: Id | None = None
    billing_method: str = "time_and_materials"
    currency: CurrencyCode | None = None
    budget: Decimal | None = None
    legal_entity: Id | None = None
    parent: Id | None = None
    tasks: tuple[Task, ...] = ()
