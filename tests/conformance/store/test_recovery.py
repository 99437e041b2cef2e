"""Recovery: what nothing drives any more is found, once, with what its message is built from."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from pipeline.codes import RETRIES_EXHAUSTED
from store.dead_letters import DeadLetters
from store.recovery import StrandedRecord, mark_recovered, stranded, stranded_counts
from store.tables import records, steps
from tests.conformance.store.given import Given, a_letter, a_message, a_record, continuation

AN_HOUR = 3600


async def long_ago(given: Given) -> None:
    then = datetime.now(UTC) - timedelta(hours=2)
    async with given.db.begin() as connection:
        await connection.execute(update(records).values(changed_at=then))
        await connection.execute(update(steps).values(at=then))


async def found(given: Given, limit: int = 100) -> list[str]:
    return [record.subject for record in await stranded(given.db, AN_HOUR, limit)]


async def test_a_record_in_flight_without_a_message_or_a_step_is_stranded(given: Given) -> None:
    lost, driven, lively, done = (
        a_record("lost", lane="live", region="eu"),
        a_record("driven"),
        a_record("lively"),
        a_record("done"),
    )
    await given.accepted(lost, driven, lively, done)
    await given.state("duplicate", done)
    async with given.db.begin() as connection:
        await given.outbox.add(connection, [a_message([driven])])
    await long_ago(given)
    await given.step(lively, "enrich")

    (record,) = await stranded(given.db, AN_HOUR, 10)

    assert (record.id, record.subject, record.revision, record.source) == (lost.id, "lost", "1", "openair")
    assert (record.lane, record.region, record.correlation_id) == ("live", "eu", "corr-lost")
    assert (record.payload, record.letters) == (b'{"id":"lost"}', ())
    assert await stranded_counts(given.db, AN_HOUR) == {"expense.v1": 1}


async def test_what_moved_lately_is_not_stranded(given: Given) -> None:
    await given.accepted(a_record("E-1"))

    assert await found(given) == []
    assert await stranded_counts(given.db, AN_HOUR) == {}


async def test_a_moving_delivery_behind_a_dead_one_is_stranded_as_well(given: Given) -> None:
    record, dead = a_record("half"), a_record("dead")
    await given.accepted(record, dead)
    await given.routed(record, "ledger", "payroll")
    await given.dead(a_letter(record, RETRIES_EXHAUSTED, stage="post", target="payroll"), a_letter(dead))
    await long_ago(given)

    assert await found(given) == ["half"]


async def test_the_first_accepted_come_first_up_to_the_limit(given: Given) -> None:
    await given.accepted(*(a_record(f"E-{number}") for number in range(9, 0, -1)))
    await long_ago(given)

    assert await found(given, limit=3) == ["E-9", "E-8", "E-7"]


async def test_a_requeued_record_continues_where_and_as_it_was_requeued(given: Given) -> None:
    record = a_record("E-1")
    await given.accepted(record)
    letter = a_letter(record)
    await given.dead(letter)
    archive = DeadLetters(given.db, given.outbox)
    await archive.edit(letter.id, b'{"id":"E-1","note":"edited"}', "ann", "typing error")
    done = await archive.requeue([letter.id], "ann", "again", continuation)
    await given.outbox.delete([row.number for row in done.outbox])
    await long_ago(given)

    (lost,) = await stranded(given.db, AN_HOUR, 10)

    assert [(one.failure.stage, bytes(one.body)) for one in lost.letters] == [
        ("enrich", b'{"id":"E-1","note":"edited"}')
    ]


@pytest.mark.parametrize(("requeued", "continued"), [(["ledger"], []), (["ledger", "payroll"], ["ledger", "payroll"])])
async def test_letters_are_continued_when_they_cover_every_moving_delivery(
    given: Given, requeued: list[str], continued: list[str]
) -> None:
    record = a_record("E-1")
    await given.accepted(record)
    await given.routed(record, "ledger", "payroll")
    letters = [a_letter(record, RETRIES_EXHAUSTED, stage="post", target=target) for target in requeued]
    await given.dead(*letters)
    archive = DeadLetters(given.db, given.outbox)
    done = await archive.requeue([letter.id for letter in letters], "ann", "again", continuation)
    await given.outbox.delete([row.number for row in done.outbox])
    await long_ago(given)

    (lost,) = await stranded(given.db, AN_HOUR, 10)

    assert [one.target for one in lost.letters] == continued


async def test_a_recovered_record_is_no_longer_stranded_and_says_so(given: Given) -> None:
    await given.accepted(a_record("E-1"))
    await long_ago(given)
    async with given.db.begin() as connection:
        ours = await mark_recovered(connection, await stranded(given.db, AN_HOUR, 10))

    assert [record.subject for record in ours] == ["E-1"]
    assert await found(given) == []
    async with given.db.connect() as connection:
        outcomes = list(await connection.scalars(select(steps.c.outcome).order_by(steps.c.number)))
    assert outcomes == ["accepted", "recovered"]


async def test_two_recoverers_never_drive_the_same_record(given: Given) -> None:
    await given.accepted(*(a_record(f"E-{number}") for number in range(50)))
    await long_ago(given)
    seen = await stranded(given.db, AN_HOUR, 100)

    async def recover() -> list[StrandedRecord]:
        async with given.db.begin() as connection:
            return await mark_recovered(connection, seen)

    parts = await asyncio.gather(recover(), recover(), recover())

    assert sorted(len(part) for part in parts) == [0, 0, 50]
