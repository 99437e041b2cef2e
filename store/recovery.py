"""Recovery: finds records that nothing drives any more, and notes that they are driven again."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Row, and_, exists, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.channels import Posted, Receipt, TargetDocument
from contracts.failure import DeadLetter
from pipeline.states import DEAD, IN_DOUBT, IN_FLIGHT, PARKED, POSTED, SUBMITTED
from store.database import Database
from store.dead_letter_filter import REQUEUED
from store.statements import chunks
from store.tables import dead_letters, deliveries, outbox, records, steps

#: What should be moving towards its target.
MOVING = (IN_FLIGHT, IN_DOUBT)

#: What is in its target and has still to be read back.
UNRECONCILED = (SUBMITTED, POSTED)

#: A record counted under these may have another delivery that should be moving.
HIDES_OTHERS = (DEAD, PARKED, IN_DOUBT, IN_FLIGHT)

#: Records looked at, and outbox rows decoded, at once.
page_rows_max = 1000


class StrandedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record that should be moving, and what its message is built again from.

    With `letters` it was requeued: continue each at its stage with its body, which a person may have edited. Without,
    a record that `moves` starts over with `payload` (None: retention removed it) at the first stage, since every stage
    is idempotent; one that does not has only to be read back: `posted` says what was sent, and where it is.
    """

    id: str
    source: str
    document_type: str
    subject: str
    revision: str
    lane: str
    region: str | None
    correlation_id: str
    state: str
    changed_at: datetime
    payload: bytes | None
    moves: bool = False
    letters: tuple[DeadLetter, ...] = ()
    posted: tuple[Posted, ...] = ()


class _Item(msgspec.Struct):
    id: str


class _Message(msgspec.Struct):
    """Just enough of an encoded batch to see which records it drives."""

    items: list[_Item]


_message_decoder = msgspec.json.Decoder(_Message)
_letter_decoder = msgspec.json.Decoder(DeadLetter)
_document_decoder = msgspec.json.Decoder(TargetDocument)
_PLAIN = [records.c[name] for name in StrandedRecord.__struct_fields__ if name not in ("moves", "letters", "posted")]


async def stranded(
    db: Database, older_than_s: float, limit: int, *, states: Sequence[str] = (*MOVING, *UNRECONCILED)
) -> list[StrandedRecord]:
    """Records with a part in one of `states`, no message in the outbox and no step for so many seconds.

    Those accepted first come first. Whether the broker still has their messages is for the caller to know.
    """
    cutoff = datetime.now(UTC) - timedelta(seconds=older_than_s)
    found: list[Row[Any]] = []
    async with db.connect() as connection:
        owed = await _driven_by_outbox(connection)
        last = 0
        while len(found) < limit and (rows := await _waiting(connection, cutoff, states, last)):
            found += [row for row in rows if row.id not in owed]
            last = rows[-1].number
        found = found[:limit]
        ids = [row.id for row in found]
        moving = await _moving_targets(connection, ids)
        letters = await _letters_to_continue(connection, ids, moving)
        posted = await _to_read_back(connection, ids)
    return [
        StrandedRecord(
            **{column.name: getattr(row, column.name) for column in _PLAIN},
            moves=row.state in MOVING or row.id in moving,
            letters=letters[row.id],
            posted=tuple(posted[row.id]),
        )
        for row in found
    ]


async def stranded_counts(db: Database, older_than_s: float) -> dict[str, int]:
    """How many records are stranded, by document type."""
    cutoff = datetime.now(UTC) - timedelta(seconds=older_than_s)
    async with db.connect() as connection:
        owed = await _driven_by_outbox(connection)
        waiting = await connection.execute(
            select(records.c.id, records.c.document_type).where(_nothing_drives(cutoff, (*MOVING, *UNRECONCILED)))
        )
        counts = Counter(row.document_type for row in waiting if row.id not in owed)
    return dict(sorted(counts.items()))


async def mark_recovered(
    connection: AsyncConnection, items: Sequence[StrandedRecord], reason: str = "nothing was driving it"
) -> list[StrandedRecord]:
    """Note in the caller's transaction that these records are driven again; returns those we were first at.

    The caller owes messages (outbox rows, in the same transaction) for the records returned, and for no others.
    """
    if not items:
        return []
    now = datetime.now(UTC)
    # Whoever was faster has moved `changed_at` beyond all of these.
    seen_until = max(item.changed_at for item in items)
    claimed: set[str] = set()
    for some in chunks(sorted(item.id for item in items)):
        # Locked in the order of their ids, as everybody does.
        free = await connection.scalars(
            select(records.c.id)
            .where(records.c.id.in_(some), records.c.changed_at <= seen_until)
            .order_by(records.c.id)
            .with_for_update(key_share=True)
        )
        claimed.update(free)
        await connection.execute(update(records).where(records.c.id.in_(claimed)).values(changed_at=now))
    ours = [item for item in items if item.id in claimed]
    if ours:
        step = {"at": now, "stage": "recover", "outcome": "recovered", "detail": reason}
        await connection.execute(insert(steps), [step | {"record_id": item.id} for item in ours])
    return ours


