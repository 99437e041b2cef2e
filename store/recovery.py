"""Recovery: finds records that should be moving and are not, and notes that they are driven again."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, and_, delete, exists, func, insert, literal, or_, select, union_all, update
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.envelope import LANES
from pipeline.states import DEAD, IN_DOUBT, IN_FLIGHT, PARKED
from store.continuation import MOVING, UNRECONCILED, StrandedRecord
from store.database import Database
from store.statements import BY_KEY, ask, chunks
from store.tables import deliveries, outbox, records, steps

#: A record counted under these may have another delivery that should be moving.
HIDES_OTHERS = (DEAD, PARKED, IN_DOUBT, IN_FLIGHT)

#: Records looked at, and outbox rows decoded, at once.
page_rows_max = 1000


class Standing(msgspec.Struct):
    """Where one part of a record stands: how many steps it has had, and the last of them."""

    state: str
    steps: int = 0
    last: int = 0
    stage: str = ""
    outcome: str = ""


class Candidate(msgspec.Struct):
    """A record with parts that should be moving and have not lately, by target ("" before it has been routed).

    `changed_at` is from the moment it was noted: whoever drives it again first moves it on.
    """

    number: int
    id: str
    document_type: str
    lane: str
    changed_at: datetime
    parts: dict[str, Standing] = {}


class _Item(msgspec.Struct):
    id: str


class _Message(msgspec.Struct):
    """Just enough of an encoded batch to see which records it drives."""

    items: list[_Item]


_message_decoder = msgspec.json.Decoder(_Message)


async def candidates(
    db: Database,
    older_than_s: float,
    limit: int,
    *,
    lanes: Sequence[str] = LANES,
    after: int = 0,
    waiting_too: bool = False,
) -> list[Candidate]:
    """What should be moving and has had no step for so many seconds, with no message in the outbox, oldest first.

    Args:
      lanes: only records that came in on one of these.
      after: only records numbered beyond this one.
      waiting_too: those as well that wait on a retry tier and are not due yet.
    """
    cutoff = datetime.now(UTC) - timedelta(seconds=older_than_s)
    due = cutoff if not waiting_too else None
    found: dict[str, Candidate] = {}
    async with db.connect() as connection:
        await ask(connection, BY_KEY)
        owed: set[str] | None = None
        while len(found) < limit and (rows := await _quiet(connection, lanes, cutoff, due, after)):
            if owed is None:
                owed = await _driven_by_outbox(connection)
            for row in rows:
                if row.id not in owed:
                    one = found.setdefault(row.id, Candidate(*row[:5]))
                    one.parts[row.target] = Standing(row.state)
            after = rows[-1].number
        chosen = list(found.values())[:limit]
        await _note_steps(connection, chosen)
    return chosen


async def unmoved(db: Database, noted: Sequence[Candidate]) -> list[Candidate]:
    """Those of them, and of their parts, that have had no step since they were noted and are not owed either."""
    again = [msgspec.structs.replace(one, parts={target: Standing("") for target in one.parts}) for one in noted]
    async with db.connect() as connection:
        await ask(connection, BY_KEY)
        owed = await _driven_by_outbox(connection)
        await _note_steps(connection, again)
    still: list[Candidate] = []
    for before, now in zip(noted, again, strict=True):
        same = {target: part for target, part in before.parts.items() if part.steps == now.parts[target].steps}
        if same and before.id not in owed:
            still.append(msgspec.structs.replace(before, parts=same))
    return still


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
        ids = list(free)
        claimed.update(ids)
        await connection.execute(update(records).where(records.c.id.in_(ids)).values(changed_at=now))
    ours = [item for item in items if item.id in claimed]
    await _unroute(connection, [item.id for item in ours if item.moves and not item.letters])
    if ours:
        step = {"at": now, "stage": "recover", "outcome": "recovered", "detail": reason}
        await connection.execute(insert(steps), [step | {"record_id": item.id} for item in ours])
    return ours


async def _unroute(connection: AsyncConnection, record_ids: Sequence[str]) -> None:
    """Forget the deliveries of records that start over and for which no target was called: they are routed anew.

    Left as they are, nothing that a stage before `transform` finds out now (a closed period) could be written of them.
    """
    others = deliveries.alias()
    called = exists().where(
        others.c.record_id == deliveries.c.record_id,
        or_(others.c.state != IN_FLIGHT, others.c.intent_at.is_not(None)),
    )
    for some in chunks(sorted(record_ids)):
        await connection.execute(delete(deliveries).where(deliveries.c.record_id.in_(some), ~called))


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


async def _quiet(
    connection: AsyncConnection, lanes: Sequence[str], cutoff: datetime, due: datetime | None, after: int
) -> Sequence[Row[Any]]:
    """Parts of records without a sign of life since the cutoff, all of a record together, by its number.

    Before it is routed a record has one part, without a target; afterwards its deliveries are its parts. A step
    without a target is one of all of them.
    """
    page = (
        select(records.c.number)
        .where(
            records.c.number > after,
            records.c.lane.in_(lanes),
            records.c.state.in_({*MOVING, *UNRECONCILED, *HIDES_OTHERS}),
            records.c.changed_at < cutoff,
            or_(_unrouted(cutoff, due), exists().where(*_delivery(cutoff, due))),
        )
        .order_by(records.c.number)
        .limit(page_rows_max)
    )
    numbers = list(await connection.scalars(page))
    if not numbers:
        return []
    columns = [records.c[name] for name in Candidate.__struct_fields__ if name != "parts"]
    whole = select(*columns, literal("").label("target"), records.c.state).where(
        records.c.number.in_(numbers), _unrouted(cutoff, due)
    )
    parts = (
        select(*columns, deliveries.c.target, deliveries.c.state)
        .join(deliveries, deliveries.c.record_id == records.c.id)
        .where(records.c.number.in_(numbers), *_delivery(cutoff, due))
    )
    both = union_all(whole, parts).subquery()
    return (await connection.execute(select(both).order_by(both.c.number, both.c.target))).all()


def _unrouted(cutoff: datetime, due: datetime | None) -> ColumnElement[bool]:
    routed = exists().where(deliveries.c.record_id == records.c.id)
    recent = exists().where(steps.c.record_id == records.c.id, _sign_of_life(cutoff, due))
    return and_(records.c.state.in_((*MOVING, *UNRECONCILED)), ~routed, ~recent)


def _delivery(cutoff: datetime, due: datetime | None) -> tuple[ColumnElement[bool], ...]:
    of_it = or_(steps.c.target.is_(None), steps.c.target == deliveries.c.target)
    recent = exists().where(steps.c.record_id == records.c.id, of_it, _sign_of_life(cutoff, due))
    # Said aloud, since it stands two levels below the records here and one there.
    recent = recent.correlate(records, deliveries)
    return deliveries.c.record_id == records.c.id, deliveries.c.state.in_((*MOVING, *UNRECONCILED)), ~recent


def _sign_of_life(cutoff: datetime, due: datetime | None) -> ColumnElement[bool]:
    recent = steps.c.at >= cutoff
    return recent if due is None else or_(recent, steps.c.due_at >= due)


async def _note_steps(connection: AsyncConnection, noted: Sequence[Candidate]) -> None:
    """Count the steps of every part, and note the last one: a new step shows in the count, whoever's clock it bears."""
    by_id = {one.id: one for one in noted}
    for some in chunks(sorted(by_id)):
        groups = (
            select(
                steps.c.record_id,
                steps.c.target,
                func.count().label("count"),
                func.max(steps.c.number).label("last"),
            )
            .where(steps.c.record_id.in_(some))
            .group_by(steps.c.record_id, steps.c.target)
            .subquery()
        )
        counted = await connection.execute(
            select(groups, steps.c.stage, steps.c.outcome).join(steps, steps.c.number == groups.c.last)
        )
        for row in counted:
            for target, part in by_id[row.record_id].parts.items():
                if row.target is None or not target or row.target == target:
                    part.steps += row.count
                    if row.last > part.last:
                        part.last, part.stage, part.outcome = row.last, row.stage, row.outcome
