"""Customer invoices: draft, posted, taken back; their state and payment. No contract comes this way yet.

Reference, state and money are as for any document; what Tryton fills in for a product (account, unit, taxes) and for a
customer (account, address, terms) it is asked for, as its own client does.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec

from connectors.tryton.billing import Billing
from connectors.tryton.customers import bodies_of
from connectors.tryton.handler import Outcome, receipt, refused
from connectors.tryton.held_invoices import DRAFTS, INVOICE, Invoice, Wanted
from connectors.tryton.lookups import Lookups
from connectors.tryton.parties import CUSTOMER, Party, held_parties, parties_where, the_one, written_since
from connectors.tryton.projects import missing_customer
from connectors.tryton.rpc import ALL, Rpc
from contracts.channels import Receipt, TargetDocument
from contracts.money import Money
from pipeline.codes import NOT_IN_TARGET, TARGET_REFERENCE_MISSING
from pipeline.errors import PermanentError, PipelineError
from pipeline.ports import Found, Total

CUSTOMER_INVOICE, DOCUMENT_TYPE = "customer_invoice", "customer_invoice.v1"


class InvoiceLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line. `product` is a code, which brings account, unit and taxes; without one `account` is needed, a code."""

    description: str
    quantity: Decimal
    unit_price: Decimal
    product: str | None = None
    account: str | None = None


class InvoiceBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A customer invoice: `customer` is our id. Its document's amount is the total, taxes included."""

    customer: str
    date: date
    currency: str
    lines: tuple[InvoiceLine, ...]
    description: str | None = None


class InvoiceState(msgspec.Struct, frozen=True, kw_only=True):
    """How far an invoice is: `state` in Tryton's words (draft, posted, paid, cancelled)."""

    number: str | None
    state: str
    total: Money
    to_pay: Decimal
    paid_on: date | None


