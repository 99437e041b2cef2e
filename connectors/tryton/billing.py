"""Invoices of either direction: made once per reference, posted, taken back.

Tryton has no unique field for our reference, and an invoice is made in two calls: a draft, then its posting. Whoever
comes by (after a crash, or at the same moment) looks the reference up, makes a draft where there is none, looks again,
removes all drafts but the oldest, and posts that one, if it is what the document asks for. Posting a draft that
somebody else has posted, or removing it, is refused by Tryton; then everybody looks again and finds what stands. A
draft on its way is no posted document: `held` tells the state. A draft beside what stands in the books is a call of
ours that came through late: whoever meets it removes it.
"""

import asyncio
import random
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec

from connectors.http.outcome import TargetRefused
from connectors.tryton.faults import LOCKED, Warned
from connectors.tryton.handler import Outcome, bisected, in_doubt, number_in, receipt, refused
from connectors.tryton.held_invoices import CANCELLED, DRAFTS, FIELDS, INVOICE, Invoice, Wanted, invoice_of
from connectors.tryton.rpc import Rpc
from contracts.channels import Receipt
from contracts.money import Money
from pipeline.errors import OutcomeUnknown, PermanentError, PipelineError, TransientError
from pipeline.ports import Total

#: What the reference of an invoice begins with that was posted, taken back, and made anew.
UNDONE = "undone "
#: How often what others have done meanwhile is looked at again, before the broker is left to wait.
rounds_max = 5
#: Tryton numbers moves one at a time, and sends away at once who comes meanwhile (503): a few tries, then the broker.
lock_attempts_max = 4
lock_wait_s = 0.2


class Putting(msgspec.Struct, kw_only=True):
    """How far one `put` has come.

    `made`: the ids of drafts that it has made. `kept`: references of drafts that could not be removed.
    """

    wanted: dict[str, Wanted]
    outcomes: dict[str, Outcome] = {}
    refusals: dict[str, PermanentError] = {}
    made: set[int] = set()
    kept: set[str] = set()

    def left(self) -> list[str]:
        return [reference for reference in self.wanted if reference not in self.outcomes]

    def standing(self, reference: str, invoices: Sequence[Invoice]) -> list[Invoice]:
        """What stands under a reference, as far as it counts."""
        return [one for one in invoices if not (one.cancelled and self.wanted[reference].anew)]


