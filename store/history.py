"""What the ledger knows about records and their neighbours, for the stages that judge by it."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import islice

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from pipeline.history import DayEntry, History, Revision
from pipeline.states import DEAD, DISCARDED, DUPLICATE, SUPERSEDED
from store.database import Database
from store.statements import BY_KEY, ask, statement

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


class _RecordRow(msgspec.Struct):
    number: int
    id: str
    source: str
    document_type: str
    subject: str
    revision: str
    revision_order: str
    fingerprint: str
    state: str
    business_key: str | None
    worker_day: str | None

    @property
    def source_key(self) -> SourceKey:
        return (self.source, self.document_type, self.subject)


class _BusinessRow(msgspec.Struct):
    business_key: str
    id: str
    source: str
    document_type: str
    subject: str


class _DayRow(msgspec.Struct):
    """`overtaken`: a newer revision counts instead."""

    worker_day: str
    id: str
    number: int
    hours: str
    overtaken: bool


_REVISIONS = statement(f"SELECT {', '.join(_RecordRow.__struct_fields__)} FROM records WHERE subject AMONG :?")
_SAME_BUSINESS = statement(
    f"SELECT {', '.join(_BusinessRow.__struct_fields__)} FROM records "
    f"WHERE business_key AMONG :? AND state NOT IN {SETTLED_OTHERWISE} ORDER BY number"
)
_SAME_DAY = statement(
    "SELECT worker_day, id, number, hours, EXISTS (SELECT 1 FROM records AS newer "
    "WHERE newer.subject = records.subject AND newer.source = records.source "
    "AND newer.document_type = records.document_type AND newer.revision_order > records.revision_order "
    f"AND newer.state NOT IN {NOT_COUNTED}) AS overtaken FROM records "
    f"WHERE worker_day AMONG :? AND state NOT IN {NOT_COUNTED} AND hours IS NOT NULL ORDER BY number"
)


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
        async with self._db.connect() as connection:
            return await _read(connection, items)


async def _read(connection: AsyncConnection, items: Sequence[HistoryKey]) -> dict[str, History]:
    revisions = await _revisions(connection, items)
    own = {row.id: row for rows in revisions.values() for row in rows}
    known = [own[item.record_id] for item in items if item.record_id in own]
    same_business, same_day = await _neighbourhood(
        connection,
        {row.business_key for row in known if row.business_key},
        {row.worker_day for row in known if row.worker_day},
    )

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


async def _revisions(connection: AsyncConnection, items: Sequence[HistoryKey]) -> dict[SourceKey, list[_RecordRow]]:
    """All revisions of the items' source keys, in order; equal orders in the order they were accepted."""
    wanted = {item.source_key for item in items}
    _, found = await ask(connection, BY_KEY, _REVISIONS(sorted({item.subject for item in items})))
    revisions: dict[SourceKey, list[_RecordRow]] = defaultdict(list)
    # Sorted here and not there: databases collate text each in their own way.
    for row in sorted((_RecordRow(*values) for values in found), key=lambda row: (row.revision_order, row.number)):
        if row.source_key in wanted:
            revisions[row.source_key].append(row)
    return revisions


async def _neighbourhood(
    connection: AsyncConnection, business_keys: set[str], worker_days: set[str]
) -> tuple[dict[str | None, list[_BusinessRow]], dict[str | None, list[_DayRow]]]:
    """Records by business key, and entries by worker and day, each in the order they were accepted."""
    same_business: dict[str | None, list[_BusinessRow]] = defaultdict(list)
    same_day: dict[str | None, list[_DayRow]] = defaultdict(list)
    if business_keys or worker_days:
        found, entries = await ask(connection, _SAME_BUSINESS(sorted(business_keys)), _SAME_DAY(sorted(worker_days)))
        for values in found:
            same_business[values[0]].append(_BusinessRow(*values))
        for values in entries:
            same_day[values[0]].append(_DayRow(*values))
    return same_business, same_day


def _neighbours(rows: Iterable[_BusinessRow], item: HistoryKey) -> tuple[str, ...]:
    """Other records with the same business key; other revisions of the same source key are no neighbours."""
    others = (row.id for row in rows if (row.source, row.document_type, row.subject) != item.source_key)
    return tuple(islice(others, same_business_max))


def _day(rows: Iterable[_DayRow], item: HistoryKey) -> tuple[DayEntry, ...]:
    return tuple(
        DayEntry(record_id=row.id, accepted_number=row.number, hours=Decimal(row.hours))
        for row in rows
        if row.id == item.record_id or not row.overtaken
    )
