"""Tryton's ids for our keys, and our keys for Tryton's ids: in bulk, kept for a while.

| ours | is in Tryton |
|---|---|
| worker | the one party that is meant by it: see `parties` |
| worker, for time | the employees of that party in our company, those who have left too |
| project | the `project.work` of type project whose key this is: the one in its comment, else its number |
| task | the `project.work` of type task below that project whose key this is |

A key that several works have means the one whose comment says so, else the oldest.
"""

from collections.abc import Collection, Iterable
from datetime import date
from typing import Any

import msgspec

from connectors.tryton.kept import Kept
from connectors.tryton.markers import key_in, key_search
from connectors.tryton.parties import WORKER, held_parties
from connectors.tryton.rpc import ALL, Rpc

#: Keys in one search: each is a condition of its own, and databases bound how deep those may be nested.
keys_max = 100

_WORK_FIELDS = ("comment", "number", "type", "parent", "timesheet_works")


class Employee(msgspec.Struct, frozen=True):
    """One employment of a worker, both days included."""

    id: int
    start: date | None = None
    end: date | None = None

    def employed_on(self, day: date) -> bool:
        return (self.start is None or self.start <= day) and (self.end is None or day <= self.end)


class Place(msgspec.Struct, frozen=True):
    """Where time is booked: a project, or a task of it."""

    project: str
    task: str | None = None


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """A `project.work`; `timesheet` is its `timesheet.work`, None where no time can be booked."""

    id: int
    key: str
    marked: bool
    is_task: bool
    parent: int | None
    timesheet: int | None


class Lookups:
    """The look-ups of one target. Everything raises what `Rpc.call` raises."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self.workers: Kept[str, int] = Kept(self._workers, keys_max)
        self.employees: Kept[str, tuple[Employee, ...]] = Kept(self._employees, keys_max)
        # Where no time can be booked, people are told to change that in Tryton, and try again.
        self.projects: Kept[str, Work] = Kept(self._projects, keys_max, keeps=_is_bookable)
        self.works: Kept[Place, Work] = Kept(self._works, keys_max, keeps=_is_bookable)
        self.places: Kept[int, Place] = Kept(self._places, self._rpc.config.page_max)

    def forget_time(self, worker: str, place: Place) -> None:
        """Ask anew who a worker is, and where a place is."""
        self.workers.forget([worker])
        self.employees.forget([worker])
        self.projects.forget([place.project])
        self.works.forget([place])

    async def _workers(self, keys: list[str]) -> dict[str, int]:
        held = await held_parties(self._rpc, WORKER, keys)
        # Several are nobody in particular.
        return {key: parties[0].id for key, parties in held.items() if len(parties) == 1}

    async def _employees(self, keys: list[str]) -> dict[str, tuple[Employee, ...]]:
        parties = await self.workers.of(keys)
        company = (await self._rpc.session()).company
        domain = [["party", "in", sorted(set(parties.values()))], ["company", "=", company]]
        of_party: dict[int, tuple[Employee, ...]] = {}
        fields = ["party", "start_date", "end_date"]
        async for one in self._rpc.listed("company.employee", domain, fields, context=ALL):
            employee = Employee(one["id"], one["start_date"], one["end_date"])
            of_party[one["party"]] = (*of_party.get(one["party"], ()), employee)
        self.workers.forget([key for key, party in parties.items() if party not in of_party])
        return {key: of_party[party] for key, party in parties.items() if party in of_party}

    async def _projects(self, keys: list[str]) -> dict[str, Work]:
        found = await self._works_where(
            [
                ["type", "=", "project"],
                ["OR", ["number", "in", keys], *[["comment", "like", key_search(k)] for k in keys]],
            ]
        )
        return _only(keys, _by_key(found.values()))

    async def _works(self, places: list[Place]) -> dict[Place, Work]:
        projects = await self.projects.of({place.project for place in places})
        found = {place: projects[place.project] for place in places if place.task is None and place.project in projects}
        tasks = {place.task for place in places if place.task is not None}
        roots = {projects[place.project].id for place in places if place.task is not None and place.project in projects}
        if tasks and roots:
            # With those between: a task may stand below another one.
            below = await self._works_where([["parent", "child_of", sorted(roots), "parent"]])
            of_project: dict[int, list[Work]] = {}
            for work in below.values():
                if work.is_task:
                    of_project.setdefault(_project_above(work, below), []).append(work)
            keyed = {project: _by_key(works) for project, works in of_project.items()}
            for place in places:
                project = projects.get(place.project)
                task = keyed.get(project.id, {}).get(place.task) if project and place.task is not None else None
                if task is not None:
                    found[place] = task
        return found

    async def _places(self, timesheet_works: list[int]) -> dict[int, Place]:
        """Our keys of what time was booked on, by id of `timesheet.work`; those with no project are left out."""
        found = await self._works_where([["timesheet_works", "in", timesheet_works]])
        works = dict(found)
        while above := {work.parent for work in works.values() if work.is_task and work.parent} - works.keys():
            works |= await self._works_where([["id", "in", sorted(above)]])
        places = {}
        for work in found.values():
            project = works.get(_project_above(work, works)) if work.is_task else work
            if project is not None and work.timesheet is not None:
                places[work.timesheet] = Place(project.key, work.key if work.is_task else None)
        return places

    async def _works_where(self, domain: list[Any]) -> dict[int, Work]:
        company = (await self._rpc.session()).company
        listed = self._rpc.listed("project.work", [["company", "=", company], *domain], _WORK_FIELDS, context=ALL)
        return {record["id"]: _work_of(record) async for record in listed}


def _work_of(record: dict[str, Any]) -> Work:
    marked = key_in(record["comment"] or "")
    return Work(
        id=record["id"],
        key=marked or record["number"] or "",
        marked=marked is not None,
        is_task=record["type"] == "task",
        parent=record["parent"],
        timesheet=next(iter(record["timesheet_works"]), None),
    )


def _is_bookable(work: Work) -> bool:
    return work.timesheet is not None


def _by_key(works: Iterable[Work]) -> dict[str, Work]:
    """By key, the marked ones before the others, the oldest first."""
    found: dict[str, Work] = {}
    for work in sorted(works, key=lambda work: (not work.marked, work.id)):
        found.setdefault(work.key, work)
    return found


def _project_above(work: Work, works: dict[int, Work]) -> int:
    """The id of the next project above, as far as the way there is known; the topmost id otherwise."""
    above = work.parent
    for _ in range(len(works)):
        if above is None or above not in works or not works[above].is_task:
            break
        above = works[above].parent
    return above or work.id


def _only(keys: Collection[str], found: dict[str, Any]) -> dict[str, Any]:
    return {key: found[key] for key in keys if key in found}
