"""Projects as Tryton holds them, and the lines of ours in their comments."""

import re
from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import Any
from urllib.parse import unquote

import msgspec

from connectors.tryton.markers import MARK, escaped, key_in, key_search
from connectors.tryton.parties import CUSTOMER, held_parties
from connectors.tryton.rpc import ALL, Rpc

WORK = "project.work"

#: A search of texts looks at every project for every pattern: so many at once stay within a request's time.
patterns_max = 40

_REFERENCE = re.compile(r"\[tieout reference (\S+)(?: for (\S+))?\]")
_FIELDS = (
    *("name", "type", "party", "comment", "project_invoice_method", "write_date", "create_date", "_timestamp"),
    *("timesheet_available", "timesheet_start_date", "timesheet_end_date"),
)
_TASK_FIELDS = ("name", "parent", "comment", "timesheet_start_date", "timesheet_end_date")


class HeldTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task of ours."""

    id: int
    name: str
    valid_from: date | None
    valid_to: date | None


class HeldProject(msgspec.Struct, frozen=True, kw_only=True):
    """A project of ours, with its tasks by our ids. `customer` is our id of the party that it has."""

    id: int
    key: str
    reference: str | None
    name: str
    party: int | None
    customer: str | None
    invoiced: str | None
    comment: str
    valid_from: date | None
    valid_to: date | None
    timesheet_available: bool
    tasks: dict[str, HeldTask]
    written: datetime
    timestamp: str


class ProjectReader:
    """Looks projects up, by our lines in their comments. Everything raises what `Rpc.call` raises."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    async def with_keys(self, keys: Collection[str]) -> dict[str, list[HeldProject]]:
        """By key, the oldest first."""
        found = await self._liked([key_search(key) for key in keys])
        return {key: matching for key in keys if (matching := [held for held in found if held.key == key])}

    async def with_references(self, references: Collection[str]) -> dict[str, HeldProject]:
        """By the record that wrote them last; those that something newer has written are left out."""
        found = await self._first(await self._liked([_reference_search(reference) for reference in references]))
        by_reference = {held.reference: held for held in reversed(found)}
        return {reference: by_reference[reference] for reference in references if reference in by_reference}

    async def referring(self, beginning: str, domain: Sequence[Any] = ()) -> list[HeldProject]:
        """All with a reference that begins so."""
        found = await self._where([["comment", "like", _reference_search(beginning)], *domain])
        return await self._first([held for held in found if (held.reference or "").startswith(beginning)])

    async def count(self, beginning: str) -> int:
        """How many have a reference that begins so; copies that people have made count once."""
        domain = [["comment", "like", _reference_search(beginning)], ["type", "=", "project"], await self._ours()]
        listed = self._rpc.listed(WORK, domain, ["comment"], context=ALL)
        comments = [one["comment"] async for one in listed]
        return len({key_in(one) for one in comments if (reference_in(one)[0] or "").startswith(beginning)})

    async def _first(self, found: Sequence[HeldProject]) -> list[HeldProject]:
        """Without copies: a comment is copied with its project, and then says what was true of it."""
        oldest = await self.with_keys({held.key for held in found})
        return [held for held in found if held.id == oldest[held.key][0].id]

    async def _liked(self, patterns: Sequence[str]) -> list[HeldProject]:
        found: dict[int, HeldProject] = {}
        for start in range(0, len(patterns), patterns_max):
            either = [["comment", "like", pattern] for pattern in patterns[start : start + patterns_max]]
            found |= {held.id: held for held in await self._where([["OR", *either]])}
        return sorted(found.values(), key=lambda held: held.id)

    async def _where(self, domain: list[Any]) -> list[HeldProject]:
        domain = [*domain, ["type", "=", "project"], await self._ours()]
        records = [record async for record in self._rpc.listed(WORK, domain, _FIELDS, context=ALL)]
        tasks = await self._tasks([record["id"] for record in records])
        customers = await self._customers(records)
        return [_held(record, tasks.get(record["id"], {}), customers.get(record["party"])) for record in records]

    async def _tasks(self, projects: list[int]) -> dict[int, dict[str, HeldTask]]:
        """Those right below, by project and our id; the oldest where several have it."""
        found: dict[int, dict[str, HeldTask]] = {}
        if projects:
            tasks = [["parent", "in", projects], ["type", "=", "task"]]
            async for record in self._rpc.listed(WORK, tasks, _TASK_FIELDS, context=ALL):
                if key := key_in(record["comment"] or ""):
                    found.setdefault(record["parent"], {}).setdefault(key, _task(record))
        return found

    async def _customers(self, records: list[dict[str, Any]]) -> dict[int, str]:
        """Our ids of the parties: the one that the project was sent for, where that is who the party is."""
        sent = {record["party"]: reference_in(record["comment"])[1] for record in records if record["party"]}
        known = await held_parties(self._rpc, CUSTOMER, sorted({key for key in sent.values() if key}))
        named = {party.id: key for key, (party, *_) in known.items() if sent.get(party.id) == key}
        if others := sorted(sent.keys() - named.keys()):
            read = await self._rpc.call("party.party", "read", others, ["code"])
            named |= {record["id"]: record["code"] for record in read}
        return named

    async def _ours(self) -> list[Any]:
        return ["company", "=", (await self._rpc.session()).company]


def reference_line(reference: str, customer: str | None) -> str:
    return f"{MARK}reference {escaped(reference)}{f' for {escaped(customer)}' if customer else ''}]"


def reference_in(comment: str | None) -> tuple[str | None, str | None]:
    """The record that wrote a project last, and the customer that it named."""
    found = _REFERENCE.findall(comment or "")
    if not found:
        return None, None
    reference, customer = found[-1]
    return unquote(reference), unquote(customer) or None


def with_lines(comment: str, *ours: str) -> str:
    """The comment with these lines of ours, instead of those that it has."""
    others = [line for line in comment.splitlines() if not line.startswith(MARK)]
    return "\n".join([*others, *ours])


def _reference_search(beginning: str) -> str:
    return f"%{MARK}reference {escaped(beginning)}%"


def _held(record: dict[str, Any], tasks: dict[str, HeldTask], customer: str | None) -> HeldProject:
    comment = record["comment"] or ""
    return HeldProject(
        id=record["id"],
        key=key_in(comment) or "",
        reference=reference_in(comment)[0],
        name=record["name"],
        party=record["party"],
        customer=customer,
        invoiced=record["project_invoice_method"],
        comment=comment,
        valid_from=record["timesheet_start_date"],
        valid_to=record["timesheet_end_date"],
        timesheet_available=bool(record["timesheet_available"]),
        tasks=tasks,
        written=record["write_date"] or record["create_date"],
        timestamp=record["_timestamp"],
    )


def _task(record: dict[str, Any]) -> HeldTask:
    return HeldTask(
        id=record["id"],
        name=record["name"],
        valid_from=record["timesheet_start_date"],
        valid_to=record["timesheet_end_date"],
    )
