"""The archive of dead letters: found, requeued once, edited with the original kept, discarded, never lost."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import select, update

from pipeline.codes import MAPPING_MISSING, PERIOD_CLOSED, RETRIES_EXHAUSTED
from pipeline.messages import decode
from store.dead_letter_filter import DeadLetterFilter
from store.dead_letter_moves import claim
from store.dead_letters import DeadLetters, LetterNotOpen, UnknownLetter
from store.intake import AcceptedRecord
from store.tables import audit, dead_letters, deliveries, records, steps
from tests.conformance.store.given import Given, a_letter, a_record, continuation, euros


@pytest.fixture
def archive(given: Given) -> DeadLetters:
    return DeadLetters(given.db, given.outbox)


async def died(given: Given, *records_: AcceptedRecord, **changes: Any) -> list[Any]:
    await given.accepted(*records_)
    letters = [a_letter(record, **changes) for record in records_]
    await given.dead(*letters)
    return letters


async def column(given: Given, of: Any) -> list[Any]:
    async with given.db.connect() as connection:
        return list(await connection.scalars(select(of)))


async def rows(given: Given, table: Any) -> Sequence[Any]:
    async with given.db.connect() as connection:
        return (await connection.execute(select(table))).all()


async def test_a_filter_takes_what_fits_every_field(given: Given, archive: DeadLetters) -> None:
    closed, unmapped = a_record("E-1"), a_record("E-2")
    hours = a_record("T-1", document_type="time_entry.v1")
    await died(given, closed)
    await died(given, unmapped, code=MAPPING_MISSING)
    await died(given, hours, code=MAPPING_MISSING, stage="transform")

    async def found(**fields: Any) -> list[str]:
        return [letter.subject for letter in await archive.list(DeadLetterFilter(**fields))]

    assert await found() == ["E-1", "E-2", "T-1"]
    assert await found(codes=("MAPPING_MISSING",)) == ["E-2", "T-1"]
    assert await found(codes=("MAPPING_MISSING",), stages=("enrich", "post")) == ["E-2"]
    assert await found(document_types=("time_entry",)) == ["T-1"]
    assert await found(document_types=("time_entry.v1", "expense")) == ["E-1", "E-2", "T-1"]
    assert await found(document_types=("time",)) == []
    assert await found(owners=("finance",), sources=("openair",), limit=2) == ["E-1", "E-2"]
    assert await found(record_ids=(closed.id,)) == ["E-1"]
    assert await found(ids=("dead-E-2-1--enrich", "no such id")) == ["E-2"]
    assert await found(status="requeued") == []
    assert await found(older_than=timedelta(hours=1)) == []
    assert await found(newer_than=timedelta(hours=1), cause="PERIOD_CLOSED: the period of E-1 is closed") == ["E-1"]


async def test_groups_say_how_many_what_they_are_worth_and_since_when(given: Given, archive: DeadLetters) -> None:
    same = {"code": PERIOD_CLOSED}
    await given.accepted(*(one := [a_record("E-1", amount="10.10"), a_record("E-2", amount="0.90"), a_record("E-3")]))
    letters = [a_letter(record, **same) for record in one[:2]]
    message = "the period is closed"
    failures = [msgspec.structs.replace(letter.failure, message=message) for letter in letters]
    old = datetime(2026, 1, 5, tzinfo=UTC)
    failures[1] = msgspec.structs.replace(failures[1], first_at=old)
    await given.dead(
        *(msgspec.structs.replace(letter, failure=failure) for letter, failure in zip(letters, failures, strict=True)),
        a_letter(one[2], MAPPING_MISSING),
    )

    first, second = await archive.groups(DeadLetterFilter())

    assert (first.code, first.count, first.amount, first.owner) == ("PERIOD_CLOSED", 2, euros("11.00"), "finance")
    assert (first.stage, first.document_type, first.oldest) == ("enrich", "expense.v1", old)
    assert first.newest > old
    assert (second.code, second.count) == ("MAPPING_MISSING", 1)


async def test_a_requeued_record_is_in_flight_again_with_who_and_why(given: Given, archive: DeadLetters) -> None:
    record = a_record("E-1")
    (letter,) = await died(given, record)

    done = await archive.requeue(DeadLetterFilter(codes=("PERIOD_CLOSED",)), "ann", "reopened March", continuation)

    assert (done.count, done.skipped) == (1, 0)
    assert await column(given, records.c.state) == ["in_flight"]
    ((letter_row),) = await rows(given, dead_letters)
    assert (letter_row.status, letter_row.requeues) == ("requeued", 1)
    step = (await rows(given, steps))[-1]
    assert (step.stage, step.outcome, step.code, step.detail) == (
        "enrich",
        "requeued",
        "PERIOD_CLOSED",
        "ann: reopened March",
    )
    (owed,) = await given.outbox.pending(10)
    assert owed.number == done.outbox[0].number
    assert decode(owed.body).items[0].body == letter.body
    history = (await archive.show(letter.id)).history
    assert [(line.actor, line.action, line.reason, line.detail) for line in history] == [
        ("ann", "requeue", "reopened March", {"batch": done.batch})
    ]
    batch = next(line for line in await rows(given, audit) if line.dead_letter_id is None)
    assert batch.detail == {
        "batch": done.batch,
        "filter": {"codes": ["PERIOD_CLOSED"], "status": "open"},
        "matched": 1,
    }


async def test_two_operators_cannot_requeue_the_same_letter_twice(given: Given, archive: DeadLetters) -> None:
    await died(given, *(a_record(f"E-{number}") for number in range(40)))

    async def requeue(actor: str) -> int:
        return (await archive.requeue(DeadLetterFilter(), actor, "again", continuation)).count

    counts = await asyncio.gather(*(requeue(actor) for actor in ("ann", "bob", "eve")))

    assert sum(counts) == 40
    assert await given.outbox.count() == 40
    assert set(await column(given, dead_letters.c.requeues)) == {1}


async def test_many_letters_are_requeued_page_by_page(given: Given) -> None:
    archive = DeadLetters(given.db, given.outbox, letters_per_transaction=7)
    letters = await died(given, *(a_record(f"E-{number}") for number in range(23)))

    done = await archive.requeue([letter.id for letter in letters[:20]], "ann", "again", continuation)

    assert (done.count, done.skipped, len(done.outbox)) == (20, 0, 20)
    assert sorted(await column(given, dead_letters.c.status)) == ["open"] * 3 + ["requeued"] * 20
    assert len([line for line in await rows(given, audit) if line.dead_letter_id is None]) == 1


async def test_a_message_that_cannot_be_built_leaves_its_letters_open(given: Given, archive: DeadLetters) -> None:
    await died(given, a_record("E-1"), a_record("E-2"))

    def broken(letters: Any) -> Any:
        raise RuntimeError(f"no stage for {letters[0].id}")

    with pytest.raises(RuntimeError, match="no stage"):
        await archive.requeue(DeadLetterFilter(), "ann", "again", broken)

    assert await column(given, dead_letters.c.status) == ["open", "open"]
    assert await column(given, records.c.state) == ["dead", "dead"]
    assert await rows(given, audit) == []


async def test_one_delivery_of_several_is_requeued_alone(given: Given, archive: DeadLetters) -> None:
    record = a_record("E-1")
    await given.accepted(record)
    await given.routed(record, "payroll", "ledger")
    await given.posted(record, "payroll")
    await given.dead(a_letter(record, RETRIES_EXHAUSTED, stage="post", target="ledger"))
    assert await column(given, records.c.state) == ["dead"]

    done = await archive.requeue(DeadLetterFilter(target="ledger"), "ann", "it is back", continuation)

    assert done.count == 1
    assert {row.target: row.state for row in await rows(given, deliveries)} == {
        "payroll": "posted",
        "ledger": "in_flight",
    }
    assert await column(given, records.c.state) == ["in_flight"]


@pytest.mark.parametrize("state", ["superseded", "in_flight", "posted"])
async def test_what_has_been_settled_otherwise_is_not_requeued(given: Given, archive: DeadLetters, state: str) -> None:
    record = a_record("E-1")
    (letter,) = await died(given, record)
    async with given.db.begin() as connection:
        await connection.execute(update(records).values(state=state))

    done = await archive.requeue([letter.id], "ann", "again", continuation)

    assert (done.count, done.skipped, done.outbox) == (0, 1, [])
    assert await column(given, records.c.state) == [state]


async def test_a_letter_that_was_requeued_before_is_left_alone_when_its_record_dies_again(
    given: Given, archive: DeadLetters
) -> None:
    record = a_record("E-1")
    (before,) = await died(given, record)
    await archive.requeue([before.id], "ann", "again", continuation)
    await given.dead(a_letter(record, stage="transform"))

    async with given.db.begin() as connection:
        assert await claim(connection, given.db, [before.id], "requeued", "in_flight") == []
    done = await archive.requeue(DeadLetterFilter(status=None), "ann", "again", continuation)

    assert (done.count, done.skipped, [row.stage for row in done.outbox]) == (1, 0, ["transform"])


async def test_no_ids_do_not_mean_every_letter(given: Given, archive: DeadLetters) -> None:
    await died(given, a_record("E-1"))

    with pytest.raises(ValueError, match="no dead letter ids"):
        await archive.requeue([], "ann", "again", continuation)


async def test_an_edit_changes_what_is_sent_and_keeps_the_original(given: Given, archive: DeadLetters) -> None:
    (letter,) = await died(given, a_record("E-1"))

    await archive.edit(letter.id, b'{"id":"E-1","amount":"7"}', "ann", "typing error")
    done = await archive.requeue([letter.id], "ann", "corrected", continuation)

    assert bytes(decode(done.outbox[0].body).items[0].body) == b'{"id":"E-1","amount":"7"}'
    edited, requeued = (await archive.show(letter.id)).history
    assert (edited.action, edited.detail) == ("edit", {"original": '{"id":"E-1"}'})
    assert requeued.action == "requeue"
    assert [step.outcome for step in await rows(given, steps)] == ["accepted", "edited", "requeued"]


async def test_only_open_letters_can_be_edited(given: Given, archive: DeadLetters) -> None:
    (letter,) = await died(given, a_record("E-1"))
    await archive.requeue([letter.id], "ann", "again", continuation)

    with pytest.raises(LetterNotOpen, match="requeued"):
        await archive.edit(letter.id, b"{}", "ann", "too late")
    with pytest.raises(UnknownLetter, match="no-such-letter"):
        await archive.edit("no-such-letter", b"{}", "ann", "never was")


async def test_a_discarded_letter_ends_its_record(given: Given, archive: DeadLetters) -> None:
    (letter,) = await died(given, a_record("E-1"))

    done = await archive.discard(DeadLetterFilter(), "ann", "a test of the source")

    assert (done.count, done.skipped) == (1, 0)
    assert await column(given, records.c.state) == ["discarded"]
    assert (await archive.show(letter.id)).summary.status == "discarded"
    step = (await rows(given, steps))[-1]
    assert (step.outcome, step.detail) == ("discarded", "ann: a test of the source")
    assert (await archive.requeue([letter.id], "bob", "no, do it", continuation)).count == 0


async def test_a_message_that_is_not_ours_is_archived_once_with_its_headers(given: Given, archive: DeadLetters) -> None:
    headers = {
        "x-death": [{"queue": "tieout.post.live", "count": 3, "time": datetime(2026, 3, 1, tzinfo=UTC)}],
        "b": b"\xff",
    }
    told = {"stage": "post", "message": "3 bytes that are no batch", "cause": "UNDECODABLE in tieout.post.live"}
    assert await archive.archive_raw("m-1", b"\xff\x00{", headers, **told)
    assert not await archive.archive_raw("m-1", b"other", {}, **told)

    found = await archive.show("m-1")

    assert (found.letter, found.decoded, found.summary.record_id) == (b"\xff\x00{", None, None)
    assert found.headers is not None
    assert found.headers["x-death"][0]["queue"] == "tieout.post.live"
    assert (await archive.requeue(["m-1"], "ann", "again", continuation)).skipped == 1
    assert (await archive.discard(["m-1"], "ann", "spam")).count == 1
    assert [line.action for line in (await archive.show("m-1")).history] == ["discard"]


async def test_an_export_has_every_matching_letter_with_its_body(given: Given) -> None:
    archive = DeadLetters(given.db, given.outbox, letters_per_transaction=4)
    letters = await died(given, *(a_record(f"E-{number}") for number in range(10)))

    exported = [detail async for detail in archive.export(DeadLetterFilter())]

    assert sorted(detail.summary.id for detail in exported) == sorted(letter.id for letter in letters)
    assert all(detail.decoded and detail.decoded.body for detail in exported)


async def test_a_letter_that_dies_again_keeps_how_often_it_was_requeued(given: Given, archive: DeadLetters) -> None:
    (letter,) = await died(given, a_record("E-1"))
    await archive.requeue([letter.id], "ann", "once", continuation)
    await given.dead(letter)
    await archive.requeue([letter.id], "ann", "twice", continuation)

    found = await archive.show(letter.id)

    assert found.summary.requeues == 2
    assert [line.reason for line in found.history] == ["once", "twice"]
