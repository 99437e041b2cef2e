"""Worker: who does the work (HR is the system of record)."""

from datetime import date
from typing import Annotated

from contracts.base import PERSONAL, Contract, Id


class Worker(Contract, frozen=True, kw_only=True, tag_field="type", tag="worker.v1"):
    """An employee or contingent worker; `hired_on` and `left_on` are inclusive dates."""

    id: Id
    given_name: Annotated[str | None, PERSONAL] = None
    family_name: Annotated[str | None, PERSONAL] = None
    work_email: Annotated[str | None, PERSONAL] = None
    kind: str = "employee"
    status: str = "active"
    role: str | None = None
    hired_on: date | None = None
    left_on: date | None = None
    legal_entity: Id | None = None
    cost_center: str | None = None
    manager: Id | None = None
    effective_from: date | None = None
