"""What a record is worth, as well as can be told at the stage it has reached."""

from decimal import Decimal
from typing import Any

from contracts.channels import Enriched, Posted, TargetDocument, Validated
from contracts.expense import Expense
from contracts.money import NOTHING, Money, UnknownCurrency
from contracts.time_entry import TimeEntry
from pipeline.reference import Reference


def worth(record: Any, reference: Reference) -> Money:
    """The amount at stake if this record stays where it is; `NOTHING` where no amount can be known yet."""
    match record:
        case Posted(document=TargetDocument(amount=amount)) | TargetDocument(amount=amount):
            return amount
        case Enriched(attribution=attribution):
            return attribution.amount
        case Validated(document=document):
            return worth(document, reference)
        case Expense(amount=value, currency=currency):
            return _money(value, currency)
        case TimeEntry(rate=Decimal() as rate, currency=str() as currency, hours=hours):
            return _money(hours * rate, currency)
        case TimeEntry():
            return _estimate(record, reference)
        case _:
            return NOTHING


def _estimate(entry: TimeEntry, reference: Reference) -> Money:
    card = reference.rate_card(entry.date, entry.worker, None, entry.project)
    return _money(entry.hours * card.rate, card.currency) if card else NOTHING


def _money(amount: Decimal, currency: str) -> Money:
    try:
        return Money(amount=amount, currency=currency).rounded()
    except UnknownCurrency:
        return NOTHING
