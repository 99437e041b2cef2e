"""Expenses: supplier invoices under our reference, one line each.

A correction posts the new invoice and then takes the old one back, in this order: what is refused (a closed month)
leaves the old one as it was. The new one says in its comment what it replaces; while that still stands, the correction
is not done, so it is not found, and whoever looked goes on where it stopped. Where the old one can't be taken back, the
new one is, so that one of them counts; it does not stand in the way of the same correction later.
"""

import re
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from connectors.tryton.billing import Billing
from connectors.tryton.customers import bodies_of
from connectors.tryton.handler import Outcome, in_doubt, receipt, refused
from connectors.tryton.held_invoices import INVOICE, Invoice, Wanted
from connectors.tryton.lookups import Lookups
from connectors.tryton.mapping_expenses import SUPPLIER_INVOICE, ExpenseBody
from connectors.tryton.mapping_masters import document_type_of
from connectors.tryton.markers import MARK, escaped
from connectors.tryton.parties import WORKER, written_since
from connectors.tryton.payables import Payables, who_of
from connectors.tryton.rpc import Rpc
from contracts.channels import Receipt, TargetDocument
from contracts.expense import Expense
from pipeline.codes import NOT_IN_TARGET, PERIOD_CLOSED
from pipeline.errors import PermanentError, PipelineError, TransientError
from pipeline.ports import Found, Total

_WHO = re.compile(r"\[tieout (worker|supplier) (\S+)\]")
_REPLACES = re.compile(r"\[tieout replaces (\S+)\]")


class Expenses:
    """`handler.Handler` for supplier invoices."""

    kind = SUPPLIER_INVOICE
    document_type = document_type_of(Expense)
    #: Posting takes the better part of a second each, whatever is posted with it.
    bulk_max = 20
    find_max = 200

    def __init__(self, rpc: Rpc, lookups: Lookups) -> None:
        self._rpc = rpc
        self._billing = Billing(rpc, "in", posts=rpc.config.posts_invoices)
        self._payables = Payables(rpc)
        self._beginning = f"{rpc.config.name}/{self.document_type}/"

    async def post_bulk(self, documents: Sequence[TargetDocument]) -> list[Outcome]:
        refusals: dict[int, Outcome] = {}
        bodies = bodies_of(documents, ExpenseBody, refusals)
        replaced = await self._replaced([documents[place] for place in bodies])
        hindrances = await self._hindrances(replaced.values())
        outcomes: dict[str, Outcome] = {}
        wanted: dict[str, ExpenseBody] = {}
        comments: dict[str, str] = {}
        for place, body in bodies.items():
            document = documents[place]
            old = replaced.get(document.replaces or "")
            if old is not None and old.reference in hindrances:
                outcomes[document.reference] = hindrances[old.reference]
            elif document.reference not in wanted:
                wanted[document.reference] = body
                comments[document.reference] = _comment(body, document.replaces if old else None)
        values = await self._payables.values(wanted, comments)
        outcomes |= {reference: one for reference, one in values.items() if isinstance(one, PipelineError)}
        totals = {documents[place].reference: documents[place].amount for place in bodies}
        corrections = {
            documents[place].reference: old
            for place in bodies
            if (old := replaced.get(documents[place].replaces or "")) is not None
        }
        outcomes |= await self._billing.put(
            {
                reference: Wanted(values=one, total=totals[reference], anew=reference in corrections)
                for reference, one in values.items()
                if isinstance(one, dict)
            }
        )
        for reference, old in corrections.items():
            outcomes[reference] = await self._corrected(reference, old, outcomes[reference])
        return [refusals.get(place) or outcomes[document.reference] for place, document in enumerate(documents)]

    async def find_bulk(self, references: Sequence[str]) -> list[Found | None]:
        held = await self._billing.tidied(references)
        first = {reference: several[0] for reference, several in held.items() if self._billing.counts(several[0])}
        replaced = {reference: old for reference, one in first.items() if (old := _replaces(one))}
        standing = await self._billing.held(replaced.values()) if replaced else {}
        undone = {reference for reference, old in replaced.items() if _stands(standing.get(old, ()))}
        found = await self._founds([one for reference, one in first.items() if reference not in undone])
        return [found.get(reference) for reference in references]

    async def totals(self) -> list[Total]:
        return await self._billing.totals(self.document_type, self._beginning)

    async def reverse(self, reference: str, reason: str) -> Receipt:
        """Take the invoice back by the opposite move; the reason stays in our books. A second call changes nothing."""
        held = (await self._billing.held([reference])).get(reference)
        if not held:
            raise PermanentError(NOT_IN_TARGET, f"tryton: no supplier invoice under {reference!r} to take back")
        invoice = held[0]
        if problem := (await self._hindrances([invoice])).get(reference):
            raise problem
        await self._take_back(invoice)
        return receipt(INVOICE, invoice.id)

    async def since(self, moment: datetime) -> AsyncIterator[Found]:
        ours = await self._billing.referring(self._beginning, [written_since(moment)])
        for found in (await self._founds(ours)).values():
            yield found

    async def _replaced(self, documents: Iterable[TargetDocument]) -> dict[str, Invoice]:
        """What is to be corrected, by reference, as far as it still stands."""
        references = {document.replaces for document in documents if document.replaces}
        held = await self._billing.held(references) if references else {}
        return {reference: several[0] for reference, several in held.items() if _stands(several)}

    async def _hindrances(self, invoices: Collection[Invoice]) -> dict[str, PermanentError]:
        """Why those that can't be taken back can't be, by reference, as far as that can be told before."""
        days = {one.date for one in invoices if one.in_books and one.date}
        closed = await self._billing.closed_days(days) if days else set()
        found = {}
        for one in invoices:
            number = f"invoice {one.number} ({one.reference})"
            if one.state == "paid":
                found[one.reference] = refused(
                    f"{number} is paid: undo the payment in Tryton, or settle the difference there by hand and discard"
                    " this"
                )
            elif one.in_books and one.date in closed:
                message = f"tryton: {number} can't be taken back: neither its period is open nor today's"
                found[one.reference] = PermanentError(PERIOD_CLOSED, message)
        return found

    async def _corrected(self, reference: str, old: Invoice, outcome: Outcome) -> Outcome:
        """The end of a correction, once the new invoice is there or refused: of the two, one stands."""
        if isinstance(outcome, Receipt):
            try:
                await self._take_back(old)
            except PermanentError as error:
                outcome = error
            except TransientError as error:
                return in_doubt(error)
        if isinstance(outcome, PermanentError):
            try:
                # From this try, or from one before.
                for new in (await self._billing.held([reference])).get(reference, ()):
                    await self._take_back(new)
            except PipelineError as error:
                return in_doubt(error)
        return outcome

    async def _take_back(self, invoice: Invoice) -> None:
        if invoice.cancelled:
            return
        try:
            await self._billing.cancel(invoice)
        except PermanentError:
            held = await self._billing.held([invoice.reference])
            if any(one.id == invoice.id and not one.cancelled for one in held.get(invoice.reference, ())):
                raise

    async def _founds(self, invoices: Sequence[Invoice]) -> dict[str, Found]:
        called = await self._payables.called({one.id: (one.party, *_who(one)) for one in invoices})
        return {one.reference: _found(one, called[one.id]) for one in invoices}