async def _driven_by_outbox(connection: AsyncConnection) -> set[str]:
    """Ids of the records in messages that are still owed to the broker: those are published by the clock."""
    owed: set[str] = set()
    last = 0
    while True:
        statement = select(outbox.c.number, outbox.c.body).where(outbox.c.number > last).order_by(outbox.c.number)
        rows = (await connection.execute(statement.limit(page_rows_max))).all()
        for row in rows:
            owed.update(item.id for item in _message_decoder.decode(row.body).items)
        if len(rows) < page_rows_max:
            return owed
        last = rows[-1].number


def _nothing_drives(cutoff: datetime, states: Sequence[str]) -> Any:
    """A part of the record in one of `states`, and no sign of life since the cutoff."""
    delivery = exists().where(deliveries.c.record_id == records.c.id, deliveries.c.state.in_(states))
    recent_step = exists().where(steps.c.record_id == records.c.id, steps.c.at >= cutoff)
    return and_(
        records.c.state.in_({*states, *HIDES_OTHERS}),
        records.c.changed_at < cutoff,
        or_(records.c.state.in_(states), delivery),
        ~recent_step,
    )


async def _waiting(
    connection: AsyncConnection, cutoff: datetime, states: Sequence[str], last: int
) -> Sequence[Row[Any]]:
    statement = (
        select(records.c.number, *_PLAIN)
        .where(_nothing_drives(cutoff, states), records.c.number > last)
        .order_by(records.c.number)
        .limit(page_rows_max)
    )
    return (await connection.execute(statement)).all()


async def _moving_targets(connection: AsyncConnection, record_ids: Sequence[str]) -> dict[str, set[str]]:
    """The targets that a record is still on its way to, by record; nothing for those on their way to none."""
    moving: dict[str, set[str]] = defaultdict(set)
    for some in chunks(record_ids):
        parts = await connection.execute(
            select(deliveries.c.record_id, deliveries.c.target).where(
                deliveries.c.record_id.in_(some), deliveries.c.state.in_(MOVING)
            )
        )
        for record_id, target in parts:
            moving[record_id].add(target)
    return dict(moving)


async def _to_read_back(connection: AsyncConnection, record_ids: Sequence[str]) -> dict[str, list[Posted]]:
    """What the targets hold of these records and nobody has compared yet."""
    posted: dict[str, list[Posted]] = defaultdict(list)
    for some in chunks(record_ids):
        rows = await connection.execute(
            select(deliveries).where(
                deliveries.c.record_id.in_(some),
                deliveries.c.state.in_(UNRECONCILED),
                deliveries.c.document.is_not(None),
            )
        )
        for row in rows:
            receipt = Receipt(target_id=row.target_id or "", state=row.state, at=row.answered_at)
            posted[row.record_id].append(Posted(document=_document_decoder.decode(row.document), receipt=receipt))
    return posted


async def _letters_to_continue(
    connection: AsyncConnection, record_ids: Sequence[str], moving: Mapping[str, set[str]]
) -> dict[str, tuple[DeadLetter, ...]]:
    """The requeued letters that drive all of a record's moving parts; none where only its payload does.

    Letters of the moving deliveries if each has one; else the last one from before the record was routed.
    """
    letters: dict[str, dict[str | None, bytes]] = defaultdict(dict)
    for some in chunks(record_ids):
        requeued = await connection.execute(
            select(dead_letters.c.record_id, dead_letters.c.target, dead_letters.c.letter)
            .where(
                dead_letters.c.record_id.in_(some),
                dead_letters.c.status == REQUEUED,
                dead_letters.c.letter.is_not(None),
            )
            .order_by(dead_letters.c.last_at)
        )
        for record_id, target, letter in requeued:
            letters[record_id][target] = letter
    return defaultdict(
        tuple,
        {
            record_id: tuple(
                _letter_decoder.decode(letter) for letter in _sufficient(by_target, moving.get(record_id, set()))
            )
            for record_id, by_target in letters.items()
        },
    )


def _sufficient(by_target: dict[str | None, bytes], moving: set[str]) -> Iterable[bytes]:
    if moving and moving <= by_target.keys():
        return [by_target[target] for target in sorted(moving)]
    return [by_target[None]] if None in by_target else []
