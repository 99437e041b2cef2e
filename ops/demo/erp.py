"""The demo's ERP: a Tryton that is set up as a target, and asked in the end for the hours it holds itself."""

from collections import defaultdict
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import select

from connectors.tryton import TrytonTarget
from connectors.tryton.timesheet import TIMESHEET_LINE
from contracts.channels import TargetDocument
from ops.target_setup import Added, add_target, specified
from pipeline.states import IN_TARGET
from store.tables import deliveries

if TYPE_CHECKING:
    from ops.bootstrap import Engine

#: As the routing of the demo names it.
TARGET = "tryton"
PASSWORD = "TIEOUT_TRYTON_PASSWORD"


class Erp(msgspec.Struct, frozen=True, kw_only=True):
    """A Tryton database by its address (`http://127.0.0.1:8070/erp`), and who we are in it; the password is in the
    environment, under `PASSWORD`.
    """

    address: str
    user: str

    @property
    def options(self) -> dict[str, str]:
        """As `tieout target add` takes them."""
        parts = urlsplit(self.address)
        return {"url": f"{parts.scheme}://{parts.netloc}", "database": parts.path.strip("/"), "user": self.user}

    @property
    def command(self) -> str:
        """The command that sets it up."""
        said = " ".join(f"--set {name}={value}" for name, value in self.options.items())
        return f"tieout target add {TARGET} --kind tryton {said} --secret password={PASSWORD}"


class ProjectHours(msgspec.Struct, frozen=True, kw_only=True):
    """The hours on one project by both accounts. `days` counts the days of which either knows, `equal` those on which
    both say the same.
    """

    project: str
    ours: Decimal
    theirs: Decimal
    days: int
    equal: int


async def set_up(engine: "Engine", erp: Erp, actor: str) -> Added:
    """Make it a target.

    Raises:
      InvalidTarget: the address, the user or the password can't be used.
      NoAnswer: it does not answer, or does not let us in.
    """
    return await add_target(engine, specified(TARGET, "tryton", erp.options, {"password": PASSWORD}, {}), actor)


async def hours_by_project(engine: "Engine", first: date, last: date) -> list[ProjectHours]:
    """The hours of these days by project: those we have posted beside those the ERP says it holds."""
    target = engine.targets[TARGET]
    assert isinstance(target, TrytonTarget)
    ours: dict[tuple[str, date], Decimal] = await _posted(engine)
    theirs = {(one.project, one.date): one.hours for one in await target.hours_by_project_and_day(first, last)}
    by_project: dict[str, list[tuple[Decimal, Decimal]]] = defaultdict(list)
    for project, day in ours.keys() | theirs.keys():
        pair = (ours.get((project, day), Decimal(0)), theirs.get((project, day), Decimal(0)))
        by_project[project].append(pair)
    return [
        ProjectHours(
            project=project,
            ours=sum((here for here, _ in pairs), Decimal(0)),
            theirs=sum((there for _, there in pairs), Decimal(0)),
            days=len(pairs),
            equal=sum(here == there for here, there in pairs),
        )
        for project, pairs in sorted(by_project.items())
    ]


async def _posted(engine: "Engine") -> dict[tuple[str, date], Decimal]:
    """Hours by project and day of what stands as posted in our own books."""
    posted = select(deliveries.c.document).where(
        deliveries.c.target == TARGET, deliveries.c.state.in_(IN_TARGET), deliveries.c.document.is_not(None)
    )
    hours: dict[tuple[str, date], Decimal] = defaultdict(Decimal)
    async with engine.db.connect() as connection:
        for (encoded,) in await connection.execute(posted):
            document = msgspec.json.decode(encoded, type=TargetDocument)
            if document.kind == TIMESHEET_LINE:
                body: dict[str, Any] = msgspec.json.decode(document.body)
                hours[body["project"], document.date] += Decimal(body["hours"])
    return hours
