"""Invoices of either direction: made once per reference, posted, taken back.

Tryton has no unique field for our reference, and an invoice is made in two calls: a draft, then its posting. Whoever
comes by (after a crash, or at the same moment) looks the reference up, makes a draft where there is none, looks again,
removes all drafts but the oldest, and posts that one. Posting a draft that somebody else has posted, or removing it,
is refused by Tryton; then everybody looks again and finds what stands. A draft on its way is no posted document: `held`
tells the state.
"""

import asyncio
import datetime
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from connectors.http.outcome import TargetRefused
from connectors.tryton.faults import Warned
from connectors.tryton.handler import POSTED, SUBMITTED, Outcome, bisected, receipt
from connectors.tryton.rpc import Rpc
from contracts.channels import Receipt
from contracts.money import Money
from pipeline.errors import PermanentError, PipelineError, TransientError
from pipeline.ports import Total

INVOICE = "account.invoice"
DRAFTS, IN_BOOKS, CANCELLED = ("draft", "validated"), ("posted", "paid"), "cancelled"

#: How often what others have done meanwhile is looked at again, before the broker is left to wait.
rounds_max = 5
#: Tryton numbers moves one at a time, and sends away at once who comes meanwhile (503): a few tries, then the broker.
lock_attempts_max = 4
lock_wait_s = 0.2

