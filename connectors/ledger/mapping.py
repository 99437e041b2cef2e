"""Message translator: an enriched time entry or expense becomes a journal entry. Pure.

What ties out is always on the books as one line: the attribution's amount in the entity's currency.

| document | debit | credit | amount |
|---|---|---|---|
| time entry, billable | work in progress | services revenue | what it is billed at |
| ... and when its cost is known | project labour cost | labour absorbed | its cost, in addition |
| time entry, not billable | project labour cost | labour absorbed | the attribution's amount: its cost |
| expense | the category's expense account, input tax | employee payables, or accounts payable | gross |

An amount of zero moves nothing: the entry has no lines, and its details still say what it was.
"""

from datetime import date
from decimal import Decimal, InvalidOperation

import msgspec

from connectors.ledger.config import LedgerConfig
from connectors.ledger.journal import JOURNAL_ENTRY, JournalEntry, JournalLine
from contracts.base import Contract
from contracts.channels import Attribution, Enriched, TargetDocument
from contracts.expense import Expense
from contracts.money import Money
from contracts.time_entry import TimeEntry
from pipeline.codes import EXCHANGE_RATE_MISSING, TARGET_REFUSED
from pipeline.errors import MappingMissing, PermanentError
from pipeline.stage import Context

EXPENSE_ACCOUNT = "expense_account"
#: The key that an expense without a category is looked up under.
UNCATEGORISED = "uncategorised"
memo_length_max = 200

_encoder = msgspec.json.Encoder()


class LedgerTranslator:
    """`pipeline.ports.Translator` for the embedded ledger."""

    def __init__(self, config: LedgerConfig | None = None) -> None:
        self._config = config or LedgerConfig()

    def translate(self, enriched: Enriched, reference: str, context: Context) -> TargetDocument:
        """The journal entry of a time entry or an expense.

        Raises:
          MappingMissing: no `expense_account` for the expense's category.
          PermanentError: TARGET_REFUSED for any other document, EXCHANGE_RATE_MISSING for a cost in a third currency.
        """
        document, attribution = enriched.document, enriched.attribution
        match document:
            case TimeEntry():
                lines, memo = self._time_lines(document, attribution, context), _time_memo(document, attribution)
            case Expense():
                lines, memo = self._expense_lines(document, attribution, context), _expense_memo(document)
            case _:
                message = (
                    f"ledger: {type(document).__name__} is no accounting document: correct [[routing]] in the rules"
                )
                raise PermanentError(TARGET_REFUSED, message)
        amount, entity_amount = attribution.amount.rounded(), attribution.entity_amount.rounded()
        entry = JournalEntry(
            document_type=document_type_of(document),
            date=document.date,
            legal_entity=attribution.legal_entity,
            entity_currency=entity_amount.currency,
            entity_amount=entity_amount.amount,
            memo=memo,
            lines=tuple(lines),
            details=_details(document, attribution),
        )
        return TargetDocument(
            target=self._config.name,
            kind=JOURNAL_ENTRY,
            reference=reference,
            date=document.date,
            legal_entity=attribution.legal_entity,
            amount=amount,
            body=msgspec.Raw(_encoder.encode(entry)),
        )

    def _time_lines(self, entry: TimeEntry, attribution: Attribution, context: Context) -> list[JournalLine]:
        accounts, bill = self._config.accounts, attribution.entity_amount.rounded().amount
        labour = (accounts.labour_cost, accounts.labour_absorbed)
        if not entry.billable:
            return _pair(*labour, bill, attribution)
        lines = _pair(accounts.work_in_progress, accounts.revenue, bill, attribution)
        if attribution.cost is not None:
            cost = _in_entity_currency(attribution.cost, attribution, entry.date, context)
            lines += _pair(*labour, cost, attribution)
        return lines

    def _expense_lines(self, expense: Expense, attribution: Attribution, context: Context) -> list[JournalLine]:
        """Gross to the payable, net and tax to their accounts; what their own rounding leaves over stands apart."""
        accounts = self._config.accounts
        gross = attribution.entity_amount.rounded().amount
        tax = _converted(expense.tax or Decimal(0), attribution)
        net = _converted(attribution.amount.amount - (expense.tax or Decimal(0)), attribution)
        payable = accounts.employee_payables if expense.reimbursable else accounts.accounts_payable
        sides = (
            (_expense_account(expense, context), net),
            (accounts.input_tax, tax),
            (accounts.rounding, gross - net - tax),
            (payable, -gross),
        )
        return [_line(account, amount, attribution) for account, amount in sides if amount]


