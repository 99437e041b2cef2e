"""Time entries for a Tryton target, and ways to look at their lines past the connector."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec

from contracts.channels import TargetDocument
from contracts.money import Money
from contracts.time_entry import TimeEntry
from pipeline.ports import posting_key
from tests.conformance.tryton.masters import sent
from tests.erp.calls import Caller

DAY = date(2026, 10, 5)
WORKER, PROJECT = "HR-0002", "1"


def entry(
    key: str = "TE-1",
    revision: int = 1,
    *,
    target: str,
    amount: str = "1125.00",
    currency: str = "EUR",
    replaces: int | None = None,
    **fields: Any,
) -> TargetDocument:
    """7.5 hours on a seeded project; `replaces` is an earlier revision."""
    given = {"id": key, "worker": WORKER, "project": PROJECT, "date": DAY, "hours": Decimal("7.5")}
    worth = Money(amount=Decimal(amount), currency=currency)
    document = sent(TimeEntry(**given | fields), revision, target, amount=worth, entity_amount=worth)
    old = posting_key(target, "time_entry.v1", "psa", key, str(replaces)) if replaces else None
    return msgspec.structs.replace(document, replaces=old)


def lines_of(call: Caller, target: str) -> list[dict[str, Any]]:
    """What Tryton holds under this target's name."""
    fields = ["description", "duration", "date", "employee", "work", "uuid"]
    found = call("timesheet.line.search_read", [["description", "like", f"%[tieout {target}/%"]], 0, None, None, fields)
    return list(found)


def number_in(target_id: str) -> int:
    return int(target_id.partition(",")[2])


class Counting:
    """A gate that counts requests, and does something before one of them."""

    def __init__(self) -> None:
        self.requests = 0
        self._before: dict[int, Callable[[], None]] = {}

    def before(self, number: int, act: Callable[[], None]) -> None:
        """Before the request after `number` more."""
        self._before[self.requests + number] = act

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        if act := self._before.pop(self.requests, None):
            act()
        self.requests += 1
        yield