_LOCKED = ("could not obtain lock", "database is locked", "could not serialize")
_FIELDS = (
    *("reference", "number", "state", "invoice_date", "description", "comment", "total_amount", "tax_amount"),
    *("currency.code", "party", "cancel_move", "amount_to_pay", "reconciled", "write_date", "create_date"),
    *("lines.account.code", "lines.amount", "lines.description", "lines.note", "lines.quantity", "lines.unit_price"),
    *("payment_lines.date", "lines.product.code", "taxes.amount", "taxes.manual", "taxes.tax.name"),
)


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice as Tryton holds it; `lines` and `taxes` are as Tryton says them."""

    id: int
    reference: str
    number: str | None
    state: str
    date: datetime.date | None
    description: str | None
    comment: str
    total: Money
    tax: Decimal
    party: int
    to_pay: Decimal
    paid_on: datetime.date | None
    lines: list[dict[str, Any]]
    taxes: list[dict[str, Any]]
    written: datetime.datetime

    @property
    def cancelled(self) -> bool:
        return self.state == CANCELLED

    @property
    def in_books(self) -> bool:
        return self.state in IN_BOOKS

    def receipt(self) -> Receipt:
        return receipt(INVOICE, self.id, SUBMITTED if self.state in DRAFTS else POSTED, self.written)


class Billing:
    """The invoices of one type: `out` to customers, `in` from suppliers. Everything raises what `Rpc.call` raises.

    `posts`: whether drafts are posted, or left to an accountant.
    """

    def __init__(self, rpc: Rpc, invoice_type: str, *, posts: bool = True) -> None:
        self._rpc, self._type, self._posts = rpc, invoice_type, posts
        # One at a time: two at once take each other's lock on the numbers.
        self._posting = asyncio.Lock()

    async def held(self, references: Collection[str]) -> dict[str, list[Invoice]]:
        """The invoices of each reference, what stands in the books before drafts, then the oldest first."""
        found: dict[str, list[Invoice]] = {}
        for invoice in await self.where([["reference", "in", list(dict.fromkeys(references))]]):
            found.setdefault(invoice.reference, []).append(invoice)
        for several in found.values():
            several.sort(key=lambda one: (not one.in_books, one.cancelled, one.id))
        return found

    async def where(self, domain: list[Any]) -> list[Invoice]:
        ours = [["type", "=", self._type], ["company", "=", (await self._rpc.session()).company]]
        return [_invoice(record) async for record in self._rpc.listed(INVOICE, [*ours, *domain], _FIELDS)]

    async def totals(self, document_type: str, beginning: str) -> list[Total]:
        """What stands under references that begin so, by currency."""
        amounts: dict[str, list[Decimal]] = defaultdict(list)
        for invoice in await self.referring(beginning, [["state", "!=", CANCELLED]]):
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
        found = await self.where([["reference", "like", f"{beginning}%"], *domain])
        return [one for one in found if one.reference.startswith(beginning) and self.counts(one)]

    def counts(self, invoice: Invoice) -> bool:
        """A draft that is about to be posted is not there yet."""
        return not (self._posts and invoice.state in DRAFTS)

    async def put(self, values: dict[str, dict[str, Any]]) -> dict[str, Outcome]:
        """The invoice of each reference, made from these values and posted where it is not there yet.

        What was taken back stays so: the answer is the invoice that was. A draft that is refused for good is removed.
        """
        outcomes: dict[str, Outcome] = {}
        refusals: dict[str, PermanentError] = {}
        for _ in range(rounds_max):
            left = [reference for reference in values if reference not in outcomes]
            if not left:
                break
            held = await self.held(left)
            fresh = [reference for reference in left if reference not in held]
            made = await bisected(fresh, lambda some: self._create([values[one] for one in some]))
            outcomes |= {one: how for one, how in zip(fresh, made, strict=True) if isinstance(how, PipelineError)}
            drafts: list[Invoice] = []
            for reference, several in held.items():
                first = several[0]
                surplus = [one for one in several[1:] if one.state in DRAFTS]
                if surplus:
                    await self._remove(surplus)
                if first.state not in DRAFTS or not self._posts:
                    outcomes[reference] = first.receipt()
                elif reference in refusals:
                    await self._remove([first])
                    outcomes[reference] = refusals[reference]
                elif not surplus:
                    drafts.append(first)
            outcomes |= await self._post(drafts, refusals)
        for reference in values:
            outcomes.setdefault(reference, _busy(self._rpc.config.name, reference))
        return outcomes

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

    async def _create(self, values: Sequence[dict[str, Any]]) -> list[Outcome]:
        return [receipt(INVOICE, number) for number in await self._rpc.call(INVOICE, "create", values)]

    async def _post(self, drafts: Sequence[Invoice], refusals: dict[str, PermanentError]) -> dict[str, Outcome]:
        """Outcomes of those that are posted, or can't be for now; what is refused is left for another look."""
        outcomes: dict[str, Outcome] = {}
        for draft, outcome in zip(drafts, await bisected(drafts, self._post_all), strict=True):
            match outcome:
                case Warned(kind="invoice_similar"):
                    # Of this reference there is another one since we looked: look again.
                    continue
                case PermanentError():
                    refusals[draft.reference] = outcome
                case _:
                    outcomes[draft.reference] = outcome
        return outcomes

    async def _post_all(self, drafts: Sequence[Invoice]) -> list[Outcome]:
        await self._locked(lambda: self._rpc.call(INVOICE, "post", [draft.id for draft in drafts]))
        return [receipt(INVOICE, draft.id) for draft in drafts]

    async def _remove(self, drafts: Sequence[Invoice]) -> None:
        try:
            await self._rpc.call(INVOICE, "delete", [draft.id for draft in drafts])
        except TargetRefused:
            # Posted or removed by somebody else meanwhile: the next look tells.
            return

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
                    if attempt == lock_attempts_max or not any(words in str(error) for words in _LOCKED):
                        raise
                    await asyncio.sleep(lock_wait_s * 2**attempt * random.random())
        raise AssertionError("a call ends with an answer or an error")


def _busy(target: str, reference: str) -> TransientError:
    return TransientError(f"{target}: somebody else is posting {reference} again and again: look later")


def _paid_on(record: dict[str, Any]) -> datetime.date | None:
    """The day of the last payment of one that is paid whole; `reconciled` is a later day on 8.2, when that was due."""
    days = [payment["date"] for payment in record.get("payment_lines.") or []]
    return max(days) if record["reconciled"] and days else None


def _invoice(record: dict[str, Any]) -> Invoice:
    return Invoice(
        id=record["id"],
        reference=record["reference"] or "",
        number=record["number"],
        state=record["state"],
        date=record["invoice_date"],
        description=record["description"],
        comment=record["comment"] or "",
        total=Money(amount=record["total_amount"], currency=record["currency."]["code"]),
        tax=record["tax_amount"],
        party=record["party"],
        to_pay=record["amount_to_pay"],
        paid_on=_paid_on(record),
        lines=record.get("lines.") or [],
        taxes=record.get("taxes.") or [],
        written=record["write_date"] or record["create_date"],
    )
