"""Trace: one record's life, found by whatever id a person has at hand."""

import pytest

from contracts.money import Money
from store.dead_letters import DeadLetters
from store.trace import Trace, trace
from tests.conformance.store.given import Given, a_letter, a_record, continuation, euros, key_of


async def test_a_record_tells_its_life(given: Given) -> None:
    record = a_record("E-1", "2")
    await given.accepted(a_record("E-1", "1"), record)
    letter = a_letter(record)
    await given.dead(letter)
    await DeadLetters(given.db, given.outbox).requeue([letter.id], "ann", "reopened", continuation)
    await given.posted(record)

    found = await trace(given.db, record.id)

    assert isinstance(found, Trace)
    assert (found.record.id, found.record.state, found.record.amount) == (record.id, "posted", euros(10))
    assert found.record.payload == b'{"id":"E-1"}'
    assert [one.revision for one in found.revisions] == ["1"]
    assert [(one.target, one.state, one.target_id) for one in found.deliveries] == [("ledger", "posted", "J-E-1")]
    assert [one.outcome for one in found.steps][:2] == ["accepted", "requeued"]
    assert [(one.id, one.status) for one in found.dead_letters] == [(letter.id, "requeued")]
    assert [(one.actor, one.action) for one in found.audit] == [("ann", "requeue")]
    assert found.parked == []


async def test_a_parked_record_says_what_it_waits_for(given: Given) -> None:
    record = a_record("E-1")
    await given.accepted(record)
    await given.parked(record, "project.v1:P-9")

    found = await trace(given.db, record.id)

    assert isinstance(found, Trace)
    assert [(one.key, one.stage, one.target) for one in found.parked] == [("project.v1:P-9", "enrich", "")]


@pytest.mark.parametrize(
    "kind", ["record id", "in capitals", "beginning", "subject", "posting key", "correlation id", "dead letter id"]
)
async def test_a_record_is_found_by(given: Given, kind: str) -> None:
    record, other = a_record("E-1"), a_record("E-2")
    await given.accepted(record, other)
    await given.posted(record)
    letter = a_letter(record, stage="reconcile", target="ledger")
    await given.dead(letter)
    known_by = {
        "record id": record.id,
        "in capitals": f" {record.id.upper()} ",
        "beginning": record.id[:6],
        "subject": "E-1",
        "posting key": key_of(record, "ledger"),
        "correlation id": "corr-E-1",
        "dead letter id": letter.id,
    }

    found = await trace(given.db, known_by[kind])

    assert isinstance(found, Trace)
    assert found.record.id == record.id


async def test_a_subject_means_its_newest_revision(given: Given) -> None:
    await given.accepted(a_record("E-1", "10"), a_record("E-1", "9"), a_record("E-1", "2"))

    found = await trace(given.db, "E-1")

    assert isinstance(found, Trace)
    assert found.record.revision == "10"
    assert [one.revision for one in found.revisions] == ["2", "9"]


async def test_what_may_mean_several_records_is_answered_with_all_of_them(given: Given) -> None:
    here, there = (
        a_record("E-1"),
        a_record("E-1", source="netsuite", money=Money(amount=euros(3).amount, currency="USD")),
    )
    await given.accepted(here, there)

    found = await trace(given.db, "E-1")

    assert isinstance(found, list)
    assert {(one.id, one.source, one.amount.currency) for one in found} == {
        (here.id, "openair", "EUR"),
        (there.id, "netsuite", "USD"),
    }


@pytest.mark.parametrize("wanted", ["nothing", "E-", "", "%", "e_1"])
async def test_what_nobody_knows_is_not_found(given: Given, wanted: str) -> None:
    await given.accepted(a_record("E-1"))

    assert await trace(given.db, wanted) is None


async def test_a_few_characters_are_not_enough_for_a_beginning(given: Given) -> None:
    record = a_record("E-1")
    await given.accepted(record)

    assert await trace(given.db, record.id[:5]) is None
