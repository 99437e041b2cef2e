"""Message translator for expenses: a supplier invoice, of the worker who paid, or of whoever the firm has paid itself.

An invoice and not a bare move: it is owed to somebody, falls due, is paid and reconciled, shows in the tax report, and
is taken back as a whole.

| in Tryton | from |
|---|---|
| party | the worker; for an expense that is not paid back, what `expense_supplier:<target>` says for the category |
| account | `expense_account:<target>` for the category, a code of Tryton's chart |
| tax | `expense_tax:<target>` for the category, the name of a tax in Tryton; only where the expense has tax |

The kinds of mapping are the target's own, and have no fall-back in the rules: Tryton's accounts are others than the
embedded ledger's.

The tax is entered by amount, beside a line over the net amount, and not computed by Tryton: what a receipt says is what
was paid, to the cent, and need not be what the rate makes of the net amount.
"""

from datetime import date
from decimal import Decimal

import msgspec

from connectors.tryton.markers import one_line
from contracts.channels import Enriched, TargetDocument
from contracts.expense import Expense
from pipeline.codes import MISSING_ATTRIBUTE
from pipeline.errors import MappingMissing, PermanentError
from pipeline.stage import Context

SUPPLIER_INVOICE = "supplier_invoice"
EXPENSE_ACCOUNT, EXPENSE_TAX, EXPENSE_SUPPLIER = "expense_account", "expense_tax", "expense_supplier"
#: The key that an expense without a category is looked up under.
UNCATEGORISED = "uncategorised"

_encoder = msgspec.json.Encoder()


class ExpenseBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A supplier invoice of one line. Either `worker` (our id) or `supplier` (our id, or a code of Tryton's) is set.

    `account` is a code, `tax_name` the name of a tax; `net` and `tax` add up to the document's amount. `details` is
    what Tryton has no field for: project, customer, cost center, report.
    """

    date: date
    currency: str
    description: str
    account: str
    net: Decimal
    worker: str | None = None
    supplier: str | None = None
    tax: Decimal = Decimal(0)
    tax_name: str | None = None
    details: str | None = None


def expense_document(
    target: str, expense: Expense, enriched: Enriched, reference: str, context: Context
) -> TargetDocument:
    """What `target` is sent of an expense, worth the amount including tax, in its own currency.

    Raises:
      MappingMissing: the category has no account, no tax or no supplier.
      PermanentError: MISSING_ATTRIBUTE, it is to be paid back to nobody.
    """
    amount = enriched.attribution.amount.rounded()
    worker = enriched.attribution.worker or expense.worker
    if expense.reimbursable and worker is None:
        raise PermanentError(MISSING_ATTRIBUTE, f"expense {expense.id!r} is to be paid back and names no worker")
    tax = expense.tax or Decimal(0)
    body = ExpenseBody(
        worker=worker if expense.reimbursable else None,
        supplier=None if expense.reimbursable else _mapped(EXPENSE_SUPPLIER, target, expense, context),
        date=expense.date,
        currency=amount.currency,
        description=_description(expense),
        account=_mapped(EXPENSE_ACCOUNT, target, expense, context),
        net=amount.amount - tax,
        tax=tax,
        tax_name=_mapped(EXPENSE_TAX, target, expense, context) if tax else None,
        details=_details(expense, enriched),
    )
    return TargetDocument(
        target=target,
        kind=SUPPLIER_INVOICE,
        reference=reference,
        date=expense.date,
        legal_entity=enriched.attribution.legal_entity,
        amount=amount,
        body=msgspec.Raw(_encoder.encode(body)),
    )


def _mapped(kind: str, target: str, expense: Expense, context: Context) -> str:
    kind, key = f"{kind}:{target}", expense.category or UNCATEGORISED
    value = context.mapping(kind, key, expense.date)
    if value is None:
        raise MappingMissing(kind, key, context.rules.mapping_owner(kind))
    return value


def _description(expense: Expense) -> str:
    category = expense.category or UNCATEGORISED
    return one_line(expense.note or "") or one_line(f"{category} {expense.report or expense.id}")


def _details(expense: Expense, enriched: Enriched) -> str | None:
    """What a person reads on the line; what is not given is left out."""
    attribution = enriched.attribution
    named = {
        "category": expense.category,
        "report": expense.report,
        "project": attribution.project,
        "task": expense.task,
        "customer": attribution.customer,
        "cost center": attribution.cost_center,
        "worker": None if expense.reimbursable else attribution.worker or expense.worker,
        "billable": "yes" if expense.billable else None,
        "receipt": expense.receipt_url,
    }
    if expense.original_amount is not None and expense.original_currency:
        named["originally"] = f"{expense.original_amount:f} {expense.original_currency}"
    return one_line("; ".join(f"{name} {value}" for name, value in named.items() if value)) or None
