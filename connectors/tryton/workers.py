"""Workers: employees of our company, each with a party of its own.

Tryton takes any number of employees for one party and has no call that makes both. So the party is first (nobody can
make it twice), then the employee; a party without one is no worker yet, and is not found. Two who come at once may both
make the employee: each looks again afterwards, and takes its own back where there is an older one. Others are left
alone, and of several the oldest counts.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import date, datetime
from typing import Any

import msgspec

from connectors.tryton.customers import bodies_of, counted, stays, waves
from connectors.tryton.handler import Outcome, bisected, number_in, receipt
from connectors.tryton.lookups import Lookups
from connectors.tryton.mapping_masters import EMPLOYEE as KIND
from connectors.tryton.mapping_masters import EmployeeBody, document_type_of
from connectors.tryton.parties import WORKER, Parties, Party, Wanted
from connectors.tryton.rpc import ALL, Rpc
from contracts.channels import Receipt, TargetDocument
from contracts.money import NOTHING
from contracts.worker import Worker
from pipeline.errors import PermanentError, PipelineError, TransientError
from pipeline.ports import Found, Total

EMPLOYEE = "company.employee"


class Employment(msgspec.Struct, frozen=True, kw_only=True):
    """An employee as Tryton holds it."""

    id: int
    party: int
    start: date | None
    end: date | None
    written: datetime


class Workers:
    """`handler.Handler` for employees."""

    kind = KIND
    document_type = document_type_of(Worker)
    bulk_max = 100
    find_max = 200

    def __init__(self, rpc: Rpc, lookups: Lookups) -> None:
        self._rpc, self._lookups = rpc, lookups
        self._parties = Parties(rpc, WORKER)
        self._beginning = f"{rpc.config.name}/{self.document_type}/"

    async def post_bulk(self, documents: Sequence[TargetDocument]) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        bodies = bodies_of(documents, EmployeeBody, outcomes)
        for wave in waves({place: body.worker for place, body in bodies.items()}):
            wanted = [
                Wanted(key=body.worker, reference=documents[place].reference, name=body.name, email=body.email)
                for place in wave
                for body in (bodies[place],)
            ]
            parties = await self._parties.put(wanted)
            outcomes |= {place: parties[bodies[place].worker] for place in wave}
            numbers = {place: number_in(outcome) for place in wave if isinstance(outcome := outcomes[place], Receipt)}
            outcomes |= await self._employ({place: (numbers[place], bodies[place]) for place in numbers})
        workers = [body.worker for body in bodies.values()]
        self._lookups.workers.forget(workers)
        self._lookups.employees.forget(workers)
        return [outcomes[place] for place in range(len(documents))]

    async def find_bulk(self, references: Sequence[str]) -> list[Found | None]:
        parties = await self._parties.with_references(references)
        found = await self._founds(list(parties.values()))
        return [found.get(parties[reference].id) if reference in parties else None for reference in references]

    async def totals(self) -> list[Total]:
        return counted(self.document_type, await self._parties.count(self._beginning))

    async def reverse(self, reference: str, reason: str) -> Receipt:
        raise stays(reference)

    async def since(self, moment: datetime) -> AsyncIterator[Found]:
        for found in (await self._founds(await self._parties.written_since(moment, self._beginning))).values():
            yield found

    async def _founds(self, parties: Sequence[Party]) -> dict[int, Found]:
        """By party; those that nobody has employed yet are left out."""
        employed = await self._employments([party.id for party in parties])
        return {party.id: _found(party, _latest(employed[party.id])) for party in parties if party.id in employed}

    async def _employ(self, wanted: dict[int, tuple[int, EmployeeBody]]) -> dict[int, Outcome]:
        """The employee of each party, by position, made or written where it is not as it should be."""
        outcomes: dict[int, Outcome] = {}
        parties = [party for party, _ in wanted.values()]
        held = await self._employments(parties)
        fresh = [(place, party, body) for place, (party, body) in wanted.items() if party not in held]
        for made, outcome in zip(fresh, await bisected(fresh, self._create), strict=True):
            outcomes[made[0]] = outcome
        if fresh:
            held = await self._employments(parties)
            await self._settle(held, {number_in(made) for made in outcomes.values() if isinstance(made, Receipt)})
        stale = []
        for place, (party, body) in wanted.items():
            if isinstance(outcomes.get(place), PipelineError):
                continue
            if party not in held:
                outcomes[place] = TransientError(f"the employee of {body.worker!r} was removed as soon as it was made")
                continue
            one = _latest(held[party])
            if (one.start, one.end) != (body.hired_on, body.left_on):
                stale.append((place, one, body))
            outcomes[place] = receipt(EMPLOYEE, one.id, at=one.written)
        for written, outcome in zip(stale, await bisected(stale, self._write), strict=True):
            outcomes[written[0]] = outcome
        return outcomes

    async def _settle(self, held: dict[int, list[Employment]], made: Collection[int]) -> None:
        """Take back what we have just made, where somebody else has been quicker."""
        surplus = [one.id for several in held.values() for one in _copies(several) if one.id in made]
        if surplus:
            try:
                await self._rpc.call(EMPLOYEE, "delete", surplus)
            except PermanentError:
                # Time is booked on one already, or they are gone: the oldest is it all the same.
                return

    async def _create(self, fresh: Sequence[tuple[int, int, EmployeeBody]]) -> list[Outcome]:
        company = (await self._rpc.session()).company
        values = [{"party": party, "company": company, **_days(body)} for _, party, body in fresh]
        return [receipt(EMPLOYEE, number) for number in await self._rpc.call(EMPLOYEE, "create", values)]

    async def _write(self, stale: Sequence[tuple[int, Employment, EmployeeBody]]) -> list[Outcome]:
        pairs = [part for _, one, body in stale for part in ([one.id], _days(body))]
        await self._rpc.call(EMPLOYEE, "write", *pairs)
        return [receipt(EMPLOYEE, one.id) for _, one, _ in stale]

    async def _employments(self, parties: Sequence[int]) -> dict[int, list[Employment]]:
        """By party, the oldest first; those who have left as well."""
        company = (await self._rpc.session()).company
        domain = [["party", "in", list(dict.fromkeys(parties))], ["company", "=", company]]
        held: dict[int, list[Employment]] = {}
        fields = ("party", "start_date", "end_date", "write_date", "create_date")
        async for record in self._rpc.listed(EMPLOYEE, domain, fields, context=ALL):
            held.setdefault(record["party"], []).append(_employment(record))
        return held


def _employment(record: dict[str, Any]) -> Employment:
    return Employment(
        id=record["id"],
        party=record["party"],
        start=record["start_date"],
        end=record["end_date"],
        written=record["write_date"] or record["create_date"],
    )


def _copies(employments: Sequence[Employment]) -> list[Employment]:
    """Those that are for the same days as an older one."""
    first = {(one.start, one.end): one for one in reversed(employments)}
    return [one for one in employments if one not in first.values()]


def _latest(employments: Sequence[Employment]) -> Employment:
    """The one that counts of a worker who has been hired again."""
    return max(employments, key=lambda one: (one.start or date.min, -one.id))


def _days(body: EmployeeBody) -> dict[str, date | None]:
    return {"start_date": body.hired_on, "end_date": body.left_on}


def _found(party: Party, employment: Employment) -> Found:
    return Found(
        reference=party.reference or "",
        receipt=receipt(EMPLOYEE, employment.id, at=max(party.written, employment.written)),
        amount=NOTHING,
        fields={
            "worker": party.called(WORKER, None),
            "name": party.name,
            "email": party.email[1] if party.email else None,
            "hired_on": employment.start,
            "left_on": employment.end,
        },
    )
