"""Retention: bodies go, the accounts of what happened stay."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from pipeline.states import STATES
from store import retention
from store.balance import balance
from store.dead_letters import DeadLetters
from store.retention import FINISHED, Retained, retain
from store.tables import audit, dead_letters, deliveries, records, rejects, steps
from tests.conformance.store.given import Given, a_letter, a_record, a_reject

A_MONTH = timedelta(days=30)
LONG_AGO = datetime.now(UTC) - timedelta(days=31)


async def rows(given: Given, table: Any) -> Sequence[Any]:
    async with given.db.connect() as connection:
        return (await connection.execute(select(table))).all()


async def all_of_it_was_long_ago(given: Given) -> None:
    async with given.db.begin() as connection:
        await connection.execute(update(records).values(changed_at=LONG_AGO))
        await connection.execute(update(deliveries).values(changed_at=LONG_AGO))
        await connection.execute(update(dead_letters).values(last_at=LONG_AGO))
        await connection.execute(update(rejects).values(at=LONG_AGO))
        await connection.execute(update(audit).values(at=LONG_AGO))


@pytest.mark.parametrize("state", STATES)
async def test_payloads_go_when_their_record_is_finished(given: Given, state: str) -> None:
    await given.accepted(a_record("E-1"))
    async with given.db.begin() as connection:
        await connection.execute(update(records).values(state=state))
    await all_of_it_was_long_ago(given)

    done = await retain(given.db, A_MONTH)

    (record,) = await rows(given, records)
    assert (record.payload is None) == (state in FINISHED)
    assert done.payloads == (1 if state in FINISHED else 0)
    assert state not in ("dead", "parked", "in_flight", "in_doubt", "submitted") or record.payload is not None


async def in_the_target(given: Given, state: str, subject: str = "E-1") -> None:
    """A record whose document a target was sent and that came to a state since."""
    record = a_record(subject)
    await given.accepted(record)
    await given.posted(record, state="submitted" if state == "submitted" else "posted")
    if state not in ("submitted", "posted"):
        await given.state(state, record, target="ledger")


@pytest.mark.parametrize("state", ["submitted", "posted", "dead", "reconciled", "superseded"])
async def test_what_was_sent_stays_until_it_has_been_read_back(given: Given, state: str) -> None:
    await in_the_target(given, state)
    await all_of_it_was_long_ago(given)
    removed = state in ("reconciled", "superseded")

    would_be = await retain(given.db, A_MONTH, dry_run=True)
    done = await retain(given.db, A_MONTH)

    (delivery,) = await rows(given, deliveries)
    assert delivery.state == state
    assert (delivery.document is None) == removed
    assert would_be.documents == done.documents == (1 if removed else 0)


async def test_what_was_sent_stays_while_a_sibling_delivery_keeps_the_record_unfinished(given: Given) -> None:
    record = a_record("E-1")
    await given.accepted(record)
    await given.routed(record, "ledger", "payroll")
    await given.posted(record)
    await given.state("reconciled", record, target="ledger")
    await given.state("parked", record, target="payroll")
    await all_of_it_was_long_ago(given)

    assert (await retain(given.db, A_MONTH)).documents == 0


async def test_what_was_read_back_lately_keeps_what_was_sent(given: Given) -> None:
    await in_the_target(given, "reconciled")
    await all_of_it_was_long_ago(given)
    async with given.db.begin() as connection:
        await connection.execute(update(deliveries).values(changed_at=datetime.now(UTC)))

    assert (await retain(given.db, A_MONTH)).documents == 0


async def test_what_was_finished_lately_keeps_its_payload(given: Given) -> None:
    await given.accepted(a_record("E-1"), rejects=[a_reject(2)])
    await given.posted(a_record("E-1"))

    assert await retain(given.db, A_MONTH) == Retained(
        payloads=0, documents=0, letters=0, rejects=0, originals=0, dry_run=False
    )
    assert await rows(given, audit) == []


async def a_finished_and_a_dead_one(given: Given) -> None:
    """Both edited; one of them discarded afterwards."""
    ended, dead = a_record("ended"), a_record("dead")
    await given.accepted(ended, dead, rejects=[a_reject(3)])
    letters = [a_letter(ended), a_letter(dead)]
    await given.dead(*letters)
    archive = DeadLetters(given.db, given.outbox)
    for letter in letters:
        await archive.edit(letter.id, b'{"id":"edited"}', "ann", "typing error")
    await archive.discard([letters[0].id], "ann", "a test")
    await archive.archive_raw("raw", b"\xff", {}, stage="post", message="no batch", cause="UNDECODABLE")
    await all_of_it_was_long_ago(given)


async def test_letters_originals_and_refused_rows_go_with_it(given: Given) -> None:
    await a_finished_and_a_dead_one(given)

    assert await retain(given.db, A_MONTH) == Retained(
        payloads=1, documents=0, letters=1, rejects=1, originals=1, dry_run=False
    )

    letters = {letter.subject: letter.letter is not None for letter in await rows(given, dead_letters)}
    assert letters == {"ended": False, "dead": True, "": True}
    edits = {line.record_id: line.detail for line in await rows(given, audit) if line.action == "edit"}
    assert edits == {a_record("ended").id: None, a_record("dead").id: {"original": '{"id":"dead"}'}}


async def test_the_accounts_stay_and_the_removal_is_one_of_them(given: Given) -> None:
    await a_finished_and_a_dead_one(given)
    before = [len(await rows(given, table)) for table in (records, dead_letters, rejects, steps)]

    await retain(given.db, A_MONTH, actor="clock")

    assert [len(await rows(given, table)) for table in (records, dead_letters, rejects, steps)] == before
    assert [sheet.findings for sheet in await balance(given.db)] == [()]
    line = (await rows(given, audit))[-1]
    assert (line.actor, line.action, line.reason) == ("clock", "retention", "finished more than 30 days ago")
    assert line.detail == {"payloads": 1, "documents": 0, "letters": 1, "rejects": 1, "originals": 1}


async def test_a_dry_run_counts_and_removes_nothing(given: Given) -> None:
    await a_finished_and_a_dead_one(given)
    before = await rows(given, records), await rows(given, dead_letters), await rows(given, audit)

    done = await retain(given.db, A_MONTH, dry_run=True)

    assert done == Retained(payloads=1, documents=0, letters=1, rejects=1, originals=1, dry_run=True)
    assert (await rows(given, records), await rows(given, dead_letters), await rows(given, audit)) == before


async def test_more_than_one_transaction_holds_are_all_removed(given: Given) -> None:
    many = [a_record(f"E-{number}") for number in range(retention.rows_per_transaction_max + 50)]
    await given.accepted(*many)
    await given.state("duplicate", *many)
    await all_of_it_was_long_ago(given)

    assert (await retain(given.db, A_MONTH)).payloads == len(many)
    assert (await retain(given.db, A_MONTH)).payloads == 0
