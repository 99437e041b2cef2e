"""Projects with their tasks, each of which time can be booked on.

Their keys stand in the comment, as lines of their own: `[tieout P-100]`, and `[tieout reference R for C-7]` for the
record of our books that wrote the project last and the customer it named. Not in the name: Tryton prints that on the
customer's invoices. Where a client may set `project.work.number` (8.0), it is our key as well, unless Tryton's own
sequence could come to it; nobody has a number twice, so two who make the same project at once make one. Elsewhere
(8.2) each looks again after making one, and takes its own back where there is an older one. Others are left alone:
people copy projects, and Tryton copies the comment with them. Of several the oldest counts.

A task that the source no longer has stays in Tryton, with the time that is booked on it.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import date, datetime
from typing import Any

import msgspec

from connectors.tryton.customers import bodies_of, counted, stays, waves
from connectors.tryton.faults import AlreadyThere, StaleRecord
from connectors.tryton.handler import Outcome, bisected, number_in, receipt
from connectors.tryton.lookups import Lookups
from connectors.tryton.mapping_masters import PROJECT as KIND
from connectors.tryton.mapping_masters import ProjectBody, document_type_of
from connectors.tryton.markers import key_line
from connectors.tryton.parties import CUSTOMER, Party, held_parties, rounds_max, the_one, written_since
from connectors.tryton.rpc import Rpc
from connectors.tryton.works import WORK, HeldProject, ProjectReader, reference_line, with_lines
from contracts.channels import Receipt, TargetDocument
from contracts.money import NOTHING
from contracts.project import Project
from pipeline.codes import TARGET_REFERENCE_MISSING
from pipeline.errors import PermanentError
from pipeline.ports import Found, Total


class Put(msgspec.Struct, frozen=True, kw_only=True):
    """A project as it should be; `party` is the customer's."""

    reference: str
    body: ProjectBody
    party: int | None


