"""The outbox: messages that are owed to the broker, written in the transaction that decides them.

They are published at once and deleted when confirmed; whatever a crash leaves behind is published by the clock.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import exists, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pipeline.entries import Step
from pipeline.states import IN_FLIGHT
from store.bulk import insert_rows, insertion
from store.database import Database
from store.standing import Standing
from store.statements import Statement, as_json, ask, is_postgresql, statement
from store.tables import outbox, parked, steps

_WAITING_COLUMNS = ("record_id", "target", "key", "stage", "lane", "body")
_WAITING = statement(
    f"SELECT {', '.join(_WAITING_COLUMNS)} FROM parked WHERE key AMONG :? ORDER BY parked_at, record_id"
)
_DELETE = Statement(
    "DELETE FROM outbox WHERE number = ANY(ARRAY(SELECT json_array_elements_text(%s::json)::bigint))",
    "DELETE FROM outbox WHERE number IN (SELECT value FROM json_each(?))",
)


class OutboxRow(msgspec.Struct, frozen=True, kw_only=True):
    """One message: an encoded batch of `records` records for a stage and lane. `number` is given by `Outbox.add`."""

    stage: str
    lane: str
    records: int
    body: bytes
    number: int = 0


class Outbox:
    """Messages owed to the broker, and records parked until something they wait for arrives."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def add(self, connection: AsyncConnection, rows: Sequence[OutboxRow]) -> list[OutboxRow]:
        """Write messages into the caller's transaction; returns them with their numbers, in their order."""
        if not rows:
            return []
        now = datetime.now(UTC)
        new = [
            {"created_at": now, "stage": row.stage, "lane": row.lane, "records": row.records, "body": row.body}
            for row in rows
        ]
        if is_postgresql(connection):
            adding = insertion(outbox, tuple(new[0]), (), "RETURNING number")
            (found,) = await ask(connection, adding(as_json(new)))
            numbers = sorted(number for (number,) in found)
        else:
            numbering = insert(outbox).returning(outbox.c.number, sort_by_parameter_order=True)
            numbers = list(await connection.scalars(numbering, new))
        return [msgspec.structs.replace(row, number=number) for row, number in zip(rows, numbers, strict=True)]

    async def pending(self, limit: int, older_than_s: float = 0, after: int = 0) -> list[OutboxRow]:
        """The oldest messages numbered beyond `after` that have been owed for longer than this many seconds."""
        statement = select(*[outbox.c[name] for name in OutboxRow.__struct_fields__]).where(outbox.c.number > after)
        if older_than_s:
            statement = statement.where(outbox.c.created_at <= datetime.now(UTC) - timedelta(seconds=older_than_s))
        statement = statement.order_by(outbox.c.number).limit(limit)
        async with self._db.connect() as connection:
            return [OutboxRow(**row) for row in (await connection.execute(statement)).mappings()]

    async def delete(self, numbers: Iterable[int]) -> None:
        """Forget messages that the broker has confirmed."""
        wanted = sorted(numbers)
        if not wanted:
            return
        async with self._db.begin() as connection:
            await ask(connection, _DELETE(wanted))

    async def count(self) -> int:
        """How many messages are owed."""
        async with self._db.connect() as connection:
            return await connection.scalar(select(func.count()).select_from(outbox)) or 0

    async def release_if_waiting(self, keys: Sequence[str]) -> list[OutboxRow]:
        """Let go whoever is parked under these keys, in a transaction of its own; returns the messages to publish."""
        if not keys:
            return []
        async with self._db.connect() as connection:
            if not await connection.scalar(select(exists().where(parked.c.key.in_(keys)))):
                return []
        async with self._db.begin() as connection:
            return await self.release(connection, keys)

    async def release(
        self, connection: AsyncConnection, keys: Sequence[str], standing: Standing | None = None
    ) -> list[OutboxRow]:
        """Let go whoever is parked under these keys, in the caller's transaction.

        Parked row deleted, message owed, state `in_flight`, step `released`. A caller that has taken locks of its own
        passes its `standing`, which must hold the records of `parked_under(connection, keys)`, and saves it itself.
        """
        waiting = await rows_parked_under(connection, keys)
        if not waiting:
            return []
        holding = standing
        if holding is None:
            holding = await Standing.load(connection, {row["record_id"] for row in waiting})
            # Who was released by somebody else while we waited for the lock is no longer there.
            waiting = await rows_parked_under(connection, keys)
        let_go = [row for row in waiting if holding.holds(row["record_id"])]
        now = datetime.now(UTC)
        moved = [row for row in let_go if holding.move(row["record_id"], row["target"], IN_FLIGHT)]
        for row in let_go:
            holding.unpark(row["record_id"], row["target"])
        await insert_rows(connection, steps, [_step(row, now) for row in moved])
        if standing is None:
            await holding.save(connection)
        return await self.add(
            connection,
            [OutboxRow(stage=row["stage"], lane=row["lane"], records=1, body=row["body"]) for row in moved],
        )


async def rows_parked_under(connection: AsyncConnection, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Whoever waits for these keys, the longest waiting first."""
    if not keys:
        return []
    (found,) = await ask(connection, _WAITING(sorted(set(keys))))
    return [dict(zip(_WAITING_COLUMNS, row, strict=True)) for row in found]


def _step(row: dict[str, Any], now: datetime) -> Step:
    return Step(
        record_id=row["record_id"],
        at=now,
        stage=row["stage"],
        outcome="released",
        target=row["target"] or None,
        detail=f"{row['key']} has arrived",
    )