class CustomerInvoices:
    """`handler.Handler` for invoices to customers."""

    kind = CUSTOMER_INVOICE
    document_type = DOCUMENT_TYPE
    #: Posting takes the better part of a second each, whatever is posted with it.
    bulk_max = 20
    find_max = 200

    def __init__(self, rpc: Rpc, lookups: Lookups) -> None:
        self._rpc = rpc
        self._billing = Billing(rpc, "out", posts=rpc.config.posts_invoices)
        self._beginning = f"{rpc.config.name}/{self.document_type}/"

    async def post_bulk(self, documents: Sequence[TargetDocument]) -> list[Outcome]:
        refusals: dict[int, Outcome] = {}
        bodies = bodies_of(documents, InvoiceBody, refusals)
        for place in [place for place in bodies if documents[place].replaces]:
            message = f"{documents[place].replaces} has gone to a customer: take it back, then send a new one"
            refusals[place] = refused(message)
            del bodies[place]
        wanted = {documents[place].reference: body for place, body in bodies.items()}
        values = await self._values(wanted)
        outcomes: dict[str, Outcome] = {key: one for key, one in values.items() if isinstance(one, PipelineError)}
        totals = {documents[place].reference: documents[place].amount for place in bodies}
        outcomes |= await self._billing.put(
            {key: Wanted(values=one, total=totals[key]) for key, one in values.items() if isinstance(one, dict)}
        )
        return [refusals.get(place) or outcomes[document.reference] for place, document in enumerate(documents)]

    async def find_bulk(self, references: Sequence[str]) -> list[Found | None]:
        held = await self._billing.tidied(references)
        found = await self._founds([several[0] for several in held.values() if self._billing.counts(several[0])])
        return [found.get(reference) for reference in references]

    async def state(self, reference: str) -> InvoiceState | None:
        """How far the invoice under this reference is, drafts included; None where there is none."""
        held = (await self._billing.held([reference])).get(reference)
        if not held:
            return None
        invoice = held[0]
        return InvoiceState(
            number=invoice.number,
            state=invoice.state,
            total=invoice.total,
            to_pay=invoice.to_pay,
            paid_on=invoice.paid_on,
        )

    async def totals(self) -> list[Total]:
        return await self._billing.totals(self.document_type, self._beginning)

    async def reverse(self, reference: str, reason: str) -> Receipt:
        """A draft is cancelled; for what is posted, a credit note is, dated today. A second call changes nothing."""
        held = (await self._billing.held([reference])).get(reference)
        if not held:
            raise PermanentError(NOT_IN_TARGET, f"tryton: no invoice under {reference!r} to take back")
        invoice = held[0]
        if invoice.state == "paid":
            raise refused(f"invoice {invoice.number} ({reference}) is paid: write the credit note in Tryton by hand")
        if invoice.state in DRAFTS:
            await self._billing.cancel(invoice)
        elif not invoice.cancelled:
            await self._billing.credit(invoice)
        return receipt(INVOICE, invoice.id)

    async def since(self, moment: datetime) -> AsyncIterator[Found]:
        ours = await self._billing.referring(self._beginning, [written_since(moment)])
        for found in (await self._founds(ours)).values():
            yield found

    async def _values(self, bodies: dict[str, InvoiceBody]) -> dict[str, dict[str, Any] | PermanentError]:
        """What to create, by reference; an error for those that name something which is not in Tryton."""
        if not bodies:
            return {}
        lines = [line for body in bodies.values() for line in body.lines]
        parties = await held_parties(self._rpc, CUSTOMER, sorted({body.customer for body in bodies.values()}))
        products = await self._by_code("product.product", {line.product for line in lines if line.product})
        accounts = await self._by_code("account.account", {line.account for line in lines if line.account})
        currencies = await self._by_code("currency.currency", {body.currency for body in bodies.values()})
        made: dict[str, dict[str, Any] | PermanentError] = {}
        for reference, body in bodies.items():
            party = the_one(CUSTOMER, body.customer, parties[body.customer]) if body.customer in parties else None
            named = [("product", line.product, products) for line in body.lines if line.product]
            named += [("account", line.account, accounts) for line in body.lines if line.account]
            named += [("currency", body.currency, currencies)]
            missing = [f"{what} {code!r}" for what, code, there in named if code not in there]
            if not isinstance(party, Party):
                made[reference] = party or missing_customer(body.customer)
            elif missing:
                made[reference] = PermanentError(TARGET_REFERENCE_MISSING, f"Tryton has no {', '.join(missing)}")
            else:
                head = await self._head(party, body, currencies[body.currency])
                kept = [await self._line(line, head, products, accounts) for line in body.lines]
                made[reference] = {**head, "reference": reference, "lines": [["create", kept]]}
        return made

    async def _head(self, party: Party, body: InvoiceBody, currency: int) -> dict[str, Any]:
        head = {"type": "out", "company": (await self._rpc.session()).company, "party": party.id}
        filled = await self._rpc.call(INVOICE, "on_change", head, ["type"], writes=False)
        names = ("account", "journal", "payment_term", "invoice_address")
        head |= {name: filled.get(name) for name in names}
        return {**head, "currency": currency, "invoice_date": body.date, "description": body.description}

    async def _line(
        self, line: InvoiceLine, head: dict[str, Any], products: dict[str, int], accounts: dict[str, int]
    ) -> dict[str, Any]:
        values: dict[str, Any] = {"type": "line", "currency": head["currency"], "description": line.description}
        values |= {"quantity": float(line.quantity), "unit_price": line.unit_price}
        if line.product:
            values["product"] = products[line.product]
            asked = {name: head[name] for name in ("company", "party", "currency")} | {"invoice_type": "out"}
            asked |= {"type": "line", "product": products[line.product]}
            filled = await self._rpc.call("account.invoice.line", "on_change_product", asked, writes=False)
            values |= {name: filled.get(name) for name in ("account", "unit")}
            # Changes of a list come as [place, record].
            taxes = [record["id"] for _, record in (filled.get("taxes") or {}).get("add", ())]
            values["taxes"] = [["add", taxes]] if taxes else []
        if line.account:
            values["account"] = accounts[line.account]
        return values

    async def _by_code(self, model: str, codes: Collection[str]) -> dict[str, int]:
        company = [["company", "=", (await self._rpc.session()).company]] if model == "account.account" else []
        if not codes:
            return {}
        listed = self._rpc.listed(model, [["code", "in", sorted(codes)], *company], ["code"], context=ALL)
        return {one["code"]: one["id"] async for one in listed}

    async def _founds(self, invoices: Sequence[Invoice]) -> dict[str, Found]:
        numbers = sorted({one.party for one in invoices})
        held = await parties_where(self._rpc, [["id", "in", numbers]]) if numbers else []
        parties = {party.id: party for party in held}
        return {one.reference: _found(one, parties[one.party].called(CUSTOMER, None)) for one in invoices}


def _found(invoice: Invoice, customer: str) -> Found:
    return Found(
        reference=invoice.reference,
        receipt=invoice.receipt(),
        amount=invoice.total,
        fields={
            "customer": customer,
            "date": invoice.date,
            "currency": invoice.total.currency,
            "description": invoice.description,
            "lines": [
                {
                    "description": line["description"],
                    "quantity": Decimal(str(line["quantity"])),
                    "unit_price": line["unit_price"],
                    "product": (line.get("product.") or {}).get("code"),
                    "account": line["account."]["code"],
                }
                for line in invoice.lines
            ],
            "number": invoice.number,
            "state": invoice.state,
            "to_pay": invoice.to_pay,
            "paid_on": invoice.paid_on,
        },
        reversed=invoice.cancelled,
    )
