"""Time entries: timesheet lines, created in bulk, each subject once.

What keeps a subject (a time entry in whatever revision) from being there twice:
- Where a client may set `timesheet.line.uuid` (8.0), it is made from the subject, and unique in Tryton's database.
- Where it may not (8.2), lines are written through their `timesheet.work`, with the `_timestamp` that it had before the
  search for them: had anybody booked there since, or a call of ours that we thought lost, Tryton refuses the write.
Lines that are there are corrected and deleted under their own `_timestamp`.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime
from decimal import Decimal

from connectors.tryton.faults import AlreadyThere, StaleRecord
from connectors.tryton.handler import Outcome, bisected, in_doubt, receipt
from connectors.tryton.lookups import Lookups
from connectors.tryton.markers import subject_of
from connectors.tryton.rpc import Rpc
from connectors.tryton.time_outcomes import invoiced, line_of, made_of, outcome_of, readable, settled
from connectors.tryton.time_reading import ProjectDay, TimeReader
from connectors.tryton.timesheet import MODEL, TIMESHEET_LINE, Held, Line, TimesheetLine, key_of
from contracts.channels import Receipt, TargetDocument
from contracts.money import Money
from pipeline.codes import NOT_IN_TARGET
from pipeline.errors import PermanentError, PipelineError, TransientError
from pipeline.ports import Found, Total

#: How often what somebody else has written meanwhile is read again before the broker is left to wait.
stale_attempts_max = 8
stale_wait_s = 0.05


class TimeEntries:
    """`handler.Handler` for timesheet lines."""

    kind = TIMESHEET_LINE
    document_type = "time_entry.v1"
    bulk_max = 500
    find_max = 500

    def __init__(self, rpc: Rpc, lookups: Lookups) -> None:
        self._rpc, self._lookups = rpc, lookups
        self._reader = TimeReader(rpc, lookups)
        # Two calls of ours that book on the same work would only make each other stale.
        self._stamping = asyncio.Lock()
        # Two calls that create at once cost Tryton more than one after the other; one that reads beside them does not.
        # Meanwhile the next is made ready.
        self._turns = asyncio.Semaphore(max(rpc.config.calls_max - 1, 1))
        # Well before our sender gives up: what was not sent must not be taken for called and not answered.
        self._turn_s = rpc.config.timeouts.total_ms / 2_000

    async def post_bulk(self, documents: Sequence[TargetDocument]) -> list[Outcome]:
        """One outcome per document, in order. Raises what `Rpc.call` raises: nothing was written."""
        lines = await self._lines(documents)
        firsts: dict[str, Line] = {}
        for line in lines:
            if isinstance(line, Line):
                firsts.setdefault(line.subject, line)
        outcomes: dict[str, Outcome] = {}
        for chosen, write in (
            ([line for line in firsts.values() if line.document.replaces is None], self._create),
            ([line for line in firsts.values() if line.document.replaces is not None], self._correct),
        ):
            for line, outcome in zip(chosen, await self._written(chosen, write), strict=True):
                outcomes[line.subject] = outcome
        return [line if isinstance(line, PipelineError) else outcome_of(line, firsts, outcomes) for line in lines]

    async def _written(
        self, lines: Sequence[Line], write: Callable[[Sequence[Line]], Awaitable[Sequence[Outcome]]]
    ) -> list[Outcome]:
        """Their outcomes; what is refused is looked up and tried once more, where that has become somebody else."""
        outcomes = dict(zip([line.subject for line in lines], await bisected(lines, write), strict=True))
        refused = [line for line in lines if isinstance(outcomes[line.subject], PermanentError)]
        for line in refused:
            self._lookups.forget_time(line.body.worker, line.body.place)
        try:
            looked_up = await self._lines([line.document for line in refused])
        except PipelineError:
            # The others are written: they keep their outcomes.
            return list(outcomes.values())
        again = [
            new for new, old in zip(looked_up, refused, strict=True) if isinstance(new, Line) and new.ids != old.ids
        ]
        outcomes |= zip([line.subject for line in again], await bisected(again, write), strict=True)
        return list(outcomes.values())

    async def find_bulk(self, references: Sequence[str]) -> list[Found | None]:
        """One answer per reference, in order: what was corrected since is found under its new reference only."""
        held = await self._reader.contents(map(subject_of, references))
        lines = {reference: line for reference in references if (line := held.get(subject_of(reference)))}
        there = [(name, line) for name, line in lines.items() if line.mark is None or line.mark.reference == name]
        found = {one.reference: one for one in await self._reader.founds(there)}
        return [found.get(reference) for reference in references]

    async def totals(self) -> list[Total]:
        """What lines of ours are worth, by currency; all of them are read."""
        amounts: dict[str, list[Decimal]] = {}
        async for held in self._reader.ours():
            if held.mark is not None:
                worth = held.mark.worth(held.duration)
                amounts.setdefault(worth.currency, []).append(worth.amount)
        return [
            Total(
                document_type=self.document_type,
                amount=Money(amount=sum(of, Decimal(0)), currency=currency),
                count=len(of),
            )
            for currency, of in sorted(amounts.items())
        ]

    async def reverse(self, reference: str, reason: str) -> Receipt:
        """Delete the line. `reason` is for our own books: Tryton keeps nothing of a line that is gone.

        Raises:
          PermanentError: NOT_IN_TARGET (or reversed before), TARGET_REFUSED (invoiced).
        """
        for attempt in range(stale_attempts_max):
            held = (await self._reader.of_subjects([subject_of(reference)])).get(subject_of(reference))
            if held is None or held.mark is None or held.mark.reference != reference:
                message = f"{self._rpc.config.name}: no timesheet line under {reference!r} to reverse"
                raise PermanentError(NOT_IN_TARGET, message)
            if held.invoice_line is not None:
                raise invoiced(held)
            try:
                await self._rpc.call(MODEL, "delete", [held.id], context=_unchanged(MODEL, {held.id: held.stamp}))
            except StaleRecord as error:
                await _wait(attempt, error)
                continue
            self._reader.forget(subject_of(reference))
            return receipt(MODEL, held.id)
        raise AssertionError("the last attempt returns or raises")

    async def since(self, moment: datetime) -> AsyncIterator[Found]:
        """Lines of ours written at this moment or later, in order of id."""
        page: list[tuple[str, Held]] = []
        async for held in self._reader.ours(moment):
            if held.mark is not None:
                page.append((held.mark.reference, held))
            if len(page) == self._rpc.config.page_max:
                for found in await self._reader.founds(page):
                    yield found
                page = []
        for found in await self._reader.founds(page):
            yield found

    async def by_project_and_day(self, first: date, last: date) -> list[ProjectDay]:
        """Hours of these days, both included: ours, and others'."""
        return await self._reader.by_project_and_day(first, last)

    async def _lines(self, documents: Sequence[TargetDocument]) -> list[Line | PermanentError]:
        """Documents with Tryton's ids for our keys, or why there are none."""
        bodies: list[TimesheetLine | PermanentError] = []
        for document in documents:
            try:
                bodies.append(readable(document))
            except PermanentError as error:
                bodies.append(error)
        known = [body for body in bodies if isinstance(body, TimesheetLine)]
        employees = await self._lookups.employees.of(body.worker for body in known)
        works = await self._lookups.works.of(body.place for body in known)
        return [
            body
            if isinstance(body, PermanentError)
            else line_of(document, body, employees.get(body.worker), works.get(body.place))
            for document, body in zip(documents, bodies, strict=True)
        ]

    async def _create(self, lines: Sequence[Line]) -> list[Outcome]:
        """All of them in one transaction, without those that are there already."""
        if (await self._rpc.session()).sets_keys:
            return await self._create_keyed(lines)
        async with self._turn(self._stamping):
            return await self._create_stamped(lines)

    async def _create_keyed(self, lines: Sequence[Line]) -> list[Outcome]:
        outcomes: dict[str, Outcome] = {}
        while pending := [line for line in lines if line.subject not in outcomes]:
            values = [{**line.values(), "work": line.work, "uuid": key_of(line.subject)} for line in pending]
            try:
                async with self._turn(self._turns):
                    numbers = await self._rpc.call(MODEL, "create", values)
            except AlreadyThere:
                held = await self._reader.of_subjects(line.subject for line in pending)
                if not held:  # somebody else's, out of our sight
                    raise
                there = [line for line in pending if line.subject in held]
                outcomes |= {line.subject: settled(line, held[line.subject]) for line in there}
                continue
            for line, number in zip(pending, numbers, strict=True):
                outcomes[line.subject] = made = receipt(MODEL, number)
                self._reader.know(line.subject, made)
        return [outcomes[line.subject] for line in lines]

    @asynccontextmanager
    async def _turn(self, turns: asyncio.Semaphore | asyncio.Lock) -> AsyncIterator[None]:
        """One call after the other. Raises TransientError: it did not come to that, and nothing was sent."""
        try:
            async with asyncio.timeout(self._turn_s):
                await turns.acquire()
        except TimeoutError as error:
            message = f"{self._rpc.config.name} is slow: not sent, after {self._turn_s:g} s behind another call"
            raise TransientError(message, burns_attempt=False) from error
        try:
            yield
        finally:
            turns.release()

    async def _create_stamped(self, lines: Sequence[Line]) -> list[Outcome]:
        for attempt in range(stale_attempts_max):
            # Before the search: what is booked after it makes these stale.
            works = sorted({line.work for line in lines})
            stamps = {
                record["id"]: record["_timestamp"]
                for record in await self._rpc.call("timesheet.work", "read", works, ["_timestamp"])
            }
            held = await self._reader.where_booked(lines)
            outcomes = {line.subject: settled(line, held[line.subject]) for line in lines if line.subject in held}
            if pending := [line for line in lines if line.subject not in outcomes]:
                try:
                    await self._book(pending, stamps)
                except StaleRecord as error:
                    await _wait(attempt, error)
                    continue
                try:
                    made = await self._reader.where_booked(pending)
                except PipelineError as error:
                    outcomes |= {line.subject: in_doubt(error) for line in pending}
                else:
                    outcomes |= {line.subject: made_of(line, made.get(line.subject)) for line in pending}
            return [outcomes[line.subject] for line in lines]
        raise AssertionError("the last attempt returns or raises")

    async def _book(self, lines: Sequence[Line], stamps: dict[int, str]) -> None:
        """Create lines by writing their works, as long as nobody has written those.

        They are written by way of their `project.work`: Tryton compares the stamps before it writes, and in SQLite it
        is only that first write which keeps others out.
        """
        of_work: dict[tuple[int, int], list[Line]] = {}
        for line in lines:
            of_work.setdefault((line.project_work, line.work), []).append(line)
        writes: list[object] = []
        for (project_work, work), booked in of_work.items():
            created = {"timesheet_lines": [["create", [line.values() for line in booked]]]}
            writes += [project_work], {"timesheet_works": [["write", [work], created]]}
        context = _unchanged("timesheet.work", {work: stamps[work] for _, work in of_work})
        await self._rpc.call("project.work", "write", *writes, context=context)

    async def _correct(self, lines: Sequence[Line]) -> list[Outcome]:
        """Write corrections onto the lines that they replace, in one transaction; a line that is gone is made anew."""
        for attempt in range(stale_attempts_max):
            held = await self._reader.of_subjects(line.subject for line in lines)
            outcomes: dict[str, Outcome] = {}
            writes: list[object] = []
            stamps: dict[int, str] = {}
            for line in lines:
                one = held.get(line.subject)
                if one is None:
                    continue
                if one.mark is None or one.mark.reference != line.document.replaces:
                    outcomes[line.subject] = settled(line, one)
                elif one.invoice_line is not None:
                    outcomes[line.subject] = invoiced(one)
                else:
                    writes += [one.id], {**line.values(), "work": line.work}
                    stamps[one.id] = one.stamp
                    outcomes[line.subject] = receipt(MODEL, one.id)
            if writes:
                try:
                    await self._rpc.call(MODEL, "write", *writes, context=_unchanged(MODEL, stamps))
                except StaleRecord as error:
                    await _wait(attempt, error)
                    continue
                for subject, outcome in outcomes.items():
                    if isinstance(outcome, Receipt):
                        self._reader.know(subject, outcome)
            absent = [line for line in lines if line.subject not in outcomes]
            # Its errors are those of the absent alone: the others are written.
            made = await bisected(absent, self._create)
            outcomes |= {line.subject: outcome for line, outcome in zip(absent, made, strict=True)}
            return [outcomes[line.subject] for line in lines]
        raise AssertionError("the last attempt returns or raises")


def _unchanged(model: str, stamps: dict[int, str]) -> dict[str, dict[str, str]]:
    """A context in which Tryton refuses to write records that have been written since."""
    return {"_timestamp": {f"{model},{number}": stamp for number, stamp in stamps.items()}}


async def _wait(attempt: int, error: StaleRecord) -> None:
    """Before reading again; raises the error where that has been done often enough."""
    if attempt == stale_attempts_max - 1:
        raise error
    await asyncio.sleep(random.uniform(0, stale_wait_s * 2**attempt))
