"""What the ledger knows about records and their neighbours, for the stages that judge by it."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any

import msgspec
from sqlalchemy import and_, exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pipeline.history import DayEntry, History, Revision
from pipeline.states import DEAD, DISCARDED, DUPLICATE, SUPERSEDED
from store.database import Database
from store.statements import chunks
from store.tables import records

#: Records whose hours do not count for their worker and day.
NOT_COUNTED = (DEAD, DUPLICATE, SUPERSEDED, DISCARDED)

#: Records that another one already stands for, or nobody wants: no reason to flag a neighbour.
SETTLED_OTHERWISE = (DUPLICATE, SUPERSEDED, DISCARDED)

#: Neighbours with the same business key that one record is told of: a few explain a flag as well as thousands.
same_business_max = 20

SourceKey = tuple[str, str, str]


class HistoryKey(msgspec.Struct, frozen=True, kw_only=True):
    """The record whose history is wanted, and its source key."""

    record_id: str
    source: str
    document_type: str
    subject: str

    @property
    def source_key(self) -> SourceKey:
        return (self.source, self.document_type, self.subject)


class HistoryReader:
    """Reads histories in three queries, whatever the size of the batch.

    Calls that come while a read is under way share the next one.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: list[tuple[Sequence[HistoryKey], asyncio.Future[dict[str, History]]]] = []
        self._reading: asyncio.Task[None] | None = None

    async def of(self, items: Sequence[HistoryKey]) -> dict[str, History]:
        """The history of each item by record id: everything committed before the call is in it."""
        if not items:
            return {}
        answer: asyncio.Future[dict[str, History]] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, answer))
        if self._reading is None:
            self._reading = asyncio.create_task(self._serve())
        return await answer

    async def _serve(self) -> None:
        """Answer whoever waits, all of them with the same queries, until nobody waits any more."""
        callers: list[tuple[Sequence[HistoryKey], asyncio.Future[dict[str, History]]]] = []
        try:
            while self._waiting:
                callers, self._waiting = self._waiting, []
                wanted = {item.record_id: item for items, _ in callers for item in items}
                try:
                    found = await self._read(list(wanted.values()))
                except Exception as error:
                    for _, answer in callers:
                        if not answer.done():
                            answer.set_exception(error)
                    continue
                for items, answer in callers:
                    if not answer.done():
                        answer.set_result({item.record_id: found[item.record_id] for item in items})
        finally:
            self._reading = None
            for _, answer in [*callers, *self._waiting]:
                answer.cancel()
            self._waiting.clear()

    async def _read(self, items: Sequence[HistoryKey]) -> dict[str, History]:
        found: dict[str, History] = {}
        async with self._db.connect() as connection:
            for chunk in chunks(items):
                found |= await _read_chunk(connection, chunk)
        return found


async def _read_chunk(connection: AsyncConnection, items: Sequence[HistoryKey]) -> dict[str, History]:
    revisions = await _revisions(connection, items)
    own = {row.id: row for rows in revisions.values() for row in rows}
    known = [own[item.record_id] for item in items if item.record_id in own]
    same_business = await _same_business(connection, {row.business_key for row in known if row.business_key})
    same_day = await _same_day(connection, {row.worker_day for row in known if row.worker_day})

    def history(item: HistoryKey) -> History:
        row = own.get(item.record_id)
        return History(
            record_id=item.record_id,
            revisions=tuple(
                Revision(
                    record_id=other.id,
                    revision=other.revision,
                    order=other.revision_order,
                    fingerprint=other.fingerprint,
                    state=other.state,
                )
                for other in revisions[item.source_key]
            ),
            same_business=_neighbours(same_business[row.business_key], item) if row is not None else (),
            same_day=_day(same_day[row.worker_day], item) if row is not None else (),
        )

    return {item.record_id: history(item) for item in items}


async def _revisions(connection: AsyncConnection, items: Sequence[HistoryKey]) -> dict[SourceKey, list[Any]]:
    """All revisions of the items' source keys, in order; equal orders in the order they were accepted."""
    wanted = {item.source_key for item in items}
    rows = await connection.execute(
        select(
            records.c.number,
            records.c.id,
            records.c.source,
            records.c.document_type,
            records.c.subject,
            records.c.revision,
            records.c.revision_order,
            records.c.fingerprint,
            records.c.state,
            records.c.business_key,
            records.c.worker_day,
        ).where(
            records.c.subject.in_({item.subject for item in items}),
            records.c.source.in_({item.source for item in items}),
            records.c.document_type.in_({item.document_type for item in items}),
        )
    )
    found: dict[SourceKey, list[Any]] = defaultdict(list)
    # Sorted here and not there: databases collate text each in their own way.
    for row in sorted(rows, key=lambda row: (row.revision_order, row.number)):
        key = (row.source, row.document_type, row.subject)
        if key in wanted:
            found[key].append(row)
    return found


async def _same_business(connection: AsyncConnection, keys: set[str]) -> dict[str | None, list[Any]]:
    """Records by business key, in the order they were accepted."""
    found: dict[str | None, list[Any]] = defaultdict(list)
    if keys:
        rows = await connection.execute(
            select(records.c.business_key, records.c.id, records.c.source, records.c.document_type, records.c.subject)
            .where(records.c.business_key.in_(keys), records.c.state.not_in(SETTLED_OTHERWISE))
            .order_by(records.c.number)
        )
        for row in rows:
            found[row.business_key].append(row)
    return found


async def _same_day(connection: AsyncConnection, keys: set[str]) -> dict[str | None, list[Any]]:
    """Entries by worker and day, in the order they were accepted; `overtaken`: a newer revision counts instead."""
    found: dict[str | None, list[Any]] = defaultdict(list)
    if keys:
        newer = records.alias("newer")
        overtaken = exists().where(
            and_(
                newer.c.subject == records.c.subject,
                newer.c.source == records.c.source,
                newer.c.document_type == records.c.document_type,
                newer.c.revision_order > records.c.revision_order,
                newer.c.state.not_in(NOT_COUNTED),
            )
        )
        rows = await connection.execute(
            select(records.c.worker_day, records.c.id, records.c.number, records.c.hours, overtaken.label("overtaken"))
            .where(
                records.c.worker_day.in_(keys),
                records.c.state.not_in(NOT_COUNTED),
                records.c.hours.is_not(None),
            )
            .order_by(records.c.number)
        )
        for row in rows:
            found[row.worker_day].append(row)
    return found


def _neighbours(rows: Iterable[Any], item: HistoryKey) -> tuple[str, ...]:
    """Other records with the same business key; other revisions of the same source key are no neighbours."""
    others = (row.id for row in rows if (row.source, row.document_type, row.subject) != item.source_key)
    return tuple(islice(others, same_business_max))


def _day(rows: Iterable[Any], item: HistoryKey) -> tuple[DayEntry, ...]:
    return tuple(
        DayEntry(record_id=row.id, accepted_number=row.number, hours=Decimal(row.hours))
        for row in rows
        if row.id == item.record_id or not row.overtaken
    )
