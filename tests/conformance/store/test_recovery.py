"""Recovery: what nothing drives any more is found, once, with what its message is built from."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from pipeline.codes import RETRIES_EXHAUSTED
from pipeline.entries import Entry, Step
from store.continuation import StrandedRecord, to_drive
from store.dead_letters import DeadLetters
from store.recovery import Candidate, candidates, mark_recovered, unmoved
from store.tables import deliveries, records, steps
from tests.conformance.store.given import Given, a_letter, a_message, a_record, continuation

AN_HOUR = 3600


async def long_ago(given: Given) -> None:
    then = datetime.now(UTC) - timedelta(hours=2)
    async with given.db.begin() as connection:
        await connection.execute(update(records).values(changed_at=then))
        await connection.execute(update(steps).values(at=then))


async def quiet(given: Given, limit: int = 100, **options: Any) -> list[Candidate]:
    return await candidates(given.db, AN_HOUR, limit, **options)


async def lost(given: Given, limit: int = 100) -> list[StrandedRecord]:
    """As if the broker had nothing."""
    return await to_drive(given.db, await quiet(given, limit))


async def found(given: Given, limit: int = 100) -> list[str]:
    return [record.subject for record in await lost(given, limit)]


async def test_a_record_in_flight_without_a_message_or_a_step_is_stranded(given: Given) -> None:
    gone, driven, lively, done = (
        a_record("lost", lane="live", region="eu"),
        a_record("driven"),
        a_record("lively"),
        a_record("done"),
    )
    await given.accepted(gone, driven, lively, done)
    await given.state("duplicate", done)
    async with given.db.begin() as connection:
        await given.outbox.add(connection, [a_message([driven])])
    await long_ago(given)
    await given.step(lively, "enrich")

    (record,) = await lost(given)

    assert (record.id, record.subject, record.revision, record.source) == (gone.id, "lost", "1", "openair")
    assert (record.lane, record.region, record.correlation_id) == ("live", "eu", "corr-lost")
    assert (record.payload, record.letters) == (b'{"id":"lost"}', ())


async def test_what_moved_lately_is_not_stranded(given: Given) -> None:
    await given.accepted(a_record("E-1"))

    assert await found(given) == []


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

    (one,) = await lost(given)

    assert [(letter.failure.stage, bytes(letter.body)) for letter in one.letters] == [
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

    (one,) = await lost(given)

    assert [letter.target for letter in one.letters] == continued


async def test_a_recovered_record_is_no_longer_stranded_and_says_so(given: Given) -> None:
    await given.accepted(a_record("E-1"))
    await long_ago(given)
    wanted = await lost(given)
    async with given.db.begin() as connection:
        ours = await mark_recovered(connection, wanted)

    assert [record.subject for record in ours] == ["E-1"]
    assert await found(given) == []
    async with given.db.connect() as connection:
        outcomes = list(await connection.scalars(select(steps.c.outcome).order_by(steps.c.number)))
    assert outcomes == ["accepted", "recovered"]


async def test_a_record_that_starts_over_is_routed_anew_unless_a_target_was_called(given: Given) -> None:
    never_called, called = a_record("never-called"), a_record("called")
    await given.accepted(never_called, called)
    await given.routed(never_called, "erp", "payroll")
    await given.routed(called, "erp", "payroll")
    await given.posted(called, "erp")
    await long_ago(given)
    async with given.db.begin() as connection:
        await mark_recovered(connection, await lost(given))

    async with given.db.connect() as connection:
        left = list(await connection.scalars(select(deliveries.c.target).order_by(deliveries.c.target)))
    assert left == ["erp", "payroll"]

    await given.dead(a_letter(never_called, stage="validate"))
    async with given.db.connect() as connection:
        state = await connection.scalar(select(records.c.state).where(records.c.id == never_called.id))
    assert state == "dead", "what the first stage finds out now can be written"


async def test_two_recoverers_never_drive_the_same_record(given: Given) -> None:
    await given.accepted(*(a_record(f"E-{number}") for number in range(50)))
    await long_ago(given)
    seen = await lost(given)

    async def recover() -> list[StrandedRecord]:
        async with given.db.begin() as connection:
            return await mark_recovered(connection, seen)

    parts = await asyncio.gather(recover(), recover(), recover())

    assert sorted(len(part) for part in parts) == [0, 0, 50]


async def retried(given: Given, record: Any, due_in: timedelta, target: str | None = None) -> None:
    due_at = datetime.now(UTC) + due_in
    step = Step(record_id=record.id, stage="post", outcome="retried", target=target, due_at=due_at)
    await given.ledger.record(Entry(steps=[step]))


async def test_who_is_slower_leaves_what_another_has_driven_meanwhile(given: Given) -> None:
    await given.accepted(*(a_record(f"E-{number}") for number in range(3)))
    await long_ago(given)
    noted = await quiet(given)
    async with given.db.begin() as connection:
        assert len(await mark_recovered(connection, await lost(given))) == 3
    late = await to_drive(given.db, noted)
    async with given.db.begin() as connection:
        assert await mark_recovered(connection, late) == []


async def test_a_record_on_a_retry_tier_is_missed_only_once_it_is_due(given: Given) -> None:
    waiting, overdue = a_record("waiting"), a_record("overdue")
    await given.accepted(waiting, overdue)
    await retried(given, waiting, timedelta(hours=3))
    await retried(given, overdue, -timedelta(minutes=90))
    await long_ago(given)

    assert await found(given) == ["overdue"]
    assert len(await quiet(given, waiting_too=True)) == 2


async def test_a_quiet_delivery_is_found_while_another_of_its_record_moves(given: Given) -> None:
    record = a_record("E-1")
    await given.accepted(record)
    await given.routed(record, "ledger", "payroll")
    await long_ago(given)
    await retried(given, record, timedelta(0), target="payroll")

    (one,) = await quiet(given)

    assert list(one.parts) == ["ledger"]


async def test_a_part_that_has_had_a_step_meanwhile_has_moved(given: Given) -> None:
    record, other = a_record("E-1"), a_record("E-2")
    await given.accepted(record, other)
    await given.routed(record, "ledger", "payroll")
    await long_ago(given)
    noted = await quiet(given)
    await retried(given, record, timedelta(0), target="payroll")
    await given.step(other, "validate")

    assert [(one.id, list(one.parts)) for one in await unmoved(given.db, noted)] == [(record.id, ["ledger"])]


async def test_a_record_that_is_owed_meanwhile_has_moved(given: Given) -> None:
    await given.accepted(record := a_record("E-1"))
    await long_ago(given)
    noted = await quiet(given)
    async with given.db.begin() as connection:
        await given.outbox.add(connection, [a_message([record])])

    assert await unmoved(given.db, noted) == []


async def test_the_last_step_of_a_part_is_noted(given: Given) -> None:
    await given.accepted(record := a_record("E-1"))
    await given.routed(record, "ledger", "payroll")
    await given.step(record, "transform")
    await retried(given, record, -timedelta(hours=2), target="payroll")
    await long_ago(given)

    (one,) = await quiet(given)

    assert {target: (part.stage, part.outcome) for target, part in one.parts.items()} == {
        "ledger": ("transform", "passed"),
        "payroll": ("post", "retried"),
    }


async def test_the_next_page_begins_behind_the_last_one(given: Given) -> None:
    await given.accepted(*(a_record(f"E-{number}") for number in range(5)))
    await long_ago(given)
    first = await quiet(given, limit=3)

    assert len(await quiet(given, limit=3, after=first[-1].number)) == 2
