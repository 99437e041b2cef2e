"""Validate: let through only what its system of record may say, what is approved and what can be true."""

from datetime import date, timedelta
from decimal import Decimal
from functools import cache

from msgspec.structs import fields

from contracts.channels import Document, Validated
from contracts.customer import Customer
from contracts.expense import Expense
from contracts.money import NO_CURRENCY, Money, UnknownCurrency, amount_max, minor_units
from contracts.project import Project
from contracts.rate_card import RateCard
from contracts.time_entry import TimeEntry
from contracts.worker import Worker
from pipeline.codes import (
    AMOUNT_NOT_POSITIVE,
    AMOUNT_TOO_FINE,
    DATE_IN_FUTURE,
    DAY_OVERBOOKED,
    HOURS_OUT_OF_RANGE,
    INVALID_DOCUMENT,
    MISSING_ATTRIBUTE,
    NOT_APPROVED,
    NOT_OWNER,
    PERIOD_CLOSED,
    RATE_NEGATIVE,
    UNKNOWN_CURRENCY,
)
from pipeline.errors import PermanentError
from pipeline.history import History
from pipeline.outcome import Duplicate, Superseded
from pipeline.reference import ANY_KEY
from pipeline.rules import business_date
from pipeline.stage import Context, stage
from pipeline.states import DISCARDED, DUPLICATE, IN_TARGET, SUBMITTED, SUPERSEDED

POSSIBLE_DUPLICATE = "POSSIBLE_DUPLICATE"

#: Time is counted in hours (UN/ECE Rec 20); a mapping file scales everything else.
HOUR = "HUR"

#: A revision in one of these states has nothing left to say, so that no other one can be its duplicate.
STANDS_FOR_NOTHING = (DISCARDED, DUPLICATE, SUPERSEDED)


@stage(reads_history=True)
def validate(document: Document, context: Context) -> Validated | Duplicate | Superseded:
    """Check a document against the rules, its earlier revisions and the worker's day.

    A second record with the same source key and revision can't come here: the ledger refuses it at the door. What
    looks like another record's double (same worker, date, amount and category) passes, flagged.

    Raises:
      PermanentError: a rule is broken; the code says which.
    """
    check_source(document, context)
    if end := settled_by_another_revision(context.history):
        return end
    check_required(document, context)
    check_numbers(document)
    check_currencies(document)
    match document:
        case TimeEntry():
            check_approved(document, context)
            check_hours(document, context)
            check_date(document, context)
        case Expense():
            check_approved(document, context)
            check_amount(document, context)
            check_date(document, context)
        case RateCard():
            check_unit(document, context)
            check_order(document.valid_from, document.valid_to, "valid_from", "valid_to")
        case Project():
            check_order(document.valid_from, document.valid_to, "valid_from", "valid_to")
        case Worker():
            check_order(document.hired_on, document.left_on, "hired_on", "left_on")
        case Customer():
            pass
    return Validated(document=document, flags=flags_of(document, context.history))


def check_source(document: Document, context: Context) -> None:
    """Only a system of record may speak, and only of the document type it says it speaks of."""
    source, announced = context.envelope.source, context.envelope.type
    document_type = str(document.__struct_config__.tag)
    if document_type != announced:
        raise PermanentError(INVALID_DOCUMENT, f"type: the envelope says {announced!r}, the record {document_type!r}")
    on = business_date(document, context.today)
    if not context.rules.may_publish(source, document_type, on):
        owners = " or ".join(context.rules.owners_of(document_type, on)) or "nobody"
        raise PermanentError(NOT_OWNER, f"{source!r} may not publish {document_type} of {on}: its owner is {owners}")


def settled_by_another_revision(history: History) -> Duplicate | Superseded | None:
    """Whether another revision of the same source key leaves this one nothing to do.

    An older one with equal content and no different one in between stands for it, be it dead: its dead letter is the
    one to requeue. A newer one that the target holds has overtaken it; what one on its way means, `post` decides.
    """
    position = next((n for n, one in enumerate(history.revisions) if one.record_id == history.record_id), None)
    if position is None:
        return None
    this = history.revisions[position]
    for newer in reversed(history.revisions[position + 1 :]):
        if newer.state in (*IN_TARGET, SUBMITTED):
            return Superseded(by=f"revision {newer.revision}")
    for older in reversed(history.revisions[:position]):
        if older.fingerprint != this.fingerprint:
            break
        if older.state not in STANDS_FOR_NOTHING:
            return Duplicate(of=older.record_id, reason=f"revision {older.revision} has the same content")
    return None


def check_required(document: Document, context: Context) -> None:
    """What the contract and the rules demand is there, and more than blanks."""
    for field in (*demanded(type(document)), *context.rules.required_of(context.envelope.type)):
        value = getattr(document, field)
        if value is None or value == () or (isinstance(value, str) and not value.strip()):
            raise PermanentError(MISSING_ATTRIBUTE, f"{field} is empty, and it is required")


@cache
def demanded(contract: type[Document]) -> tuple[str, ...]:
    """The attributes without a default."""
    return tuple(field.name for field in fields(contract) if field.required)