def _stands(invoices: Sequence[Invoice]) -> bool:
    return any(not invoice.cancelled for invoice in invoices)


def _comment(body: ExpenseBody, replaces: str | None) -> str:
    """What no field of the invoice tells: by which of its ids the party was meant, and what it replaces."""
    role, name = who_of(body)
    lines = [f"{MARK}{role} {escaped(name)}]"]
    if replaces is not None:
        lines.append(f"{MARK}replaces {escaped(replaces)}]")
    return "\n".join(lines)


def _who(invoice: Invoice) -> tuple[str, str | None]:
    found = _WHO.search(invoice.comment)
    return (found[1], unquote(found[2])) if found else (WORKER, None)


def _replaces(invoice: Invoice) -> str | None:
    found = _REPLACES.search(invoice.comment)
    return unquote(found[1]) if found else None


def _found(invoice: Invoice, called: str) -> Found:
    role, _ = _who(invoice)
    lines, taxes = invoice.lines, invoice.taxes
    fields: dict[str, Any] = {
        role: called,
        "date": invoice.date,
        "currency": invoice.total.currency,
        "description": invoice.description,
        "account": _joined(line["account."]["code"] for line in lines),
        "net": invoice.total.amount - invoice.tax,
        "tax": invoice.tax,
        "tax_name": _joined((tax.get("tax.") or {}).get("name") for tax in taxes),
        "details": _joined(line["note"] for line in lines),
    }
    return Found(
        reference=invoice.reference,
        receipt=invoice.receipt(),
        amount=invoice.total,
        fields=fields,
        reversed=invoice.cancelled,
    )


def _joined(values: Iterable[str | None]) -> str | None:
    return ", ".join(dict.fromkeys(value for value in values if value)) or None