def document_type_of(document: Contract) -> str:
    """`time_entry.v1`: the tag that every document type carries."""
    return str(document.__struct_config__.tag)


def _pair(debit: str, credit: str, amount: Decimal, attribution: Attribution) -> list[JournalLine]:
    return [_line(debit, amount, attribution), _line(credit, -amount, attribution)] if amount else []


def _line(account: str, amount: Decimal, attribution: Attribution) -> JournalLine:
    """A debit when the amount is above zero, a credit when it is below."""
    return JournalLine(
        account=account,
        debit=amount if amount > 0 else None,
        credit=-amount if amount < 0 else None,
        worker=attribution.worker,
        project=attribution.project,
        customer=attribution.customer,
        cost_center=attribution.cost_center,
    )


def _converted(amount: Decimal, attribution: Attribution) -> Decimal:
    """An amount in the document's currency, in the entity's."""
    return (
        Money(amount=amount * attribution.exchange_rate, currency=attribution.entity_amount.currency).rounded().amount
    )


def _in_entity_currency(cost: Money, attribution: Attribution, on: date, context: Context) -> Decimal:
    """The cost in the entity's currency, at the document's own rate where that applies."""
    entity_currency = attribution.entity_amount.currency
    if cost.currency == entity_currency:
        return cost.rounded().amount
    if cost.currency == attribution.amount.currency:
        return _converted(cost.amount, attribution)
    if direct := context.mapping("exchange_rate", f"{cost.currency}/{entity_currency}", on):
        converted = cost.amount * _rate(direct)
    elif inverse := context.mapping("exchange_rate", f"{entity_currency}/{cost.currency}", on):
        converted = cost.amount / _rate(inverse)
    else:
        message = f"no exchange rate {cost.currency}/{entity_currency} on {on} for the cost"
        raise PermanentError(EXCHANGE_RATE_MISSING, message)
    return Money(amount=converted, currency=entity_currency).rounded().amount


def _rate(text: str) -> Decimal:
    try:
        rate = Decimal(text)
    except InvalidOperation:
        rate = Decimal(0)
    if not rate.is_finite() or rate <= 0:
        raise PermanentError(EXCHANGE_RATE_MISSING, f"exchange rate {text!r}: expected a number above 0")
    return rate


def _expense_account(expense: Expense, context: Context) -> str:
    """The account of the category: the cross-reference's, else the one the rules fall back on."""
    key = expense.category or UNCATEGORISED
    account = context.mapping(EXPENSE_ACCOUNT, key, expense.date)
    if account is None:
        raise MappingMissing(EXPENSE_ACCOUNT, key, context.rules.mapping_owner(EXPENSE_ACCOUNT))
    return account


def _time_memo(entry: TimeEntry, attribution: Attribution) -> str:
    place = f" on {attribution.project}" if attribution.project else ""
    return _one_line(entry.note or f"{entry.hours} {entry.unit} of {attribution.worker or entry.worker}{place}")


def _expense_memo(expense: Expense) -> str:
    return _one_line(expense.note or f"{expense.category or UNCATEGORISED} {expense.report or expense.id}")


def _one_line(text: str) -> str:
    """Without control characters (PostgreSQL takes no NUL), cut to what a journal shows."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:memo_length_max]


def _details(document: TimeEntry | Expense, attribution: Attribution) -> dict[str, str]:
    """What the lines don't say, as text; what is not given is left out."""
    names = (
        ("hours", "unit", "task", "category")
        if isinstance(document, TimeEntry)
        else ("category", "report", "tax", "original_amount", "original_currency")
    )
    details = {name: str(value) for name in names if (value := getattr(document, name)) is not None}
    if attribution.exchange_rate != 1:
        details["exchange_rate"] = str(attribution.exchange_rate)
    if attribution.tax_regime:
        details["tax_regime"] = attribution.tax_regime
    return details
