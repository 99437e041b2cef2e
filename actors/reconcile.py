"""Reconcile: read the posted document back and compare everything that was sent, and the money."""

import re
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec

from contracts.channels import Posted, Reconciled
from contracts.money import Money
from pipeline.codes import DRIFT, NOT_IN_TARGET
from pipeline.errors import PermanentError, TransientError
from pipeline.outcome import Superseded
from pipeline.ports import Found
from pipeline.retry import waited_ms
from pipeline.stage import Context, stage

#: How long a document may stay a draft before it is looked at again; later on, as long as it has been one.
draft_retry_ms = 60_000

#: A dead letter names this many differences and counts the rest.
differences_shown_max = 10

#: A number in plain notation. An account `0400` is none: with ids, leading zeros matter.
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:.*")


@stage
async def reconcile(posted: Posted, context: Context) -> Reconciled | Superseded:
    """Close the record when the target holds what was sent; it may hold more, never something else.

    Raises:
      TransientError: the target can't be read now, or holds the document not for good yet.
      PermanentError: DRIFT with every difference, NOT_IN_TARGET, or NO_ROUTE when the target is not connected.
    """
    document = posted.document
    found = await context.target(document.target).find(document.reference)
    if found is None:
        raise PermanentError(
            NOT_IN_TARGET,
            f"{document.target} answered {posted.receipt.target_id} and no longer holds {document.reference}",
        )
    if found.reversed:
        return Superseded(by=f"a reversal of {found.receipt.target_id} in {document.target}")
    if found.receipt.state == "submitted":
        raise TransientError(
            f"{found.receipt.target_id} is a draft in {document.target}",
            retry_after_ms=max(draft_retry_ms, waited_ms(context.envelope.firstfailedat, context.now)),
            burns_attempt=False,
        )
    if differences := list(differences_of(posted, found)):
        shown = "; ".join(differences[:differences_shown_max])
        more = len(differences) - differences_shown_max
        raise PermanentError(
            DRIFT, f"{document.target} {found.receipt.target_id}: {shown}{f'; and {more} more' if more > 0 else ''}"
        )
    return Reconciled(target=document.target, target_id=found.receipt.target_id, amount=document.amount)


def differences_of(posted: Posted, found: Found) -> Iterator[str]:
    """One phrase per difference, the money first."""
    sent = posted.document
    if not same_money(sent.amount, found.amount):
        yield f"amount: sent {sent.amount}, holds {found.amount}"
    yield from compared(msgspec.json.decode(sent.body), found.fields, "")


def same_money(sent: Money, held: Money) -> bool:
    return sent.currency == held.currency and sent.amount == held.amount


def compared(sent: Any, held: Any, path: str) -> Iterator[str]:
    """Walk through what was sent. What the target adds of its own is no difference; an empty value equals none."""
    match sent:
        case dict() if isinstance(held, dict):
            for key, value in sent.items():
                yield from compared(value, held.get(key), f"{path}.{key}" if path else key)
        case list() if isinstance(held, list | tuple):
            if len(sent) != len(held):
                yield f"{path}: sent {len(sent)} lines, holds {len(held)}"
            for number, (value, other) in enumerate(zip(sent, held, strict=False), 1):
                yield from compared(value, other, f"{path}[{number}]")
        case _ if not same_value(sent, held):
            yield f"{path or 'document'}: sent {shown(sent)}, holds {shown(held)}"


def same_value(sent: Any, held: Any) -> bool:
    """Numbers are compared as numbers, moments as moments, everything else as it is written."""
    if is_empty(sent) or is_empty(held):
        return is_empty(sent) and is_empty(held)
    if isinstance(sent, bool) or isinstance(held, bool):
        return sent is held
    sent_number, held_number = as_number(sent), as_number(held)
    if sent_number is not None and held_number is not None:
        return sent_number == held_number
    sent_text, held_text = as_text(sent), as_text(held)
    if sent_text == held_text:
        return True
    sent_moment, held_moment = as_moment(sent_text), as_moment(held_text)
    return sent_moment is not None and sent_moment == held_moment


def is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | tuple | dict) and not value)


def as_number(value: Any) -> Decimal | None:
    match value:
        case Decimal():
            return value
        case int() | float():
            return Decimal(str(value))
        case str() if _NUMBER.fullmatch(value):
            return Decimal(value)
        case _:
            return None


def as_text(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


def as_moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if _MOMENT.fullmatch(text) else None
    except ValueError:
        return None


def shown(value: Any) -> str:
    return "nothing" if is_empty(value) else repr(as_text(value))
