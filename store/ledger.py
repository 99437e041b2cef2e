"""The ledger's writer: takes entries from many coroutines and writes them in shared transactions."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.failure import BUSINESS
from pipeline.codes import INVALID_DOCUMENT, NO_ROUTE
from pipeline.entries import Entry, Step
from pipeline.messages import decode
from pipeline.states import ALLOWED_FROM, DEAD, PARKED, POSTED, SUBMITTED
from store.bulk import insert_rows
from store.database import Database
from store.group_commit import AT_ONCE, GroupCommit, Pace
from store.letter_rows import letter_row, storable
from store.standing import NO_TARGET, OPEN, RESOLVED, Standing
from store.tables import dead_letters, parked, steps

#: The only stage that works on what the target holds already; a late copy at any other can't undo a posting.
READS_BACK = "reconcile"
#: The stage whose business failure is the target's own refusal: nothing was created.
CALLS_TARGET = "post"
#: Business failures of that stage which say nothing about the target: it was not called, and may hold an earlier call.
BEFORE_THE_CALL = (INVALID_DOCUMENT.name, NO_ROUTE.name)

_IN_TARGET = (SUBMITTED, POSTED)

Row = dict[str, Any]


class _Prepared(msgspec.Struct):
    """An entry with its values turned into rows, so that what can't be turned fails with its own caller."""

    entry: Entry
    steps: Sequence[Step]
    parked: list[Row]
    letters: list[Row]
    deliveries: list[tuple[str, str, str, str, int]]
    valuations: list[tuple[str, str, int]]

    @property
    def rows(self) -> int:
        entry = self.entry
        return len(self.steps) + len(entry.states) + len(entry.deliveries) + len(entry.parkings) + len(entry.dead)

    def record_ids(self) -> set[str]:
        """The records that more than a step is written about."""
        entry = self.entry
        ids = set(entry.flags)
        for some in (entry.states, entry.deliveries, entry.parkings, entry.dead, entry.valuations):
            if some:
                ids.update([one.record_id for one in some])
        return ids


class LedgerWriter:
    """`pipeline.ports.Ledger` with group commit. `worker` is written beside every step; `rows_max` bounds a group, and
    `linger_ms` how long an entry that nothing else waits for may wait for others.
    """

    def __init__(self, db: Database, *, worker: str, rows_max: int, linger_ms: int = 0, pace: Pace = AT_ONCE) -> None:
        self._db, self._worker = db, worker
        self._commits: GroupCommit[_Prepared, None] = GroupCommit(
            db, self._write, rows_max=rows_max, linger_ms=linger_ms, pace=pace
        )

    async def start(self) -> None:
        """Nothing to do: groups form by themselves once entries come."""

    async def close(self) -> None:
        """Take no more entries; returns when all those taken are committed (or their callers told why not)."""
        await self._commits.close()

    def record(self, entry: Entry) -> asyncio.Future[None]:
        """Write one entry; done when it is committed. An entry recorded twice changes nothing but the steps.

        Raises, when it is awaited:
          TransientError: the database failed; record it again.
          UnknownRecord: it routes a record that was never accepted.
          UnknownCurrency: an amount is in no ISO 4217 currency.
        """
        try:
            prepared = self._prepare(entry)
        except Exception as error:
            failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return failed
        return self._commits.submit(prepared, prepared.rows, hurry=entry.goes_first)

    def _prepare(self, entry: Entry) -> _Prepared:
        now = datetime.now(UTC)
        return _Prepared(
            entry=entry,
            steps=storable_steps(entry.steps),
            parked=[
                {
                    "record_id": parking.record_id,
                    "target": parking.target or NO_TARGET,
                    "key": parking.key,
                    "stage": parking.stage,
                    "lane": decode(parking.message).envelope.lane,
                    "parked_at": now,
                    "body": parking.message,
                }
                for parking in entry.parkings
            ],
            letters=[letter_row(letter) for letter in entry.dead],
            deliveries=[
                (one.record_id, one.target, one.posting_key, one.amount.currency, one.amount.minor())
                for one in entry.deliveries
            ],
            valuations=[(one.record_id, one.amount.currency, one.amount.minor()) for one in entry.valuations],
        )

    async def _write(self, connection: AsyncConnection, group: Sequence[_Prepared]) -> list[None]:
        await insert_steps(connection, [step for prepared in group for step in prepared.steps], self._worker)
        record_ids = {record_id for prepared in group for record_id in prepared.record_ids()}
        if record_ids:
            standing = await Standing.load(connection, record_ids)
            parkings: dict[tuple[str, str], Row] = {}
            letters: dict[str, Row] = {}
            for prepared in group:
                _apply(prepared, standing, parkings, letters)
            await standing.save(connection)
            await self._insert_parkings(connection, parkings, standing)
            for letter in letters.values():
                _settle(letter, standing)
            await self._insert_letters(connection, list(letters.values()))
        return [None] * len(group)

    async def _insert_parkings(
        self, connection: AsyncConnection, parkings: dict[tuple[str, str], Row], standing: Standing
    ) -> None:
        """Those that are parked still at the end of the group; one that moved on meanwhile leaves nothing behind."""
        rows = [row for place, row in parkings.items() if standing.state(*place) == PARKED]
        if rows:
            statement = self._db.insert(parked)
            new = {name: statement.excluded[name] for name in ("key", "stage", "lane", "parked_at", "body")}
            await connection.execute(
                statement.on_conflict_do_update(index_elements=["record_id", "target"], set_=new), rows
            )

    async def _insert_letters(self, connection: AsyncConnection, rows: list[Row]) -> None:
        """Open letters are opened (again); one that came too late is kept, resolved, unless it is known already."""
        opened = [row for row in rows if row["status"] == OPEN]
        too_late = [row for row in rows if row["status"] == RESOLVED]
        if opened:
            statement = self._db.insert(dead_letters)
            # The first time it died and how often it was requeued belong to its story and stay.
            changed = opened[0].keys() - {"id", "first_at"}
            new = {name: statement.excluded[name] for name in changed}
            await connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=new), opened)
        if too_late:
            await connection.execute(self._db.insert(dead_letters).on_conflict_do_nothing(), too_late)


