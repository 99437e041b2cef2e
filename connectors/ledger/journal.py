"""A journal entry: the ledger's own document, in which debits equal credits, always."""

from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import RowMapping

from connectors.ledger.tables import reference_length_max, text_length_max
from contracts.channels import TargetDocument
from contracts.money import Money, UnknownCurrency, minor_units
from pipeline.codes import TARGET_REFUSED
from pipeline.errors import PermanentError

JOURNAL_ENTRY = "journal_entry"
REVERSAL_SUFFIX = "#reversal"
#: Keeps every sum inside 64 bits: a hundred trillion in a currency with cents.
amount_minor_max = 10**16
lines_max = 1000


class JournalLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One account moved by one amount in the entity's currency: `debit` or `credit`, above zero."""

    account: str
    debit: Decimal | None = None
    credit: Decimal | None = None
    worker: str | None = None
    project: str | None = None
    customer: str | None = None
    cost_center: str | None = None


class JournalEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The body of a `journal_entry`. Lines are in `entity_currency`; `details` are kept and read back as they are.

    `entity_amount` is what ties out, in the entity's currency: the amount of one line, or of all debits, or zero.
    """

    document_type: str
    date: date
    legal_entity: str
    entity_currency: str
    entity_amount: Decimal
    memo: str = ""
    lines: tuple[JournalLine, ...] = ()
    details: dict[str, str] = {}


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A document that the ledger could take, as far as the document alone can tell."""

    reference: str
    amount: Money
    entry: JournalEntry
    replaces: str | None = None

    @property
    def period(self) -> str:
        return period_of(self.entry.date)

    @property
    def accounts(self) -> set[str]:
        return {line.account for line in self.entry.lines}


_decoder = msgspec.json.Decoder(JournalEntry)


def period_of(day: date) -> str:
    """The accounting period of a day: its month, `2026-03`."""
    return f"{day:%Y-%m}"


def refused(message: str) -> PermanentError:
    return PermanentError(TARGET_REFUSED, f"ledger: {message}")


def drafted(document: TargetDocument) -> Draft:
    """Read a document and hold it against the rules that need no database.

    Raises:
      PermanentError: TARGET_REFUSED, with the rule it breaks.
    """
    if document.kind != JOURNAL_ENTRY:
        raise refused(f"kind {document.kind!r} is not taken, only {JOURNAL_ENTRY}")
    try:
        entry = _decoder.decode(document.body)
        problem = _problem(document, entry)
    except (msgspec.DecodeError, UnknownCurrency) as error:
        raise refused(str(error)) from None
    if problem:
        raise refused(problem)
    return Draft(reference=document.reference, amount=document.amount, entry=entry, replaces=document.replaces)


def _problem(document: TargetDocument, entry: JournalEntry) -> str | None:
    """The first rule that the document breaks."""
    for name in ("date", "legal_entity"):
        if getattr(document, name) != getattr(entry, name):
            return f"{name} is {getattr(document, name)} on the document and {getattr(entry, name)} in its body"
    if not 0 < len(document.reference) <= reference_length_max or document.reference.endswith(REVERSAL_SUFFIX):
        return f"reference must have 1 to {reference_length_max} characters and not end in {REVERSAL_SUFFIX}"
    if document.replaces == document.reference:
        return "a document can't replace itself"
    if long := _too_long(entry):
        return long
    money = [entry.entity_amount, *(line.debit or line.credit or Decimal(0) for line in entry.lines)]
    for amount in (document.amount, *(Money(amount=value, currency=entry.entity_currency) for value in money)):
        if not amount.amount.is_finite() or abs(amount.amount).scaleb(minor_units(amount.currency)) > amount_minor_max:
            return f"amount {amount.amount} {amount.currency} is out of bounds"
        if amount.amount != amount.rounded().amount:
            return f"amount {amount} is finer than the currency's minor unit"
    return _imbalance(entry)


def _too_long(entry: JournalEntry) -> str | None:
    if len(entry.lines) > lines_max:
        return f"an entry has at most {lines_max} lines, this one has {len(entry.lines)}"
    texts = {"legal_entity": (entry.legal_entity, text_length_max), "document_type": (entry.document_type, 60)}
    for number, line in enumerate(entry.lines, 1):
        texts[f"line {number} account"] = (line.account, 20)
        for dimension in ("worker", "project", "customer", "cost_center"):
            texts[f"line {number} {dimension}"] = (getattr(line, dimension) or "", text_length_max)
    return next(
        (f"{name} is longer than {bound} characters" for name, (text, bound) in texts.items() if len(text) > bound),
        None,
    )


def _imbalance(entry: JournalEntry) -> str | None:
    """Why the lines are no double entry."""
    for number, line in enumerate(entry.lines, 1):
        given = [amount for amount in (line.debit, line.credit) if amount is not None]
        if len(given) != 1 or given[0] <= 0:
            return f"line {number} ({line.account}) needs exactly one of debit and credit, above zero"
    debits = sum((line.debit for line in entry.lines if line.debit is not None), Decimal(0))
    credits = sum((line.credit for line in entry.lines if line.credit is not None), Decimal(0))
    if debits != credits:
        return f"debits {debits} and credits {credits} {entry.entity_currency} are not equal"
    if entry.entity_amount and abs(entry.entity_amount) not in {
        debits,
        *(line.debit or line.credit for line in entry.lines),
    }:
        return f"entity_amount {entry.entity_amount} is on none of the lines"
    return None


def entry_row(draft: Draft) -> dict[str, Any]:
    """The draft as a row of `ledger_entries`."""
    entry = draft.entry
    entity_amount = Money(amount=entry.entity_amount, currency=entry.entity_currency)
    return {
        "reference": draft.reference,
        "document_type": entry.document_type,
        "date": entry.date,
        "period": draft.period,
        "legal_entity": entry.legal_entity,
        "currency": draft.amount.currency,
        "amount_minor": draft.amount.minor(),
        "entity_currency": entry.entity_currency,
        "entity_amount_minor": entity_amount.minor(),
        "memo": entry.memo,
        "body": entry.details,
    }


def line_rows(draft: Draft, number: int) -> list[dict[str, Any]]:
    """The draft's lines as rows of `ledger_lines` under entry `number`."""
    factor = Decimal(1).scaleb(minor_units(draft.entry.entity_currency))
    return [
        {
            "entry": number,
            "line": position,
            "account": line.account,
            "debit_minor": int((line.debit or 0) * factor),
            "credit_minor": int((line.credit or 0) * factor),
            "worker": line.worker,
            "project": line.project,
            "customer": line.customer,
            "cost_center": line.cost_center,
        }
        for position, line in enumerate(draft.entry.lines, 1)
    ]


def entry_of(row: RowMapping, lines: list[RowMapping]) -> JournalEntry:
    """The inverse of `entry_row` and `line_rows`: what the ledger really holds, not what it once was sent."""
    currency = row["entity_currency"]
    return JournalEntry(
        document_type=row["document_type"],
        date=row["date"],
        legal_entity=row["legal_entity"],
        entity_currency=currency,
        entity_amount=Money.of_minor(row["entity_amount_minor"], currency).amount,
        memo=row["memo"],
        lines=tuple(
            JournalLine(
                account=line["account"],
                debit=_side(line["debit_minor"], currency),
                credit=_side(line["credit_minor"], currency),
                worker=line["worker"],
                project=line["project"],
                customer=line["customer"],
                cost_center=line["cost_center"],
            )
            for line in lines
        ),
        details=row["body"],
    )


def _side(minor: int, currency: str) -> Decimal | None:
    return Money.of_minor(minor, currency).amount if minor else None
