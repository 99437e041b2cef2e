"""What a call to a target may do, decided by where all revisions of its source key stand. Pure: the rows are locked."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta

from contracts.channels import Receipt, TargetDocument
from contracts.money import Money
from pipeline.ports import Intent
from pipeline.states import DEAD, DISCARDED, DUPLICATE, IN_FLIGHT, IN_TARGET, POSTED, SUBMITTED, SUPERSEDED
from store.standing import DeliveryRow, RecordRow, Standing

#: Nothing is sent for these any more.
_ENDED = (DUPLICATE, SUPERSEDED, DISCARDED)


def decide(
    standing: Standing,
    own: RecordRow,
    delivery: DeliveryRow | None,
    others: Sequence[RecordRow],
    document: TargetDocument,
    removed: Collection[tuple[str, str]],
    now: datetime,
    lease: timedelta,
) -> Intent:
    """Decide, and note the intent on the delivery where the call may go ahead.

    Args:
      delivery: this record's delivery to the document's target; None when the record has ended without one.
      others: the other revisions of the source key.
      removed: (record id, target) of postings that the target was found to hold no longer.
    """
    if delivery is None or delivery.state in _ENDED:
        state = own.state if delivery is None else delivery.state
        newest = max([own, *others], key=lambda record: record.order)
        return Intent(status=DUPLICATE if state == DUPLICATE else SUPERSEDED, by=newest.revision)
    if delivery.answered_at is not None:
        return Intent(status="answered", receipt=_receipt(delivery, delivery.answered_at))
    if delivery.intent_at is not None:
        if delivery.leased_until is not None and delivery.leased_until > now:
            return Intent(status="leased")
        # Whoever asks holds the lease from here on, so that no two of them ask, find nothing, and both send.
        delivery.leased_until = now + lease
        announced = Money.of_minor(delivery.amount_minor, delivery.currency)
        return Intent(
            status="in_doubt", replaces=delivery.replaces, amount=announced, leased_until=delivery.leased_until
        )
    if (newer := _newer(standing, own, others, delivery.target)) is not None:
        return Intent(status=SUPERSEDED, by=newer.revision)

    replaces = None
    if (last := max(_called(standing, own, others, delivery.target), default=None)) is not None:
        older, theirs = standing.records[last[1]], standing.deliveries[last[1]][delivery.target]
        if theirs.answered_at is None:
            # Whether there is something to replace, or this is a duplicate, is only known once that call has its
            # answer. A dead letter gets none by itself.
            return Intent(status="blocked" if theirs.state == DEAD else "leased", by=older.revision)
        held = (older.id, delivery.target) not in removed
        if held and older.fingerprint == own.fingerprint and theirs.state != DISCARDED:
            return Intent(status=DUPLICATE, by=older.id)
        replaces = theirs.posting_key if held else None
    standing.move(own.id, delivery.target, IN_FLIGHT)
    delivery.intent_at, delivery.leased_until, delivery.replaces = now, now + lease, replaces
    delivery.currency, delivery.amount_minor = document.amount.currency, document.amount.minor()
    return Intent(status="new", replaces=replaces, leased_until=delivery.leased_until)


def _receipt(delivery: DeliveryRow, at: datetime) -> Receipt:
    return Receipt(
        target_id=delivery.target_id or "", state=SUBMITTED if delivery.state == SUBMITTED else POSTED, at=at
    )


def _newer(standing: Standing, own: RecordRow, others: Sequence[RecordRow], target: str) -> RecordRow | None:
    """A newer revision that has been called for, or is in a target already."""
    for other in others:
        if other.order < own.order:
            continue
        theirs = standing.delivery(other.id, target)
        if theirs is None:
            if other.state in (SUBMITTED, *IN_TARGET):
                return other
        elif theirs.answered_at is not None or (theirs.intent_at is not None and theirs.state not in _ENDED):
            return other
    return None


def _called(
    standing: Standing, own: RecordRow, others: Sequence[RecordRow], target: str
) -> Iterator[tuple[tuple[str, int], str]]:
    """Order and id of the older revisions whose call the target has answered, or may have carried out.

    One that a newer revision has replaced is out; one that a person discarded after it was answered is still there.
    """
    for other in others:
        theirs = standing.delivery(other.id, target)
        if other.order > own.order or theirs is None or theirs.state == SUPERSEDED:
            continue
        if theirs.answered_at is not None or (theirs.intent_at is not None and theirs.state not in _ENDED):
            yield other.order, other.id