def check_numbers(document: Document) -> None:
    """Every number is one that can be counted with."""
    for field in document.__struct_fields__:
        value = getattr(document, field)
        if isinstance(value, Decimal) and (not value.is_finite() or abs(value) >= amount_max):
            raise PermanentError(INVALID_DOCUMENT, f"{field} = {value}: expected a number below {amount_max:,}")
        if field in ("rate", "cost_rate") and value is not None and value < 0:
            raise PermanentError(RATE_NEGATIVE, f"{field} = {value}: expected 0 or more")


def check_currencies(document: Document) -> None:
    for field in ("currency", "original_currency"):
        code = getattr(document, field, None)
        if code is not None and not is_currency(code):
            raise PermanentError(UNKNOWN_CURRENCY, f"{field} = {code!r} is not an ISO 4217 currency")


def is_currency(code: str) -> bool:
    try:
        return minor_units(code) >= 0 and code != NO_CURRENCY
    except UnknownCurrency:
        return False


def check_approved(document: TimeEntry | Expense, context: Context) -> None:
    approved = context.rules.approved_states
    if document.status.casefold() not in (state.casefold() for state in approved):
        raise PermanentError(NOT_APPROVED, f"status is {document.status!r}, expected {' or '.join(approved)}")


def check_hours(entry: TimeEntry, context: Context) -> None:
    """The entry's own hours, then the worker's day in the order in which its entries were accepted."""
    entry_max, day_max = context.rules.hours_per_entry_max, context.rules.hours_per_day_max
    if entry.unit != HOUR:
        raise PermanentError(INVALID_DOCUMENT, f"unit = {entry.unit!r}: hours are counted in {HOUR}; scale them")
    if not 0 < entry.hours <= entry_max:
        raise PermanentError(HOURS_OUT_OF_RANGE, f"hours = {entry.hours}: expected above 0 and at most {entry_max}")
    earlier = hours_before(context.history, day_max)
    if earlier + entry.hours > day_max:
        raise PermanentError(
            DAY_OVERBOOKED,
            f"{entry.hours} hours on top of {earlier} make {earlier + entry.hours} "
            f"for worker {entry.worker!r} on {entry.date}: expected at most {day_max}",
        )


def hours_before(history: History, day_max: int) -> Decimal:
    """The hours of the worker's day that were accepted before this record.

    An entry that did not fit into the day takes nothing away from later ones, whether or not it has been dead-lettered
    by now: the verdict does not depend on who is judged first. Other revisions of this record don't count.
    """
    own = {revision.record_id for revision in history.revisions}
    total = Decimal(0)
    for entry in history.same_day:
        if entry.record_id == history.record_id:
            break
        if entry.record_id not in own and entry.hours > 0 and total + entry.hours <= day_max:
            total += entry.hours
    return total


def check_amount(expense: Expense, context: Context) -> None:
    """Above zero, no finer than the currency allows, and not less than the tax in it."""
    amount, tax = expense.amount, expense.tax
    if amount < 0 or (amount == 0 and context.rules.zero_amounts == "dead_letter"):
        raise PermanentError(AMOUNT_NOT_POSITIVE, f"amount = {amount} {expense.currency}: expected more than 0")
    for field, value in (("amount", amount), ("tax", tax)):
        if value is not None and value != Money(amount=value, currency=expense.currency).rounded().amount:
            decimals = minor_units(expense.currency)
            raise PermanentError(
                AMOUNT_TOO_FINE, f"{field} = {value} {expense.currency}: expected at most {decimals} decimals"
            )
    if tax is not None and not 0 <= tax <= amount:
        raise PermanentError(INVALID_DOCUMENT, f"tax = {tax}: expected 0 to the amount, which includes it ({amount})")


def check_date(document: TimeEntry | Expense, context: Context) -> None:
    """Not in the future, and not in a month that is closed as far as can be told before the legal entity is known."""
    latest = context.today + timedelta(days=context.rules.future_days_max)
    if document.date > latest:
        raise PermanentError(DATE_IN_FUTURE, f"date = {document.date}: expected {latest} at the latest")
    entity = document.legal_entity or ANY_KEY
    if context.reference.period_closed(entity, document.date):
        whose = "all legal entities" if entity == ANY_KEY else entity
        raise PermanentError(PERIOD_CLOSED, f"period {document.date:%Y-%m} is closed for {whose}")


def check_unit(card: RateCard, context: Context) -> None:
    known = context.rules.hours_per_unit
    if card.unit not in known:
        raise PermanentError(
            INVALID_DOCUMENT, f"unit = {card.unit!r}: expected {' or '.join(known)} ([hours_per_unit])"
        )


def check_order(first: date | None, last: date | None, first_name: str, last_name: str) -> None:
    if first is not None and last is not None and first > last:
        raise PermanentError(INVALID_DOCUMENT, f"{first_name} {first} is after {last_name} {last}")


def flags_of(document: Document, history: History) -> tuple[str, ...]:
    """Remarks that hold nothing up."""
    own = {history.record_id, *(revision.record_id for revision in history.revisions)}
    doubles = isinstance(document, TimeEntry | Expense) and not own.issuperset(history.same_business)
    return (POSSIBLE_DUPLICATE,) if doubles else ()