class Projects:
    """`handler.Handler` for projects."""

    kind = KIND
    document_type = document_type_of(Project)
    bulk_max = 50
    find_max = 200

    def __init__(self, rpc: Rpc, lookups: Lookups) -> None:
        self._rpc, self._lookups = rpc, lookups
        self._reader = ProjectReader(rpc)
        self._beginning = f"{rpc.config.name}/{self.document_type}/"

    async def post_bulk(self, documents: Sequence[TargetDocument]) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        bodies = bodies_of(documents, ProjectBody, outcomes)
        parties = await self._customers({body.customer for body in bodies.values() if body.customer})
        for wave in waves({place: body.project for place, body in bodies.items()}):
            wanted = {}
            for place in wave:
                body, customer = bodies[place], bodies[place].customer
                party = parties.get(customer) if customer else None
                if isinstance(party, PermanentError):
                    outcomes[place] = party
                else:
                    wanted[place] = Put(reference=documents[place].reference, body=body, party=party)
            put = await self._put(list(wanted.values()))
            outcomes |= {place: put[one.body.project] for place, one in wanted.items()}
        self._lookups.projects.forget([body.project for body in bodies.values()])
        return [outcomes[place] for place in range(len(documents))]

    async def find_bulk(self, references: Sequence[str]) -> list[Found | None]:
        held = await self._reader.with_references(references)
        return [_found(held[reference]) if reference in held else None for reference in references]

    async def totals(self) -> list[Total]:
        return counted(self.document_type, await self._reader.count(self._beginning))

    async def reverse(self, reference: str, reason: str) -> Receipt:
        raise stays(reference)

    async def since(self, moment: datetime) -> AsyncIterator[Found]:
        for held in await self._reader.referring(self._beginning, [written_since(moment)]):
            yield _found(held)

    async def _customers(self, customers: set[str]) -> dict[str, int | PermanentError]:
        """The party of each customer, or why there is none."""
        held = await held_parties(self._rpc, CUSTOMER, sorted(customers)) if customers else {}
        meant = {customer: the_one(CUSTOMER, customer, parties) for customer, parties in held.items()}
        found: dict[str, int | PermanentError] = {customer: missing_customer(customer) for customer in customers}
        return found | {key: one.id if isinstance(one, Party) else one for key, one in meant.items()}

    async def _put(self, wanted: Sequence[Put]) -> dict[str, Outcome]:
        """Each project, by key, made or written where it is not as it should be; keys must differ."""
        outcomes: dict[str, Outcome] = {}
        for _ in range(rounds_max):
            left = [one for one in wanted if _is_open(outcomes.get(one.body.project))]
            if not left:
                break
            held = await self._reader.with_keys([one.body.project for one in left])
            fresh, stale = [], []
            for one in left:
                key = one.body.project
                if not (several := held.get(key)):
                    # Refused for a number that is not that of a project of ours: somebody else's.
                    fresh.append((one, not isinstance(outcomes.get(key), AlreadyThere)))
                elif changes := await self._changes(several[0], one):
                    stale.append((one, several[0], changes))
                else:
                    outcomes[key] = receipt(WORK, several[0].id, at=several[0].written)
            for (one, _), outcome in zip(fresh, await bisected(fresh, self._create), strict=True):
                outcomes[one.body.project] = outcome
            for written, outcome in zip(stale, await bisected(stale, self._write), strict=True):
                outcomes[written[0].body.project] = outcome
            keys = [one.body.project for one, _ in fresh]
            made_now = {key: number_in(made) for key in keys if isinstance(made := outcomes[key], Receipt)}
            again = await self._reader.with_keys(made_now)
            await self._settle(again, set(made_now.values()))
            outcomes |= {key: receipt(WORK, several[0].id, at=several[0].written) for key, several in again.items()}
        return outcomes

    async def _settle(self, held: dict[str, list[HeldProject]], made: Collection[int]) -> None:
        """Take back what we have just made, where somebody else has been quicker."""
        for one in [one for several in held.values() for one in several[1:] if one.id in made]:
            try:
                # Tasks first: Tryton deletes no project above them.
                await self._rpc.call(WORK, "delete", [*(task.id for task in one.tasks.values()), one.id])
            except PermanentError:
                # Time is booked on it already, or it is gone: the oldest is it all the same.
                continue

    async def _create(self, fresh: Sequence[tuple[Put, bool]]) -> list[Outcome]:
        values = [await self._values(one, numbered) for one, numbered in fresh]
        return [receipt(WORK, number) for number in await self._rpc.call(WORK, "create", values)]

    async def _write(self, stale: Sequence[tuple[Put, HeldProject, dict[str, Any]]]) -> list[Outcome]:
        """All in one call, and only if nobody has written them since they were read."""
        pairs = [part for _, held, changes in stale for part in ([held.id], changes)]
        seen = {f"{WORK},{held.id}": held.timestamp for _, held, _ in stale}
        await self._rpc.call(WORK, "write", *pairs, context={"_timestamp": seen})
        return [receipt(WORK, held.id) for _, held, _ in stale]

    async def _values(self, one: Put, numbered: bool) -> dict[str, Any]:
        body = one.body
        tasks = [await self._task(body, task, numbered) for task in body.tasks]
        return {
            **await self._place(body.project, numbered),
            "type": "project",
            "name": body.name,
            "party": one.party,
            "project_invoice_method": body.invoiced,
            "comment": with_lines("", key_line(body.project), reference_line(one.reference, body.customer)),
            **_days(body),
            "children": [["create", tasks]] if tasks else [],
        }

    async def _task(self, body: ProjectBody, task: str, numbered: bool) -> dict[str, Any]:
        return {
            **await self._place(f"{body.project}/{task}", numbered),
            "type": "task",
            "name": body.tasks[task],
            "comment": key_line(task),
            **_days(body),
        }

    async def _place(self, key: str, numbered: bool) -> dict[str, Any]:
        session = await self._rpc.session()
        numbers = {"number": key} if numbered and session.sets_keys and not key.isdecimal() else {}
        return {"company": session.company, "timesheet_available": True, **numbers}

    async def _changes(self, held: HeldProject, one: Put) -> dict[str, Any]:
        body, numbered = one.body, False
        comment = with_lines(held.comment, key_line(body.project), reference_line(one.reference, body.customer))
        wanted = {"name": body.name, "party": one.party, "project_invoice_method": body.invoiced, **_days(body)}
        there = {
            "name": held.name,
            "party": held.party,
            "project_invoice_method": held.invoiced,
            **_span(held.valid_from, held.valid_to),
        }
        changes: dict[str, Any] = {name: value for name, value in wanted.items() if there[name] != value}
        if held.comment != comment:
            changes["comment"] = comment
        if not held.timesheet_available:
            changes["timesheet_available"] = True
        children: list[Any] = []
        for task, name in body.tasks.items():
            if (known := held.tasks.get(task)) is None:
                children.append(["create", [await self._task(body, task, numbered)]])
            elif (known.name, known.valid_from, known.valid_to) != (name, body.valid_from, body.valid_to):
                children.append(["write", [known.id], {"name": name, **_days(body)}])
        if children:
            changes["children"] = children
        return changes


def missing_customer(customer: str) -> PermanentError:
    return PermanentError(TARGET_REFERENCE_MISSING, f"Tryton knows no customer {customer!r}")


def _days(body: ProjectBody) -> dict[str, date | None]:
    return _span(body.valid_from, body.valid_to)


def _span(first: date | None, last: date | None) -> dict[str, date | None]:
    return {"timesheet_start_date": first, "timesheet_end_date": last}


def _found(held: HeldProject) -> Found:
    return Found(
        reference=held.reference or "",
        receipt=receipt(WORK, held.id, at=held.written),
        amount=NOTHING,
        fields={
            "project": held.key,
            "name": held.name,
            "invoiced": held.invoiced,
            "customer": held.customer,
            "valid_from": held.valid_from,
            "valid_to": held.valid_to,
            "tasks": {task: one.name for task, one in held.tasks.items()},
        },
    )


def _is_open(outcome: Outcome | None) -> bool:
    return not isinstance(outcome, Receipt) and (outcome is None or isinstance(outcome, AlreadyThere | StaleRecord))
