"""Intake: accepted once, durably, with the messages it owes."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies
from sqlalchemy import select

from store.database import Database
from store.intake import AcceptedRecord, UnknownRun, record_id, revision_order
from store.intake_rows import raw_bytes_max
from store.tables import records, rejects, runs, steps
from tests.conformance.store.given import Given, a_message, a_record, a_reject


async def rows(db: Database, table: Any) -> list[Any]:
    async with db.connect() as connection:
        return list(await connection.execute(select(table)))


async def test_new_records_are_in_flight_with_a_step_that_names_their_row(given: Given) -> None:
    await given.accepted(a_record("E-1", row_number=7))

    (record,) = await rows(given.db, records)
    (step,) = await rows(given.db, steps)
    assert (record.state, record.amount_minor, record.currency) == ("in_flight", 1000, "EUR")
    assert (step.record_id, step.stage, step.outcome, step.detail) == (record.id, "ingest", "accepted", "file.csv:7")


async def test_only_new_records_are_owed_to_the_broker(given: Given) -> None:
    run_id = await given.a_run()
    await given.accepted(a_record("E-1"), run_id=run_id)
    asked: list[list[str]] = []

    def messages(new: Any) -> list[Any]:
        asked.append([record.subject for record in new])
        return [a_message(new)]

    chunk = [a_record("E-1"), a_record("E-2"), a_record("E-3")]
    done = await given.intake.accept(run_id, chunk, [], rows=3, filtered=0, read=3, messages=messages)

    assert asked == [["E-2", "E-3"]]
    assert done.new == [chunk[1].id, chunk[2].id]
    assert (done.seen_before, done.rejected) == (1, 0)
    assert [row.number for row in await given.outbox.pending(10)] == [row.number for row in done.outbox]


async def test_reading_the_same_file_again_accepts_nothing_new(given: Given) -> None:
    chunk = [a_record("E-1"), a_record("E-2")]
    await given.accepted(*chunk, rejects=[a_reject(3)])
    again = await given.accepted(*chunk, rejects=[a_reject(3)])

    assert (again.new, again.seen_before, again.rejected, again.outbox) == ([], 3, 0, [])
    assert len(await rows(given.db, records)) == 2
    assert len(await rows(given.db, rejects)) == 1
    assert len(await rows(given.db, steps)) == 2


async def test_a_record_twice_in_one_chunk_is_new_once_and_seen_before_once(given: Given) -> None:
    done = await given.accepted(a_record("E-1", fingerprint="first"), a_record("E-1", fingerprint="second"))

    assert (len(done.new), done.seen_before) == (1, 1)
    assert [record.fingerprint for record in await rows(given.db, records)] == ["first"]


async def test_the_counters_of_a_run_add_up_over_its_chunks(given: Given) -> None:
    run_id = await given.a_run()
    for subject in ("E-1", "E-2", "E-2"):
        await given.accepted(a_record(subject), rejects=[a_reject(9)], run_id=run_id)
    await given.intake.close_run(run_id)

    (run,) = await rows(given.db, runs)
    assert (run.rows, run.read, run.accepted, run.seen_before, run.rejected) == (6, 6, 2, 3, 1)
    assert run.finished_at is not None


async def test_records_are_numbered_in_the_order_of_their_rows(given: Given) -> None:
    subjects = [f"E-{number}" for number in range(1200, 0, -1)]
    await given.accepted(*(a_record(subject) for subject in subjects))

    assert [row.subject for row in sorted(await rows(given.db, records), key=lambda row: row.number)] == subjects


async def test_when_the_messages_cannot_be_built_nothing_is_accepted(given: Given) -> None:
    def messages(_new: Any) -> list[Any]:
        raise RuntimeError("too large")

    run_id = await given.a_run()
    with pytest.raises(RuntimeError, match="too large"):
        await given.intake.accept(
            run_id, [a_record("E-1")], [a_reject(2)], rows=2, filtered=0, read=2, messages=messages
        )

    (run,) = await rows(given.db, runs)
    assert (run.read, run.accepted, run.rejected) == (0, 0, 0)
    assert (await rows(given.db, records), await rows(given.db, rejects), await rows(given.db, steps)) == ([], [], [])


async def test_a_run_that_nobody_opened_is_refused(given: Given) -> None:
    with pytest.raises(UnknownRun, match="r-unknown"):
        await given.accepted(a_record("E-1"), run_id="r-unknown")


async def test_a_refused_row_keeps_its_beginning_and_nothing_a_database_refuses(given: Given) -> None:
    await given.accepted(rejects=[a_reject(1, raw="nul \0 half \ud800 " + "é" * 5000)])

    (reject,) = await rows(given.db, rejects)
    assert reject.raw.startswith("nul ? half ? é")
    assert raw_bytes_max - 1 <= len(reject.raw.encode()) <= raw_bytes_max


async def test_two_readers_of_the_same_file_accept_every_record_once(given: Given) -> None:
    def part() -> list[AcceptedRecord]:
        return [a_record(f"E-{number}") for number in range(300)]

    first, second = await asyncio.gather(given.accepted(*part()), given.accepted(*part()))

    assert len(first.new) + len(second.new) == 300
    assert first.seen_before + second.seen_before == 300
    assert len(await rows(given.db, steps)) == 300


@for_all(strategies.tuples(strategies.text(), strategies.text(), strategies.text(), strategies.text()))
def test_a_record_id_is_stable_short_and_lower_case(key: tuple[str, str, str, str]) -> None:
    assert record_id(*key) == record_id(*key)
    assert len(record_id(*key)) == 24
    assert record_id(*key) == record_id(*key).lower()


def test_record_ids_tell_apart_what_only_looks_the_same_when_joined() -> None:
    keys = [("a", "b", "c", "d"), ("ab", "", "c", "d"), ("a", "bc", "", "d"), ("a", "b", "cd", "")]
    assert len({record_id(*key) for key in keys}) == len(keys)


@for_all(strategies.integers(0, 10**39), strategies.integers(0, 10**39))
def test_whole_numbers_sort_by_value(one: int, other: int) -> None:
    assert (revision_order(str(one)) < revision_order(str(other))) == (one < other)


moments = strategies.datetimes(
    min_value=datetime(1, 1, 3),
    max_value=datetime(9999, 12, 29),
    timezones=strategies.builds(
        timezone,
        strategies.timedeltas(timedelta(hours=-14), timedelta(hours=14)).map(
            lambda offset: timedelta(minutes=offset // timedelta(minutes=1))
        ),
    ),
)


@for_all(moments, moments)
def test_timestamps_sort_by_moment_whatever_their_offset(one: datetime, other: datetime) -> None:
    assert (revision_order(one.isoformat()) < revision_order(other.isoformat())) == (one < other)


@pytest.mark.parametrize(
    ("revision", "order"),
    [
        ("2026-03-01T12:00:00+02:00", "2026-03-01T10:00:00.000000Z"),
        ("2026-03-01 10:00:00", "2026-03-01T10:00:00.000000Z"),
        ("2026-03-01", "2026-03-01T00:00:00.000000Z"),
        ("007", "7".zfill(40)),
        ("2026-13-45T99:00", "2026-13-45T99:00"),
        ("v2", "v2"),
        ("", ""),
        ("٣", "٣"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00"),
    ],
)
def test_a_revision_is_ordered_by_what_it_is(revision: str, order: str) -> None:
    assert revision_order(revision) == order


def test_a_day_is_the_moment_it_begins() -> None:
    assert revision_order("2026-03-01") == revision_order(datetime(2026, 3, 1, tzinfo=UTC).isoformat())


async def test_what_is_accepted_at_the_same_moment_is_told_apart(given: Given) -> None:
    one, other = await given.a_run(), await given.a_run()
    chunks = [
        (one, [a_record("E-1"), a_record("E-2")], [a_reject(1)]),
        (other, [a_record("E-2"), a_record("E-3")], [a_reject(1), a_reject(2)]),
        (one, [a_record("E-4")], []),
    ]
    done = await asyncio.gather(
        *(
            given.intake.accept(
                run, new, refused, rows=3, filtered=0, read=3, messages=lambda some: [a_message([r]) for r in some]
            )
            for run, new, refused in chunks
        )
    )
    # Which of them comes first is open; each record and each refused row is new to exactly one.
    assert sorted(new for answer in done for new in answer.new) == sorted(
        row.id for row in await rows(given.db, records)
    )
    assert [sum(len(answer.new) for answer in done), sum(answer.rejected for answer in done)] == [4, 2]
    assert sum(answer.seen_before for answer in done) == 2
    owed = sorted(row.number for answer in done for row in answer.outbox)
    assert owed == [row.number for row in await given.outbox.pending(10)]
    counted = {run.id: (run.accepted, run.seen_before, run.rejected) for run in await rows(given.db, runs)}
    first, second, third = ((len(one.new), one.seen_before, one.rejected) for one in done)
    assert counted == {one: tuple(map(sum, zip(first, third, strict=True))), other: second}


async def test_one_bad_chunk_does_not_spoil_those_that_come_with_it(given: Given) -> None:
    run_id = await given.a_run()
    good = given.accepted(a_record("E-1"), run_id=run_id)
    bad = given.accepted(a_record("E-2"), run_id="r-unknown")
    done, refused = await asyncio.gather(good, bad, return_exceptions=True)
    assert isinstance(refused, UnknownRun)
    assert not isinstance(done, BaseException)
    assert [record.subject for record in await rows(given.db, records)] == ["E-1"]
