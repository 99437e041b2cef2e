"""Intent, answer and doubt, on SQLite and PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import update

from contracts.failure import TECHNICAL
from contracts.money import Money
from pipeline.entries import Entry, NewDelivery, StateChange
from store.database import Database
from store.ledger import LedgerWriter
from store.outbox import Outbox, OutboxRow
from store.postings import StorePostings
from store.standing import UnknownRecord
from store.tables import dead_letters, deliveries, outbox, parked, records, steps
from tests.conformance.store.ledger_cases import (
    accept,
    delivery_of,
    document,
    lease_of,
    letter,
    parking,
    receipt,
    rows,
    state_of,
)

MINUTE_MS = 60_000


class Desk:
    """Postings and ledger of one worker, with what was announced for publishing."""

    def __init__(self, db: Database, worker: str) -> None:
        self.db = db
        self.announced: list[OutboxRow] = []
        self.postings = StorePostings(
            db, Outbox(db), worker=worker, rows_max=500, on_outbox=lambda released: self.announced.extend(released)
        )
        self.ledger = LedgerWriter(db, worker=worker, rows_max=500)

    async def intend(self, record_id: str, subject: str, revision: str, lease_ms: int = MINUTE_MS) -> str:
        wanted = document(record_id, subject=subject, revision=revision)
        return (await self.postings.intend(record_id, wanted, lease_ms)).status

    async def post(self, record_id: str, subject: str, revision: str, target_id: str = "J-1") -> str | None:
        """Intend and answer; returns what the call replaced."""
        wanted = document(record_id, subject=subject, revision=revision)
        intent = await self.postings.intend(record_id, wanted, MINUTE_MS)
        assert intent.status == "new"
        await self.postings.answer(record_id, wanted, receipt(target_id))
        return intent.replaces

    async def close(self) -> None:
        await self.postings.close()
        await self.ledger.close()


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Desk]:
    desk = Desk(database, "w1")
    yield desk
    await desk.close()


@pytest.fixture
async def other_desk(database: Database, migrated_url: str) -> AsyncIterator[Desk]:
    """A second worker, with connections of its own."""
    other = Desk(await Database.open(migrated_url), "w2")
    yield other
    await other.close()
    await other.db.close()


async def two_revisions(db: Database, *, equal: bool = False) -> None:
    await accept(db, "r1", subject="s", revision="1", fingerprint="f1")
    await accept(db, "r2", subject="s", revision="2", fingerprint="f1" if equal else "f2")


async def test_a_first_intent_may_go_ahead_and_is_written_down(database: Database, desk: Desk) -> None:
    await accept(database)
    assert await desk.intend("r1", "r1", "1") == "new"
    row = await delivery_of(database)
    assert (row["state"], row["replaces"], row["answered_at"]) == ("in_flight", None, None)
    assert row["leased_until"] > row["intent_at"]


async def test_an_intent_about_a_record_nobody_accepted_is_refused_alone(database: Database, desk: Desk) -> None:
    await accept(database)
    refused, fine = await asyncio.gather(
        desk.intend("nobody", "nobody", "1"), desk.intend("r1", "r1", "1"), return_exceptions=True
    )
    assert isinstance(refused, UnknownRecord)
    assert fine == "new"


async def test_while_a_call_may_be_under_way_everybody_else_waits(desk: Desk, other_desk: Desk) -> None:
    await accept(desk.db)
    assert await desk.intend("r1", "r1", "1") == "new"
    assert await other_desk.intend("r1", "r1", "1") == "leased"


async def test_a_call_abandoned_without_an_answer_is_asked_about_by_one_worker_at_a_time(
    desk: Desk, other_desk: Desk
) -> None:
    await accept(desk.db)
    assert await desk.intend("r1", "r1", "1", lease_ms=0) == "new"
    assert await other_desk.intend("r1", "r1", "1") == "in_doubt"
    assert await desk.intend("r1", "r1", "1") == "leased"


async def test_after_a_call_that_created_nothing_the_next_one_need_not_wait_and_asks(
    database: Database, desk: Desk
) -> None:
    await accept(database, "r1")
    assert await desk.intend("r1", "r1", "1") == "new"
    assert await desk.intend("r1", "r1", "1") == "leased"
    await desk.postings.not_created("r1", document(), await lease_of(database))
    assert await state_of(database) == "in_flight"
    assert await desk.intend("r1", "r1", "1") == "in_doubt"
    assert await desk.intend("r1", "r1", "1") == "leased"


async def test_a_lease_is_ended_by_nobody_but_its_holder(database: Database, desk: Desk) -> None:
    await accept(database, "r1")
    mine = await desk.postings.intend("r1", document(), 0)
    other = await desk.postings.intend("r1", document(), MINUTE_MS)
    assert (mine.status, other.status) == ("new", "in_doubt")
    await desk.postings.not_created("r1", document(), mine.leased_until)
    await desk.postings.doubt("r1", document(), "no answer for 30 s", mine.leased_until)
    assert await desk.intend("r1", "r1", "1") == "leased"
    await desk.postings.not_created("r1", document(), other.leased_until)
    assert await desk.intend("r1", "r1", "1") == "in_doubt"


async def test_a_doubted_call_is_asked_about_at_once(database: Database, desk: Desk) -> None:
    await accept(database)
    await desk.intend("r1", "r1", "1")
    await desk.postings.doubt("r1", document(), "no answer for 30 s", await lease_of(database))
    assert await state_of(database) == "in_doubt"
    assert [(row["outcome"], row["detail"]) for row in await rows(database, steps)] == [
        ("in_doubt", "no answer for 30 s")
    ]
    assert await desk.intend("r1", "r1", "1") == "in_doubt"
    await desk.postings.answer("r1", document(), receipt("J-9"))
    assert (await state_of(database), (await delivery_of(database))["target_id"]) == ("posted", "J-9")


async def test_an_answered_delivery_gives_its_receipt_again(database: Database, desk: Desk) -> None:
    await accept(database)
    await desk.post("r1", "r1", "1", "J-7")
    intent = await desk.postings.intend("r1", document(), MINUTE_MS)
    assert (intent.status, intent.receipt) == ("answered", receipt("J-7"))


async def test_an_answered_delivery_gives_the_document_that_was_sent_not_the_one_made_anew(
    database: Database, desk: Desk
) -> None:
    await accept(database)
    sent, anew = document(body={"rate": "100"}), document(body={"rate": "120"}, money=Money.of_minor(1200, "EUR"))
    await desk.postings.intend("r1", sent, MINUTE_MS)
    await desk.postings.answer("r1", sent, receipt("J-7"))
    intent = await desk.postings.intend("r1", anew, MINUTE_MS)
    assert (intent.status, intent.document) == ("answered", sent)
    # A late copy answers with its own document as well: what is kept stays what was sent.
    await desk.postings.answer("r1", anew, receipt("J-7"))
    assert (await desk.postings.intend("r1", anew, MINUTE_MS)).document == sent


async def test_answered_deliveries_of_one_group_each_give_their_own_document(database: Database, desk: Desk) -> None:
    sent = {name: document(name, body={"rate": name}) for name in ("r1", "r2", "r3")}
    for name in sent:
        await accept(database, name)
    await asyncio.gather(*(desk.postings.intend(name, one, MINUTE_MS) for name, one in sent.items()))
    await asyncio.gather(*(desk.postings.answer(name, one, receipt(f"J-{name}")) for name, one in sent.items()))
    intents = await asyncio.gather(*(desk.postings.intend(name, document(name), MINUTE_MS) for name in sent))
    assert [intent.document for intent in intents] == list(sent.values())


async def test_a_draft_is_submitted_until_it_is_posted(database: Database, desk: Desk) -> None:
    await accept(database)
    await desk.intend("r1", "r1", "1")
    await desk.postings.answer("r1", document(), receipt("D-1", "submitted"))
    assert await state_of(database) == "submitted"
    again = await desk.postings.intend("r1", document(), MINUTE_MS)
    assert again.receipt == receipt("D-1", "submitted")
    await desk.postings.answer("r1", document(), receipt("D-1"))
    assert await state_of(database) == "posted"


async def test_an_answer_told_late_does_not_undo_what_reading_back_has_found(database: Database, desk: Desk) -> None:
    await accept(database)
    await desk.post("r1", "r1", "1")
    await desk.ledger.record(Entry(dead=[letter(stage="reconcile", target="ledger", code="DRIFT")]))
    await desk.postings.answer("r1", document(), receipt())
    assert await state_of(database) == "dead"


async def test_an_answer_counts_whatever_late_copies_have_made_of_the_delivery(database: Database, desk: Desk) -> None:
    await accept(database)
    await desk.intend("r1", "r1", "1")
    dead = letter(stage="post", target="ledger", code="RETRIES_EXHAUSTED", category=TECHNICAL)
    await desk.ledger.record(Entry(dead=[dead]))
    assert await state_of(database) == "dead"
    await desk.postings.answer("r1", document(), receipt())
    assert await state_of(database) == "posted"
    assert [row["status"] for row in await rows(database, dead_letters)] == ["resolved"]


async def test_a_correction_replaces_what_the_target_holds(database: Database, desk: Desk) -> None:
    await two_revisions(database)
    assert await desk.post("r1", "s", "1") is None
    assert await desk.post("r2", "s", "2") == document("r1", subject="s").reference
    assert (await state_of(database, "r1"), await state_of(database, "r2")) == ("superseded", "posted")
    assert (await delivery_of(database, "r2"))["replaces"] == document("r1", subject="s").reference
    await accept(database, "r3", subject="s", revision="3")
    assert await desk.post("r3", "s", "3") == document("r2", subject="s", revision="2").reference


async def test_a_correction_goes_back_to_an_earlier_content(database: Database, desk: Desk) -> None:
    await two_revisions(database)
    await accept(database, "r3", subject="s", revision="3", fingerprint="f1")
    for record_id, revision in [("r1", "1"), ("r2", "2"), ("r3", "3")]:
        await desk.post(record_id, "s", revision)
    assert await state_of(database, "r3") == "posted"


async def test_a_retried_correction_still_knows_what_it_replaces(database: Database, desk: Desk) -> None:
    await two_revisions(database)
    await desk.post("r1", "s", "1")
    await desk.intend("r2", "s", "2", lease_ms=0)
    intent = await desk.postings.intend("r2", document("r2", subject="s", revision="2"), MINUTE_MS)
    assert (intent.status, intent.replaces) == ("in_doubt", document("r1", subject="s").reference)


async def test_an_older_revision_is_never_sent_after_a_newer_one(database: Database, desk: Desk) -> None:
    await two_revisions(database)
    assert await desk.intend("r2", "s", "2") == "new"
    intent = await desk.postings.intend("r1", document("r1", subject="s"), MINUTE_MS)
    assert (intent.status, intent.by) == ("superseded", "2")


async def test_a_newer_revision_with_equal_content_sends_nothing(database: Database, desk: Desk) -> None:
    await two_revisions(database, equal=True)
    await desk.post("r1", "s", "1")
    intent = await desk.postings.intend("r2", document("r2", subject="s", revision="2"), MINUTE_MS)
    assert (intent.status, intent.by) == ("duplicate", "r1")


async def test_a_correction_waits_until_the_older_call_has_its_answer(database: Database, desk: Desk) -> None:
    await two_revisions(database)
    await desk.intend("r1", "s", "1", lease_ms=0)
    assert await desk.intend("r2", "s", "2") == "leased"
    await desk.postings.answer("r1", document("r1", subject="s"), receipt())
    assert await desk.post("r2", "s", "2") == document("r1", subject="s").reference


async def test_a_correction_goes_ahead_once_the_older_one_was_refused_for_good(database: Database, desk: Desk) -> None:
    await two_revisions(database)
    await desk.intend("r1", "s", "1")
    await desk.ledger.record(Entry(dead=[letter("r1", stage="post", target="ledger", code="TARGET_REFUSED")]))
    assert await desk.post("r2", "s", "2") is None
    assert await state_of(database, "r1") == "superseded"
    assert [row["status"] for row in await rows(database, dead_letters)] == ["resolved"]


async def test_a_correction_waits_for_an_older_call_nobody_knows_the_outcome_of(database: Database, desk: Desk) -> None:
    await two_revisions(database)
    await desk.intend("r1", "s", "1", lease_ms=0)
    unknown = letter("r1", stage="post", target="ledger", code="OUTCOME_UNKNOWN", category=TECHNICAL)
    await desk.ledger.record(Entry(dead=[unknown]))
    assert await desk.intend("r2", "s", "2") == "blocked"


async def test_an_older_revision_that_died_before_it_was_routed_is_superseded_by_the_posted_one(
    database: Database, desk: Desk
) -> None:
    await two_revisions(database)
    await desk.ledger.record(Entry(dead=[letter("r1", stage="enrich")]))
    assert await desk.post("r2", "s", "2") is None
    assert await state_of(database, "r1") == "superseded"


async def test_what_the_target_was_found_to_hold_no_longer_is_not_replaced(database: Database, desk: Desk) -> None:
    await two_revisions(database)
    await desk.post("r1", "s", "1")
    await desk.ledger.record(Entry(dead=[letter("r1", stage="reconcile", target="ledger", code="NOT_IN_TARGET")]))
    assert await desk.post("r2", "s", "2") is None


async def test_what_differs_in_the_target_is_replaced_all_the_same(database: Database, desk: Desk) -> None:
    await two_revisions(database)
    await desk.post("r1", "s", "1")
    await desk.ledger.record(Entry(dead=[letter("r1", stage="reconcile", target="ledger", code="DRIFT")]))
    assert await desk.post("r2", "s", "2") == document("r1", subject="s").reference
    assert await state_of(database, "r1") == "superseded"


@pytest.mark.parametrize(("state", "status"), [("discarded", "superseded"), ("duplicate", "duplicate")])
async def test_a_record_that_has_ended_is_not_sent(state: str, status: str, database: Database, desk: Desk) -> None:
    await accept(database, state=state)
    assert await desk.intend("r1", "r1", "1") == status
    assert await rows(database, deliveries) == []


async def test_the_amount_that_is_sent_is_the_deliverys_amount(database: Database, desk: Desk) -> None:
    await accept(database)
    await desk.ledger.record(
        Entry(
            deliveries=[
                NewDelivery(
                    record_id="r1",
                    target="ledger",
                    posting_key=document().reference,
                    amount=Money.of_minor(1, "EUR"),
                )
            ]
        )
    )
    await desk.postings.intend("r1", document(money=Money.of_minor(2500, "CHF")), MINUTE_MS)
    row = await delivery_of(database)
    assert (row["currency"], row["amount_minor"]) == ("CHF", 2500)


async def test_a_parked_record_goes_on_when_its_master_data_is_answered(database: Database, desk: Desk) -> None:
    await accept(database, "p1", document_type="project.v1")
    for record_id, key in [("r1", "project.v1:P-1"), ("r2", "project.v1:P-2")]:
        await accept(database, record_id)
        await desk.ledger.record(Entry(parkings=[parking(record_id, key)]))
    project = document("p1", target="masterdata", document_type="project.v1", body={"type": "project.v1", "id": "P-1"})
    await desk.postings.intend("p1", project, 0)
    await desk.postings.answer("p1", project, receipt())
    assert (await state_of(database, "r1"), await state_of(database, "r2")) == ("in_flight", "parked")
    assert [row["record_id"] for row in await rows(database, parked)] == ["r2"]
    (announced,) = desk.announced
    assert (announced.stage, announced.lane, announced.body) == ("enrich", "live", parking("r1").message)
    assert [row["number"] for row in await rows(database, outbox)] == [announced.number]
    assert [(row["record_id"], row["outcome"]) for row in await rows(database, steps)] == [("r1", "released")]
    await desk.postings.answer("p1", project, receipt())
    assert len(await rows(database, outbox)) == 1


async def test_a_document_for_another_target_releases_nobody(database: Database, desk: Desk) -> None:
    await accept(database, "p1", document_type="project.v1")
    await accept(database, "r1")
    await desk.ledger.record(Entry(parkings=[parking("r1")]))
    project = document("p1", target="ledger", document_type="project.v1", body={"id": "P-1"})
    await desk.postings.intend("p1", project, 0)
    await desk.postings.answer("p1", project, receipt())
    assert (await state_of(database, "r1"), desk.announced) == ("parked", [])


async def test_two_workers_that_intend_the_same_at_once_get_one_go_ahead(desk: Desk, other_desk: Desk) -> None:
    names = [f"r{number}" for number in range(25)]
    for name in names:
        await accept(desk.db, name)
    answers = await asyncio.gather(
        *(one.intend(name, name, "1") for name in names for one in (desk, other_desk)),
    )
    pairs = list(zip(answers[::2], answers[1::2], strict=True))
    assert [sorted(pair) for pair in pairs] == [["leased", "new"]] * 25


async def test_two_revisions_intended_at_once_by_two_workers_take_their_turn(desk: Desk, other_desk: Desk) -> None:
    for number in range(25):
        await accept(desk.db, f"a{number}", subject=f"s{number}", revision="1")
        await accept(desk.db, f"b{number}", subject=f"s{number}", revision="2")
    older = [desk.intend(f"a{number}", f"s{number}", "1") for number in range(25)]
    newer = [other_desk.intend(f"b{number}", f"s{number}", "2") for number in reversed(range(25))]
    answers = await asyncio.gather(*older, *newer)
    pairs = set(zip(answers[:25], reversed(answers[25:]), strict=True))
    assert pairs <= {("new", "leased"), ("superseded", "new")}
    called = [row["posting_key"] for row in await rows(desk.db, deliveries) if row["intent_at"] is not None]
    assert len(called) == 25


async def test_answers_and_entries_about_the_same_records_do_not_lock_each_other_out(
    desk: Desk, other_desk: Desk
) -> None:
    names = [f"r{number}" for number in range(25)]
    for name in names:
        await accept(desk.db, name)
    await asyncio.gather(*(desk.intend(name, name, "1") for name in names))
    done = [StateChange(record_id=name, state="reconciled", target="ledger") for name in names]
    await asyncio.gather(
        *(desk.postings.answer(name, document(name), receipt()) for name in names),
        *(other_desk.ledger.record(Entry(states=[change])) for change in reversed(done)),
        other_desk.ledger.record(Entry(states=done)),
    )
    assert {row["state"] for row in await rows(desk.db, records)} <= {"posted", "reconciled"}


async def test_a_delivery_requeued_by_a_person_is_asked_about_before_it_is_sent(database: Database, desk: Desk) -> None:
    await accept(database)
    await desk.intend("r1", "r1", "1", lease_ms=0)
    unknown = letter(stage="post", target="ledger", code="OUTCOME_UNKNOWN", category=TECHNICAL)
    await desk.ledger.record(Entry(dead=[unknown]))
    async with database.begin() as connection:
        await connection.execute(update(dead_letters).values(status="requeued"))
    await desk.ledger.record(Entry(states=[StateChange(record_id="r1", state="in_flight", target="ledger")]))
    assert await desk.intend("r1", "r1", "1") == "in_doubt"
