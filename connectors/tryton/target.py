"""A Tryton database behind the port of every target."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import nullcontext
from datetime import date, datetime

import msgspec

from connectors.door import Door
from connectors.http.client import Gate
from connectors.tryton.config import TrytonConfig
from connectors.tryton.customers import Customers
from connectors.tryton.expenses import Expenses
from connectors.tryton.handler import Handler, Outcome, refused
from connectors.tryton.invoices import CustomerInvoices
from connectors.tryton.lookups import Lookups
from connectors.tryton.projects import Projects
from connectors.tryton.rpc import Rpc
from connectors.tryton.time_entries import TimeEntries
from connectors.tryton.time_reading import ProjectDay
from connectors.tryton.workers import Workers
from contracts.channels import Receipt, TargetDocument
from pipeline.errors import OutcomeUnknown, TransientError
from pipeline.ports import Capabilities, Found, Total

#: One per kind of document besides time entries; each is made from these two, which they share.
HANDLERS: tuple[Callable[[Rpc, Lookups], Handler], ...] = (Customers, Workers, Projects, Expenses, CustomerInvoices)

LACKS = {
    "unique_reference": "Tryton has no unique field for the reference of an invoice: two calls at once could make two"
}


class Asked(msgspec.Struct, frozen=True):
    """A document at the door, and when its sender came, on the loop's clock."""

    document: TargetDocument
    at: float


class TrytonTarget:
    """`pipeline.ports.Target`, plus reversals, changes since a moment, and hours per project and day."""

    def __init__(self, config: TrytonConfig, gate: Gate = nullcontext) -> None:
        self.config, self.name = config, config.name
        # A sender waits as long as one run at most, and then as long as its own: after that none is under way.
        self._run_s = config.timeouts.total_ms / 1000
        self.capabilities = Capabilities(
            bulk_max=config.bulk_max,
            call_timeout_ms=2 * config.timeouts.total_ms,
            reverse=True,
            totals=True,
            lacks=LACKS,
        )
        self.rpc = Rpc(config, gate)
        self.lookups = Lookups(self.rpc)
        self.time_entries = TimeEntries(self.rpc, self.lookups)
        self._handlers: list[Handler] = [self.time_entries, *(make(self.rpc, self.lookups) for make in HANDLERS)]
        self._of_type = {handler.document_type: handler for handler in self._handlers}
        bounds = {"calls_max": config.calls_max, "waiting_max": config.waiting_max}
        self._posting = {
            handler.kind: Door(self._runs(handler), bulk_max=min(config.bulk_max, handler.bulk_max), **bounds)
            for handler in self._handlers
        }
        self._finding = {
            handler.document_type: Door(handler.find_bulk, bulk_max=min(config.find_max, handler.find_max), **bounds)
            for handler in self._handlers
        }

    async def post(self, document: TargetDocument) -> Receipt:
        """Create the document, or find it created; correct `replaces`. Calls of the same moment travel in bulk.

        Raises:
          PermanentError: TARGET_REFUSED, PERIOD_CLOSED or TARGET_REFERENCE_MISSING.
          TransientError: nothing was written.
          OutcomeUnknown: ask with `find` before anything else.
        """
        door = self._posting.get(document.kind)
        if door is None:
            kinds = ", ".join(sorted(self._posting))
            raise refused(f"kind {document.kind!r} is not taken, only {kinds}: correct [[routing]] in the rules")
        return await door.call(Asked(document, asyncio.get_running_loop().time()))

    async def find(self, reference: str) -> Found | None:
        """The document as Tryton holds it; None for what it does not. Raises what `Rpc.call` raises."""
        door = self._finding.get(document_type_in(reference))
        return await door.call(reference) if door else None

    async def totals(self) -> list[Total]:
        """What Tryton holds of ours, by document type and currency, read whole. Raises what `Rpc.call` raises."""
        return [total for handler in self._handlers for total in await handler.totals()]

    async def reverse(self, reference: str, reason: str) -> Receipt:
        """Take a document back, in the way its kind can be.

        Raises:
          PermanentError: NOT_IN_TARGET, or TARGET_REFUSED with what to do instead.
          And what `Rpc.call` raises.
        """
        handler = self._of_type.get(document_type_in(reference))
        if handler is None:
            raise refused(f"{reference!r} is no reference of a document that is posted here")
        return await handler.reverse(reference, reason)

    async def since(self, moment: datetime) -> AsyncIterator[Found]:
        """Documents of ours that were written at this moment or later, by anybody; what was deleted does not show.

        Tryton keeps its moments without a zone: its server's clock has to run in UTC.
        """
        for handler in self._handlers:
            async for found in handler.since(moment):
                yield found

    async def hours_by_project_and_day(self, first: date, last: date) -> list[ProjectDay]:
        """The hours that Tryton holds, both days included. Raises what `Rpc.call` raises."""
        return await self.time_entries.by_project_and_day(first, last)

    async def close(self) -> None:
        """Return when every call taken is answered; release connections."""
        for posting in self._posting.values():
            await posting.close()
        for finding in self._finding.values():
            await finding.close()
        await self.rpc.close()

    def _runs(self, handler: Handler) -> Callable[[Sequence[Asked]], Awaitable[Sequence[Outcome]]]:
        """How a door has its documents posted: in time, so that none is under way when its sender has given up."""

        async def run(asked: Sequence[Asked]) -> Sequence[Outcome]:
            now = asyncio.get_running_loop().time()
            outcomes: list[Outcome | None] = [self._too_late(one, now) for one in asked]
            documents = [one.document for one, late in zip(asked, outcomes, strict=True) if late is None]
            try:
                async with asyncio.timeout(self._run_s):
                    answers = iter(await handler.post_bulk(documents) if documents else ())
            except TimeoutError:
                message = f"{self.name} has not answered {len(documents)} documents within {self._run_s:g} s"
                answers = iter([OutcomeUnknown(message)] * len(documents))
            return [late or next(answers) for late in outcomes]

        return run

    def _too_late(self, asked: Asked, now: float) -> TransientError | None:
        if now - asked.at <= self._run_s:
            return None
        message = f"{self.name} is slow: not sent, after {self._run_s:g} s behind other documents"
        return TransientError(message, burns_attempt=False)


def document_type_in(reference: str) -> str:
    """The second part of a posting key: `time_entry.v1`."""
    return reference.split("/", 2)[1] if reference.count("/") > 1 else ""
