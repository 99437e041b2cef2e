"""Timesheet lines read from Tryton: ours by what they are for, all of them by project and day."""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from connectors.http.outcome import TargetRefused
from connectors.tryton.handler import number_in
from connectors.tryton.lookups import Lookups
from connectors.tryton.markers import beginning_of, hours_of, reference_search
from connectors.tryton.rpc import Rpc
from connectors.tryton.timesheet import CONTENT, FIELDS, INVOICED, MODEL, Held, Line, held_of, key_of
from contracts.channels import Receipt
from pipeline.ports import Found

#: A search of texts looks at every line for every pattern: so many at once stay within a request's time.
patterns_max = 40
#: Conditions that each look at few lines, worker and day being known; databases bound how deep they may be nested.
conditions_max = 200
#: Lines whose id is remembered: of those that were posted last.
known_count_max = 100_000


class ProjectDay(msgspec.Struct, frozen=True, kw_only=True):
    """Hours on one project and day: of lines that we posted, and of others that people typed into Tryton."""

    project: str
    date: date
    hours: Decimal
    lines: int
    others_hours: Decimal
    others_lines: int


class TimeReader:
    """Looks lines up. Everything raises what `Rpc.call` raises."""

    def __init__(self, rpc: Rpc, lookups: Lookups) -> None:
        self._rpc, self._lookups = rpc, lookups
        self._known: dict[str, Receipt] = {}
        self._fields: tuple[str, ...] | None = None

    def know(self, subject: str, receipt: Receipt) -> None:
        """Remember where a line of ours is."""
        self._known.pop(subject, None)
        self._known[subject] = receipt
        if len(self._known) > known_count_max:
            self._known.pop(next(iter(self._known)))

    def forget(self, *subjects: str) -> None:
        """No longer remember where these lines were: they are gone."""
        for subject in subjects:
            self._known.pop(subject, None)

    async def contents(self, subjects: Iterable[str]) -> dict[str, Held]:
        """As `of_subjects`, to look at and not to write: what is remembered is read by its id, and only what it says,
        which costs Tryton half as much.
        """
        wanted = dict.fromkeys(subjects)
        known = {number_in(receipt): receipt for subject in wanted if (receipt := self._known.get(subject))}
        found: dict[str, Held] = {}
        if known:
            try:
                read = await self._rpc.call(MODEL, "read", list(known), CONTENT)
            except TargetRefused:
                read = []  # One of them is gone, which Tryton says of all: they are searched for.
            lines = [held_of(record, at=known[record["id"]].at) for record in read]
            found = _sorted_by_subject(lines, wanted)
        if missing := [subject for subject in wanted if subject not in found]:
            found |= await self.of_subjects(missing)
            self.forget(*(subject for subject in missing if subject not in found))
        return found

    async def of_subjects(self, subjects: Iterable[str]) -> dict[str, Held]:
        """What Tryton holds of these subjects, in whatever revision: by key, by remembered id, by mark."""
        wanted = dict.fromkeys(subjects)
        keys = {key_of(subject): subject for subject in wanted}
        found = _sorted_by_subject(await self._where([["uuid", "in", list(keys)]]), wanted)
        if (await self._rpc.session()).sets_keys:
            return found
        known = [number_in(self._known[subject]) for subject in (wanted.keys() - found.keys()) & self._known.keys()]
        if known:
            found |= _sorted_by_subject(await self._where([["id", "in", known]]), wanted)
        missing = [subject for subject in wanted if subject not in found]
        for start in range(0, len(missing), patterns_max):
            patterns = [reference_search(beginning_of(subject)) for subject in missing[start : start + patterns_max]]
            where = ["OR", *[["description", "like", pattern] for pattern in patterns]]
            found |= _sorted_by_subject(await self._where([where]), wanted)
        for subject, held in found.items():
            self.know(subject, held.receipt)
        return found

    async def where_booked(self, lines: Sequence[Line]) -> dict[str, Held]:
        """What Tryton holds of these lines' subjects, as long as it is for the same worker and day: quickly found."""
        found: dict[str, Held] = {}
        for start in range(0, len(lines), conditions_max):
            some = lines[start : start + conditions_max]
            where = ["OR", *map(_booked_as, some)]
            found |= _sorted_by_subject(await self._where([where]), {line.subject for line in some})
        for subject, held in found.items():
            self.know(subject, held.receipt)
        return found

    async def ours(self, since: datetime | None = None) -> AsyncIterator[Held]:
        """Every line that was posted under this target's name, or those of them written at `since` or later."""
        beginning = f"{self._rpc.config.name}/"
        domain: list[Any] = [["description", "like", reference_search(beginning)]]
        if since is not None:
            # Set at creation too.
            domain.append(["write_date", ">=", since])
        async for record in self._rpc.listed(MODEL, domain, await self._read()):
            held = held_of(record)
            if held.mark is not None and held.mark.reference.startswith(beginning):
                yield held

    async def founds(self, lines: Collection[tuple[str, Held]]) -> list[Found]:
        """Lines as the port wants them, by the reference each was asked for."""
        places = await self._lookups.places.of({held.work for _, held in lines})
        named = {held.mark.worker for _, held in lines if held.mark}
        workers = await self._lookups.employees.of(named)
        renamed = {held.employee for _, held in lines if not _is_worker(held, workers)}
        codes = await self._codes(renamed)
        found = []
        for reference, held in lines:
            worker = codes.get(held.employee) or (held.mark.worker if held.mark else None)
            found.append(held.found(reference, places.get(held.work), worker))
        return found

    async def by_project_and_day(self, first: date, last: date) -> list[ProjectDay]:
        """All lines of these days, both included, in order of project and day. Reads them page by page."""
        sums: dict[tuple[int, date, bool], list[timedelta]] = defaultdict(list)
        domain = [["date", ">=", first], ["date", "<=", last]]
        async for record in self._rpc.listed(MODEL, domain, await self._read()):
            held = held_of(record)
            sums[held.work, held.date, held.mark is not None].append(held.duration)
        places = await self._lookups.places.of({work for work, _, _ in sums})
        days: dict[tuple[str, date], dict[bool, list[timedelta]]] = defaultdict(lambda: {True: [], False: []})
        for (work, day, ours), durations in sums.items():
            project = places[work].project if work in places else ""
            days[project, day][ours] += durations
        return [
            ProjectDay(
                project=project,
                date=day,
                hours=hours_of(sum(of[True], timedelta())),
                lines=len(of[True]),
                others_hours=hours_of(sum(of[False], timedelta())),
                others_lines=len(of[False]),
            )
            for (project, day), of in sorted(days.items())
        ]

    async def _codes(self, employees: Collection[int]) -> dict[int, str]:
        """Party codes of employees, for those that are not who was sent."""
        if not employees:
            return {}
        read = await self._rpc.call("company.employee", "read", sorted(employees), ["party.code"])
        return {record["id"]: record["party."]["code"] for record in read}

    async def _where(self, domain: list[Any]) -> list[Held]:
        """At most a page or two: domains here name what they want."""
        return [held_of(record) async for record in self._rpc.listed(MODEL, domain, await self._read())]

    async def _read(self) -> tuple[str, ...]:
        if self._fields is None:
            there = await self._rpc.call(MODEL, "fields_get", None)
            self._fields = (*FIELDS, INVOICED) if INVOICED in there else FIELDS
        return self._fields


def _booked_as(line: Line) -> list[Any]:
    mark = reference_search(beginning_of(line.subject))
    return [["employee", "=", line.employee], ["date", "=", line.body.date], ["description", "like", mark]]


def _sorted_by_subject(lines: Iterable[Held], subjects: Collection[str]) -> dict[str, Held]:
    """The oldest line of each subject: people who copy a line copy its mark."""
    keys = {key_of(subject): subject for subject in subjects}
    found: dict[str, Held] = {}
    for held in lines:
        subject = held.mark.subject if held.mark else keys.get(held.key or "")
        if subject in subjects and subject is not None:
            found.setdefault(subject, held)
    return found


def _is_worker(held: Held, workers: dict[str, Any]) -> bool:
    named = held.mark.worker if held.mark else None
    return any(employee.id == held.employee for employee in workers.get(named or "", ()))
