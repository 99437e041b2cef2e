"""The outbox, and the second look after parking, on SQLite and PostgreSQL."""

import asyncio

from pipeline.entries import Entry
from store.database import Database
from store.ledger import LedgerWriter
from store.outbox import Outbox, OutboxRow
from store.tables import outbox, parked
from tests.conformance.store.ledger_cases import accept, parking, rows, state_of


def messages(count: int) -> list[OutboxRow]:
    return [OutboxRow(stage="validate", lane="bulk", records=2, body=b"message %d" % number) for number in range(count)]


async def add(database: Database, count: int) -> list[OutboxRow]:
    async with database.begin() as connection:
        return await Outbox(database).add(connection, messages(count))


async def test_messages_get_their_numbers_in_their_order(database: Database) -> None:
    added = await add(database, 5)
    assert [row.body for row in added] == [row.body for row in messages(5)]
    assert [row.number for row in added] == sorted(row.number for row in added)
    assert await Outbox(database).pending(10) == added


async def test_nothing_to_add_is_fine(database: Database) -> None:
    assert await add(database, 0) == []


async def test_confirmed_messages_are_forgotten(database: Database) -> None:
    added = await add(database, 5)
    box = Outbox(database)
    await box.delete(row.number for row in added[:3])
    await box.delete([])
    assert (await box.pending(10), await box.count()) == (added[3:], 2)


async def test_pending_is_bounded_and_leaves_young_messages_to_their_publisher(database: Database) -> None:
    added = await add(database, 5)
    assert await Outbox(database).pending(2) == added[:2]
    assert await Outbox(database).pending(10, older_than_s=3600) == []


async def test_what_a_failed_transaction_owed_is_not_owed(database: Database) -> None:
    async def add_and_fail() -> None:
        async with database.begin() as connection:
            await Outbox(database).add(connection, messages(1))
            raise ArithmeticError

    await asyncio.gather(add_and_fail(), return_exceptions=True)
    assert await Outbox(database).count() == 0


async def test_a_second_look_lets_go_whoever_waits_once(database: Database) -> None:
    ledger = LedgerWriter(database, worker="w1", rows_max=100)
    for record_id in ("r1", "r2"):
        await accept(database, record_id)
        await ledger.record(Entry(parkings=[parking(record_id)]))
    box = Outbox(database)
    looks = await asyncio.gather(*(box.release_if_waiting(["project.v1:P-1", "worker.v1:W-1"]) for _ in range(4)))
    assert sorted(len(released) for released in looks) == [0, 0, 0, 2]
    assert len(await rows(database, outbox)) == 2
    assert await rows(database, parked) == []
    assert {await state_of(database, "r1"), await state_of(database, "r2")} == {"in_flight"}
    assert await box.release_if_waiting([]) == []
    await ledger.close()
