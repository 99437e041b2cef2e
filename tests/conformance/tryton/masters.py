"""Documents of every kind for a Tryton target, made by the translator itself, and targets over a server."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec

from actors.reconcile import differences_of
from connectors.http.secrets import Secret
from connectors.tryton import TrytonConfig, TrytonTarget, TrytonTranslator
from connectors.tryton.invoices import CUSTOMER_INVOICE, InvoiceBody, InvoiceLine
from contracts import DOCUMENT_TYPES
from contracts.base import Contract
from contracts.channels import Attribution, Enriched, Posted, Receipt, TargetDocument
from contracts.customer import Customer
from contracts.expense import Expense
from contracts.money import NOTHING, Money
from contracts.project import Project, Task
from contracts.worker import Worker
from pipeline.ports import Found, posting_key
from pipeline.stage import Context
from tests.unit.actors.builders import a_context, a_reference
from tryton import Tryton

DAY = date(2026, 3, 5)
CLOSED_DAY, NO_YEAR = date(2026, 1, 15), date(2023, 1, 15)
ACCOUNT, TAX = "5.1.3", "VAT 20%"


def opened(server: Tryton, name: str = "tryton", **settings: Any) -> TrytonTarget:
    """A target over the server; what tests count they count under a `name` of their own."""
    login = {"database": server.database, "user": server.user, "password": Secret(server.password)}
    return TrytonTarget(TrytonConfig(**{"url": server.url, "name": name} | login | settings))


def customer(key: str = "C-1", revision: int = 1, *, target: str = "tryton", **fields: Any) -> TargetDocument:
    return sent(Customer(**{"id": key, "name": f"Customer {key}"} | fields), revision, target)


def worker(key: str = "W-1", revision: int = 1, *, target: str = "tryton", **fields: Any) -> TargetDocument:
    given = {"id": key, "given_name": "Ada", "family_name": f"Worker {key}", "hired_on": date(2025, 1, 1)}
    return sent(Worker(**given | fields), revision, target)


def project(key: str = "P-1", revision: int = 1, *, target: str = "tryton", **fields: Any) -> TargetDocument:
    tasks = (Task(id="T-1", name="Design"), Task(id="T-2", name="Build"))
    return sent(Project(**{"id": key, "name": f"Bridge {key}", "tasks": tasks} | fields), revision, target)


def expense(
    key: str = "E-1", revision: int = 1, *, target: str = "tryton", replaces: int | None = None, **fields: Any
) -> TargetDocument:
    given = {"id": key, "date": DAY, "amount": Decimal("119.99"), "currency": "EUR", "tax": Decimal("19.99")}
    given |= {"worker": "HR-0002", "category": "Travel", "project": "P-1", "note": "Taxi"}
    document = sent(Expense(**given | fields), revision, target)
    old = posting_key(target, "expense.v1", "psa", key, str(replaces)) if replaces else None
    return msgspec.structs.replace(document, replaces=old)


def invoice(key: str = "I-1", *, target: str = "tryton", total: str = "1350.00", **fields: Any) -> TargetDocument:
    """7.5 hours of senior consulting with tax, to a seeded customer."""
    line = InvoiceLine(description="Consulting", quantity=Decimal("7.5"), unit_price=Decimal(150), product="CONS-SR")
    body = InvoiceBody(**{"customer": "CRM-0001", "date": DAY, "currency": "EUR", "lines": (line,)} | fields)
    return TargetDocument(
        target=target,
        kind=CUSTOMER_INVOICE,
        reference=posting_key(target, "customer_invoice.v1", "psa", key, "1"),
        date=body.date,
        legal_entity="DE",
        amount=Money(amount=Decimal(total), currency=body.currency),
        body=msgspec.Raw(msgspec.json.encode(body)),
    )


def sent(document: Any, revision: int = 1, target: str = "tryton", **attribution: Any) -> TargetDocument:
    """What the target is sent of a canonical document."""
    reference = posting_key(target, type_of(document), "psa", document.id, str(revision))
    return TrytonTranslator(target).translate(enriched(document, **attribution), reference, context(target))


def enriched(document: Any, **attribution: Any) -> Enriched:
    worth = NOTHING
    if isinstance(document, Expense):
        worth = Money(amount=document.amount, currency=document.currency)
    found = {"legal_entity": "DE", "amount": worth, "entity_amount": worth}
    found |= {name: getattr(document, name, None) for name in ("worker", "project", "customer")}
    return Enriched(document=document, attribution=Attribution(**found | attribution))


def context(target: str = "tryton", **mappings: str | None) -> Context:
    """One with a mapping for every category; `mappings` are others, by kind."""
    known = {"expense_account": ACCOUNT, "expense_tax": TAX, "expense_supplier": "CRM-0003"} | mappings
    rows = {f"{kind}:{target}": {"*": value} for kind, value in known.items() if value}
    return a_context(reference=a_reference(mappings=rows))


def type_of(document: Contract) -> str:
    return next(name for name, kind in DOCUMENT_TYPES.items() if isinstance(document, kind))


def is_as_sent(found: Found | None, document: TargetDocument) -> bool:
    """Whether reconcile would find it equal."""
    assert found is not None
    receipt = Receipt(target_id="", state="posted", at=datetime.now(UTC))
    differences = list(differences_of(Posted(document=document, receipt=receipt), found))
    assert differences == []
    return found.reference == document.reference
