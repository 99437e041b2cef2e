"""The event that everybody carries: one approved time entry, 600 bytes of compact JSON."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec

from contracts.time_entry import TimeEntry

EVENT_BYTES = 600
HOPS = 5

_TYPICAL = TimeEntry(
    id="T-00000000",
    worker="W-1017",
    date=date(2026, 3, 5),
    hours=Decimal("7.5"),
    project="P-401",
    task="P-401-1",
    rate=Decimal("145.00"),
    currency="EUR",
    category="consulting",
    note="",
    approved_at=datetime(2026, 3, 6, 9, 30, tzinfo=UTC),
    approved_by="W-1001",
)
_ENTRY = msgspec.structs.replace(_TYPICAL, note="x" * (EVENT_BYTES - len(msgspec.json.encode(_TYPICAL))))


def time_entry(number: int) -> TimeEntry:
    """Event `number` as our contract has it."""
    return msgspec.structs.replace(_ENTRY, id=f"T-{number:08}")


def event(number: int) -> dict[str, Any]:
    """The same as plain values, which every library can serialise its own way."""
    plain: dict[str, Any] = msgspec.json.decode(encoded(number))
    return plain


def encoded(number: int) -> bytes:
    """The same as bytes: EVENT_BYTES long."""
    return msgspec.json.encode(time_entry(number))


def number_of(event_id: str) -> int:
    """Which event it is, from its `id`."""
    return int(event_id[2:])