class Billing:
    """The invoices of one type: `out` to customers, `in` from suppliers. Everything raises what `Rpc.call` raises.

    `posts`: whether drafts are posted, or left to an accountant.
    """

    def __init__(self, rpc: Rpc, invoice_type: str, *, posts: bool = True) -> None:
        self._rpc, self._type, self._posts = rpc, invoice_type, posts
        # One at a time: two at once take each other's lock on the numbers.
        self._posting = asyncio.Lock()

    async def held(self, references: Collection[str]) -> dict[str, list[Invoice]]:
        """The invoices of each reference, what stands in the books before others, then the oldest first."""
        return self._by_reference(await self.where([["reference", "in", list(dict.fromkeys(references))]]))

    async def where(self, domain: list[Any]) -> list[Invoice]:
        ours = [["type", "=", self._type], ["company", "=", (await self._rpc.session()).company]]
        return [invoice_of(record) async for record in self._rpc.listed(INVOICE, [*ours, *domain], FIELDS)]

    async def tidied(self, references: Collection[str]) -> dict[str, list[Invoice]]:
        """What `held` gives, without drafts that are one too many, which are removed if Tryton lets us."""
        held = await self.held(references)
        for several in held.values():
            await self._tidy(several)
        return held

    async def totals(self, document_type: str, beginning: str) -> list[Total]:
        """What stands under references that begin so, by currency; drafts too many count as long as they are there."""
        amounts: dict[str, list[Decimal]] = defaultdict(list)
        for several in self._by_reference(await self._beginning(beginning)).values():
            surplus = await self._tidy(several)
            for invoice in [one for one in several if one in surplus or (self.counts(one) and not one.cancelled)]:
                amounts[invoice.total.currency].append(invoice.total.amount)
        return [
            Total(
                document_type=document_type,
                amount=Money(amount=sum(some, Decimal(0)), currency=currency),
                count=len(some),
            )
            for currency, some in sorted(amounts.items())
        ]

    async def referring(self, beginning: str, domain: Sequence[Any]) -> list[Invoice]:
        """Those of ours whose reference begins so."""
        return [one for one in await self._beginning(beginning, domain) if self.counts(one)]

    def counts(self, invoice: Invoice) -> bool:
        """A draft that is about to be posted is not there yet."""
        return not (self._posts and invoice.state in DRAFTS)

    async def closed_days(self, days: Collection[date]) -> set[date]:
        """Those of these days, and of today where that is so, on which nothing can be posted: `cancel` needs one."""
        company = (await self._rpc.session()).company
        today = await self._rpc.call("ir.date", "today", writes=False)
        domain = [["company", "=", company], ["type", "=", "standard"], ["state", "=", "open"]]
        domain += [["start_date", "<=", max(today, *days)], ["end_date", ">=", min(today, *days)]]
        listed = self._rpc.listed("account.period", domain, ["start_date", "end_date"])
        periods = [(one["start_date"], one["end_date"]) async for one in listed]
        closed = {day for day in (today, *days) if not any(first <= day <= last for first, last in periods)}
        return closed if today in closed else set()

    async def put(self, wanted: dict[str, Wanted]) -> dict[str, Outcome]:
        """The invoice of each reference, made and posted where it is not there yet.

        What was taken back stays so: the answer is the invoice that was. A draft that is refused for good is removed.
        Raises what `Rpc.call` raises: nothing was written.
        """
        putting = Putting(wanted=wanted)
        for _ in range(rounds_max):
            if not (left := putting.left()):
                break
            try:
                await self._round(putting, left)
            except PipelineError as error:
                if not putting.made and not putting.outcomes:
                    raise
                return {reference: in_doubt(error) for reference in putting.left()} | putting.outcomes
        message = f"{self._rpc.config.name}: somebody else is posting the same again and again: look later"
        return {reference: OutcomeUnknown(message) for reference in putting.left()} | putting.outcomes

    async def cancel(self, invoice: Invoice) -> None:
        """Take it back: a draft becomes cancelled, for a posted one Tryton posts the opposite move and settles both.

        Into the invoice's own period, else, where that is closed, into today's. Only invoices from suppliers are taken
        back like this once they are posted; Tryton keeps those to customers for a credit note.

        Raises:
          TargetRefused: it is paid, or today's period is closed.
        """
        await self._locked(lambda: self._agreed(lambda: self._rpc.call(INVOICE, "cancel", [invoice.id])))

    async def credit(self, invoice: Invoice) -> None:
        """Post a credit note over the whole of it, dated today, and settle both with each other, in one transaction.

        Raises:
          TargetRefused: it is not posted, or today's period is closed.
        """
        values = {"with_refund": True, "with_refund_allowed": True}
        await self._locked(lambda: self._rpc.wizard("account.invoice.credit", INVOICE, invoice.id, values, "credit"))

    async def _round(self, putting: Putting, left: Sequence[str]) -> None:
        """Look, and do what is next for each."""
        looked = await self.held(left)
        held = {one: standing for one in left if (standing := putting.standing(one, looked.get(one, ())))}
        await self._make_way([one for several in looked.values() for one in several if one.cancelled], putting)
        fresh = [reference for reference in left if reference not in held]
        made = await bisected(fresh, lambda some: self._create([putting.wanted[one].values for one in some]))
        for reference, outcome in zip(fresh, made, strict=True):
            if isinstance(outcome, Receipt):
                putting.made.add(number_in(outcome))
            else:
                putting.outcomes[reference] = outcome
        drafts = []
        for reference, (first, *others) in held.items():
            surplus = [one for one in others if one.state in DRAFTS]
            if surplus:
                await self._removed(surplus)
            if first.state not in DRAFTS or not self._posts:
                putting.outcomes[reference] = _there(first, putting.wanted[reference])
            elif reference in putting.refusals or not first.says(putting.wanted[reference]):
                await self._discard(first, putting)
            elif not surplus:
                drafts.append(first)
        await self._post(drafts, putting)

    async def _make_way(self, cancelled: Sequence[Invoice], putting: Putting) -> None:
        """Call those otherwise that something is made anew for: Tryton warns of a second one of the same reference."""
        pairs: list[Any] = []
        for one in cancelled:
            if putting.wanted[one.reference].anew:
                pairs += [one.id], {"reference": f"{UNDONE}{one.reference}"}
        if pairs:
            await self._rpc.call(INVOICE, "write", *pairs)

    async def _discard(self, draft: Invoice, putting: Putting) -> None:
        """Remove a draft that is refused, or is not what the document asks for; whoever can't looks again, once."""
        reference, total = draft.reference, putting.wanted[draft.reference].total
        if draft.id in putting.made:
            # Tryton has made something else of it, and would again.
            other = refused(f"it makes {draft.total} of {reference!r}, which says {total}: look at taxes and prices")
            putting.refusals.setdefault(reference, other)
        if await self._removed([draft]):
            if reference in putting.refusals:
                putting.outcomes[reference] = putting.refusals[reference]
        elif reference in putting.kept:
            message = f"draft {draft.id} over {draft.total} stands for {reference!r}, and can't be removed: remove it"
            putting.outcomes[reference] = putting.refusals.get(reference) or refused(message)
        else:
            putting.kept.add(reference)

    async def _create(self, values: Sequence[dict[str, Any]]) -> list[Outcome]:
        return [receipt(INVOICE, number) for number in await self._rpc.call(INVOICE, "create", values)]

    async def _post(self, drafts: Sequence[Invoice], putting: Putting) -> None:
        """What is posted has its outcome, and what can't be for now; what is refused is left for another look."""
        for draft, outcome in zip(drafts, await bisected(drafts, self._post_all), strict=True):
            match outcome:
                case Warned(kind="invoice_similar"):
                    # Of this reference there is another one since we looked: look again.
                    continue
                case PermanentError():
                    putting.refusals[draft.reference] = outcome
                case _:
                    putting.outcomes[draft.reference] = outcome

    async def _post_all(self, drafts: Sequence[Invoice]) -> list[Outcome]:
        await self._locked(lambda: self._rpc.call(INVOICE, "post", [draft.id for draft in drafts]))
        return [receipt(INVOICE, draft.id) for draft in drafts]

    async def _tidy(self, several: list[Invoice]) -> list[Invoice]:
        """Remove drafts beside what counts already; those that stay are the answer."""
        surplus = [one for one in several[1:] if one.state in DRAFTS]
        if not surplus or (several[0].state in DRAFTS and self._posts):
            return []
        if not await self._removed(surplus):
            return surplus
        several[:] = [one for one in several if one not in surplus]
        return []

    async def _removed(self, drafts: Sequence[Invoice]) -> bool:
        """Whether they are gone; if not, somebody else has posted or removed one meanwhile: the next look tells."""
        try:
            await self._rpc.call(INVOICE, "delete", [draft.id for draft in drafts])
        except TargetRefused:
            return False
        return True

    async def _beginning(self, beginning: str, domain: Sequence[Any] = ()) -> list[Invoice]:
        found = await self.where([["reference", "like", f"{beginning}%"], *domain])
        return [one for one in found if one.reference.startswith(beginning)]

    def _by_reference(self, invoices: Collection[Invoice]) -> dict[str, list[Invoice]]:
        found: dict[str, list[Invoice]] = defaultdict(list)
        for invoice in invoices:
            found[invoice.reference].append(invoice)
        for several in found.values():
            # What was taken back stays so, whatever draft comes late; but where drafts count, one may be its successor.
            last = DRAFTS if self._posts else (CANCELLED,)
            several.sort(key=lambda one: (not one.in_books, one.state in last, one.id))
        return dict(found)

    async def _agreed(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Make the call, and say yes to the warning that its day lies in a closed period and today's is taken."""
        try:
            return await call()
        except Warned as warned:
            if warned.kind != "cancel":
                raise
            await self._rpc.call("res.user.warning", "skip", warned.warning, False)
            return await call()

    async def _locked(self, call: Callable[[], Awaitable[Any]]) -> Any:
        async with self._posting:
            for attempt in range(1, lock_attempts_max + 1):
                try:
                    return await call()
                except TransientError as error:
                    if attempt == lock_attempts_max or not re.search(LOCKED, str(error)):
                        raise
                    await asyncio.sleep(lock_wait_s * 2**attempt * random.random())
        raise AssertionError("a call ends with an answer or an error")


def _there(invoice: Invoice, wanted: Wanted) -> Outcome:
    """The answer about one that is there already."""
    if invoice.cancelled or invoice.says(wanted):
        return invoice.receipt()
    number = invoice.number or f"of id {invoice.id}"
    return refused(
        f"{invoice.reference!r} is already there with different content: invoice {number} over {invoice.total}, and the"
        f" document says {wanted.total}: correct or cancel the invoice in Tryton, or discard this"
    )
