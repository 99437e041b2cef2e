"""What a record is worth, as well as can be told at the stage it has reached."""

from decimal import Decimal
from typing import Any

from contracts.channels import Enriched, Posted, TargetDocument, Validated
from contracts.expense import Expense
from contracts.money import NOTHING, Money, UnknownCurrency, amount_max
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
        case TimeEntry(billable=False):
            return _cost(record, reference)
        case TimeEntry(rate=Decimal() as rate, currency=str() as currency, hours=hours):
            return _product(hours, rate, currency)
        case TimeEntry():
            return _estimate(record, reference)
        case _:
            return NOTHING


def _cost(entry: TimeEntry, reference: Reference) -> Money:
    """Time that is not billed is worth what it costs, where somebody has said."""
    if entry.cost_rate is not None and entry.currency is not None:
        return _money(entry.hours * entry.cost_rate, entry.currency)
    card = reference.rate_card(entry.date, entry.worker, None, entry.project, with_cost=True)
    return _money(entry.hours * card.cost_rate, card.currency) if card and card.cost_rate is not None else NOTHING


def _estimate(entry: TimeEntry, reference: Reference) -> Money:
    card = reference.rate_card(entry.date, entry.worker, None, entry.project)
    return _product(entry.hours, card.rate, card.currency) if card else NOTHING


def _product(hours: Decimal, rate: Decimal, currency: str) -> Money:
    return _money(hours * rate, currency) if _sensible(hours) and _sensible(rate) else NOTHING


def _money(amount: Decimal, currency: str) -> Money:
    """Also for a record that `validate` is about to refuse: what can't be counted is worth nothing."""
    try:
        return Money(amount=amount, currency=currency).rounded() if _sensible(amount) else NOTHING
    except UnknownCurrency:
        return NOTHING


def _sensible(number: Decimal) -> bool:
    return number.is_finite() and abs(number) < amount_max
