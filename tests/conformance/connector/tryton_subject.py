"""Tryton among the connectors under test, with time entries as its documents."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Self

import msgspec

from connectors.http.client import Timeouts
from connectors.http.secrets import Secret
from connectors.tryton import TrytonConfig, TrytonTarget
from connectors.tryton.timesheet import TIMESHEET_LINE, TimesheetLine
from contracts.channels import TargetDocument
from contracts.money import Money
from pipeline.ports import Target, posting_key
from store.database import Database
from tests.erp.faults import calls, logout
from tests.faults.fates import Fates
from tests.faults.plan import FaultPlan
from tests.faults.proxy import fault_proxy
from tryton import Tryton

FIRST_DAY, DAYS = date(2026, 3, 2), 25
CLOSED_DAY = date(2026, 1, 15)
#: Who has left, and a day after that.
LEAVER, AFTERWARDS = "HR-0005", date(2026, 8, 3)
#: How long a call over a bad road may take, and how many documents go in one, so that there are many to disturb.
IMPATIENT = Timeouts(read_ms=1_500, total_ms=5_000)
bulk_max = 10

_numbers = itertools.count(1)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the system is, under which name we post there, and what time can be booked on."""

    name: str
    url: str
    database: str
    user: str
    password: str
    project: str


class TrytonSubject:
    """A Tryton database of the series 8.0. What stands there under another name is not ours, and not counted."""

    immutable = True
    remote = True
    databases = ("postgresql",)
    many = 10_000
    keeps_periods = False  # what is closed in the books keeps invoices out; hours can be booked there

    def __init__(self, place: Place) -> None:
        self._place = place
        self.place = msgspec.json.encode(place).decode()

    @classmethod
    def of(cls, server: Tryton) -> Self:
        project = server.seed["projects"]["Project 1"]["number"]
        login = {"database": server.database, "user": server.user, "password": server.password}
        return cls(Place(name=f"tryton{next(_numbers)}", url=server.url, project=project, **login))

    @classmethod
    def at(cls, place: str, database: Database) -> Self:
        return cls(msgspec.json.decode(place, type=Place))

    def open(self, **settings: Any) -> TrytonTarget:
        place = self._place
        login = {"database": place.database, "user": place.user, "password": Secret(place.password)}
        return TrytonTarget(TrytonConfig(name=place.name, url=place.url, **login, **settings))

    @contextmanager
    def road(self, plan: FaultPlan, seed: int) -> Iterator["TrytonRoad"]:
        with fault_proxy(self._place.url, plan, seed, end_session=logout) as proxy:
            yield TrytonRoad(type(self)(msgspec.structs.replace(self._place, url=proxy.url)), proxy)

    def document(self, number: int, revision: int = 1, *, replaces: int | None = None) -> TargetDocument:
        older = self._reference(f"TE-{number}", replaces) if replaces else None
        return self._document(f"TE-{number}", number, revision, replaces=older)

    def refused_document(self, number: int) -> TargetDocument:
        return self._document(f"TE-{number}", number, worker=LEAVER, day=AFTERWARDS)

    def named(self, name: str) -> TargetDocument:
        return self._document(name)

    async def in_closed_period(self, number: int) -> TargetDocument:
        return self._document(f"TE-{number}", number, day=CLOSED_DAY)

    def _document(
        self,
        name: str,
        number: int = 1,
        revision: int = 1,
        *,
        worker: str | None = None,
        day: date | None = None,
        replaces: str | None = None,
    ) -> TargetDocument:
        body = TimesheetLine(
            worker=worker or f"HR-{1 + number % 4:04}",
            project=self._place.project,
            date=day or FIRST_DAY + timedelta(days=number % DAYS),
            hours=Decimal("7.5") if revision == 1 else Decimal("6.25"),
            note=f"bridge {number}, seen {revision} times",
        )
        return TargetDocument(
            target=self._place.name,
            kind=TIMESHEET_LINE,
            reference=self._reference(name, revision),
            date=body.date,
            legal_entity="DE",
            amount=Money(amount=Decimal(10_000 + 100 * number + revision).scaleb(-2), currency="EUR"),
            body=msgspec.Raw(msgspec.json.encode(body)),
            replaces=replaces,
        )

    def _reference(self, name: str, revision: int) -> str:
        return posting_key(self._place.name, "time_entry.v1", "openair", name, str(revision))


class StricterTrytonSubject(TrytonSubject):
    """One of the series 8.2, which lets no client set a unique key."""

    # Other content under a reference is not noticed where it has moved to another worker or day: what is there is only
    # searched for where it should be.
    immutable = False
    many = 1_000


class TrytonRoad:
    """HTTP, through a proxy that breaks it."""

    def __init__(self, subject: TrytonSubject, faults: Fates) -> None:
        """`subject` is the one that stands at the end of the road, as its traveller sees it."""
        self.faults, self.place, self._subject = faults, subject.place, subject
        self.posts = calls("create", "write")

    def open(self) -> Target:
        return self._subject.open(timeouts=IMPATIENT, bulk_max=bulk_max, find_max=bulk_max)
