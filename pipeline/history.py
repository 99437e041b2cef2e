"""What the ledger already knows about a record and its neighbours, looked up before a stage judges it."""

from datetime import date
from decimal import Decimal

import msgspec


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """Another revision of the same source key. `order` sorts revisions of one source key, oldest first."""

    record_id: str
    revision: str
    order: str
    fingerprint: str
    state: str


class DayEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A time entry of the same worker and day that counts (not dead, duplicate, superseded or discarded)."""

    record_id: str
    accepted_number: int
    hours: Decimal


class History(msgspec.Struct, frozen=True, kw_only=True):
    """`revisions` holds all accepted revisions of the source key, this one included, in order.

    `same_business` holds the ids of other records with the same business key (worker, date, amount, category),
    `same_day` all time entries of the worker and day, this one included, in the order they were accepted.
    """

    record_id: str = ""
    revisions: tuple[Revision, ...] = ()
    same_business: tuple[str, ...] = ()
    same_day: tuple[DayEntry, ...] = ()


NO_HISTORY = History()


def worker_day(worker: str, day: date) -> str:
    """The key that a worker's hours of one day are added up under."""
    return f"{worker}|{day.isoformat()}"