def storable_steps(told: Sequence[Step]) -> Sequence[Step]:
    """The steps with details that any database takes; nearly always they are themselves."""
    if all(step.detail is None or _is_plain(step.detail) for step in told):
        return told
    replace = msgspec.structs.replace
    return [replace(step, detail=storable(step.detail) if step.detail else None) for step in told]


def _is_plain(detail: str) -> bool:
    return detail != "" and detail.isascii() and "\0" not in detail


async def insert_steps(connection: AsyncConnection, told: Sequence[Step], worker: str) -> None:
    await insert_rows(connection, steps, told, worker=worker)


def _apply(
    prepared: _Prepared, standing: Standing, parkings: dict[tuple[str, str], Row], letters: dict[str, Row]
) -> None:
    """Judge one entry by where its records stand, after those of the entries before it."""
    entry = prepared.entry
    for delivery in prepared.deliveries:
        standing.route(*delivery)
    for valuation in prepared.valuations:
        standing.value(*valuation)
    for record_id, flags in entry.flags.items():
        standing.flag(record_id, flags)
    told_below = {(PARKED, row["record_id"], row["target"]) for row in prepared.parked} | {
        (DEAD, row["record_id"], row["target"] or NO_TARGET) for row in prepared.letters
    }
    for change in entry.states:
        if (change.state, change.record_id, change.target or NO_TARGET) not in told_below:
            standing.move(change.record_id, change.target, change.state)
    for row in prepared.parked:
        if standing.move(row["record_id"], row["target"], PARKED):
            place = row["record_id"], row["target"]
            standing.keep_parked(*place)
            parkings[place] = row
    for row in prepared.letters:
        letters[row["id"]] = row | {"status": _bury(row, standing, letters)}


def _bury(row: Row, standing: Standing, letters: dict[str, Row]) -> str:
    """Bring a letter's record or delivery to `dead`; returns the letter's status.

    A letter about something that is further on by now is resolved from the start. There is one open letter per record
    and target: a new one closes those before it. A letter about no record of ours is open: somebody must look at it.
    """
    record_id, target = row["record_id"], row["target"]
    if record_id is None or not standing.holds(record_id):
        return OPEN
    allowed = ALLOWED_FROM[DEAD]
    if row["stage"] != READS_BACK:
        allowed = tuple(state for state in allowed if state not in _IN_TARGET)
    if not standing.move(record_id, target, DEAD, allowed):
        return RESOLVED
    if target and row["stage"] == CALLS_TARGET and row["category"] == BUSINESS and row["code"] not in BEFORE_THE_CALL:
        standing.take_back_intent(record_id, target)
    standing.resolve_letters(record_id, target, but=row["id"])
    for other in letters.values():
        if (other["record_id"], other["target"]) == (record_id, target):
            other["status"] = RESOLVED
    return OPEN


def _settle(letter: Row, standing: Standing) -> None:
    """Resolve a letter whose record has left `dead` again, later in the same group."""
    record_id = letter["record_id"]
    if record_id and standing.holds(record_id) and standing.state(record_id, letter["target"] or NO_TARGET) != DEAD:
        letter["status"] = RESOLVED
