"""One effect per posting key, whatever overtakes whatever: what a crash, a race or an edit leaves for the next call."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select, text

from contracts.failure import BUSINESS, TECHNICAL
from contracts.money import Money
from pipeline.entries import Entry, StateChange
from store.balance import target_totals
from store.database import Database
from store.dead_letters import DeadLetters
from store.ledger import LedgerWriter
from store.outbox import Outbox, OutboxRow
from store.postings import StorePostings
from store.tables import records
from tests.conformance.store.ledger_cases import accept, delivery_of, document, lease_of, letter, receipt, state_of

MINUTE_MS = 60_000


class Desk:
    """Postings and ledger of one worker."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.postings = StorePostings(db, Outbox(db), worker="w", rows_max=500, on_outbox=self._nobody_waits)
        self.ledger = LedgerWriter(db, worker="w", rows_max=500)

    async def intend(self, record_id: str, subject: str, revision: str, lease_ms: int = MINUTE_MS) -> str:
        wanted = document(record_id, subject=subject, revision=revision)
        return (await self.postings.intend(record_id, wanted, lease_ms)).status

    async def requeued(self, record_id: str = "r1", target: str = "ledger") -> None:
        await self.ledger.record(Entry(states=[StateChange(record_id=record_id, state="in_flight", target=target)]))

    async def close(self) -> None:
        await self.postings.close()
        await self.ledger.close()

    @staticmethod
    def _nobody_waits(released: list[OutboxRow]) -> None:
        assert not released


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Desk]:
    desk = Desk(database)
    yield desk
    await desk.close()


async def until_somebody_waits_for_a_lock(db: Database) -> None:
    statement = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    async with asyncio.timeout(20):
        while True:
            async with db.connect() as connection:
                if await connection.scalar(statement):
                    return
            await asyncio.sleep(0.01)


async def test_a_revision_called_for_while_an_older_one_waits_for_its_locks_is_seen_by_it(
    migrated_postgresql_url: str,
) -> None:
    one, two = Desk(await Database.open(migrated_postgresql_url)), Desk(await Database.open(migrated_postgresql_url))
    try:
        await accept(one.db, "a-neighbour")
        await accept(one.db, "r1", subject="s", revision="1")
        async with two.db.begin() as connection:
            # Somebody holds a record that comes first in the order of locks, as a requeue of many letters does.
            await connection.execute(select(records.c.id).where(records.c.id == "a-neighbour").with_for_update())
            older = asyncio.gather(one.intend("a-neighbour", "a-neighbour", "1"), one.intend("r1", "s", "1"))
            await until_somebody_waits_for_a_lock(two.db)
            await accept(two.db, "r2", subject="s", revision="2")
            assert await two.intend("r2", "s", "2") == "new"
        assert await older == ["new", "superseded"]
    finally:
        for desk in (one, two):
            await desk.close()
            await desk.db.close()


@pytest.mark.parametrize("code", ["INVALID_DOCUMENT", "NO_ROUTE"])
async def test_a_refusal_of_our_own_does_not_make_an_announced_call_forgotten(
    database: Database, desk: Desk, code: str
) -> None:
    await accept(database)
    await desk.intend("r1", "r1", "1")
    await desk.postings.doubt("r1", document(), "no answer for 30 s", await lease_of(database))
    await desk.ledger.record(
        Entry(dead=[letter(stage="post", code="OUTCOME_UNKNOWN", category=TECHNICAL, target="ledger")])
    )
    await desk.requeued()
    # Edited into something that is no document, or its target is not connected today: the target was not even asked.
    await desk.ledger.record(Entry(dead=[letter(stage="post", code=code, category=BUSINESS, target="ledger")]))
    await desk.requeued()
    assert await desk.intend("r1", "r1", "1") == "in_doubt"


async def test_the_target_s_own_refusal_does(database: Database, desk: Desk) -> None:
    await accept(database)
    await desk.intend("r1", "r1", "1")
    await desk.ledger.record(
        Entry(dead=[letter(stage="post", code="TARGET_REFUSED", category=BUSINESS, target="ledger")])
    )
    await desk.requeued()
    assert await desk.intend("r1", "r1", "1") == "new"


async def test_what_was_sent_after_a_doubt_is_counted_with_the_amount_it_was_sent_with(
    database: Database, desk: Desk
) -> None:
    await accept(database)
    await desk.intend("r1", "r1", "1", lease_ms=0)
    # The worker died before the call; meanwhile the rate has changed, and the record was driven again from the start.
    fresh = document(money=Money.of_minor(1200, "EUR"))
    assert (await desk.postings.intend("r1", fresh, 0)).status == "in_doubt"
    await desk.postings.answer("r1", fresh, receipt())
    [total] = await target_totals(database, "ledger")
    assert total.amount == fresh.amount


async def test_a_doubtful_call_says_what_it_was_announced_with(database: Database, desk: Desk) -> None:
    await accept(database)
    await desk.intend("r1", "r1", "1", lease_ms=0)
    intent = await desk.postings.intend("r1", document(money=Money.of_minor(1200, "EUR")), 0)
    assert intent.amount == document().amount


async def test_keys_of_different_records_differ_also_where_their_ids_contain_slashes(
    database: Database, desk: Desk
) -> None:
    await accept(database, "r1", subject="E-1/1", revision="1")
    await accept(database, "r2", subject="E-1", revision="1/1")
    assert await desk.intend("r1", "E-1/1", "1") == "new"
    assert await desk.intend("r2", "E-1", "1/1") == "new"
    assert (await delivery_of(database, "r2"))["intent_at"] is not None


async def test_a_draft_that_was_cancelled_in_the_target_ends(database: Database, desk: Desk) -> None:
    await accept(database)
    await desk.intend("r1", "r1", "1")
    await desk.postings.answer("r1", document(), receipt("D-1", "submitted"))
    await desk.ledger.record(Entry(states=[StateChange(record_id="r1", state="superseded", target="ledger")]))
    assert await state_of(database) == "superseded"


@pytest.mark.parametrize("fingerprint", ["content of r1", "corrected"])
async def test_behind_an_unanswered_call_that_only_a_person_moves_nothing_waits_for_ever_or_is_taken_for_a_duplicate(
    database: Database, desk: Desk, fingerprint: str
) -> None:
    await accept(database, "r1", subject="s", revision="1")
    await accept(database, "r2", subject="s", revision="2", fingerprint=fingerprint)
    await desk.intend("r1", "s", "1")
    assert await desk.intend("r2", "s", "2") == "leased"
    dead = letter(stage="post", code="RETRIES_EXHAUSTED", category=TECHNICAL, target="ledger")
    await desk.ledger.record(Entry(dead=[dead]))
    assert await desk.intend("r2", "s", "2") == "blocked"
    await desk.requeued()
    assert await desk.intend("r2", "s", "2") == "leased"


async def test_what_the_target_may_hold_is_not_discarded_before_it_was_asked(database: Database, desk: Desk) -> None:
    await accept(database)
    await desk.intend("r1", "r1", "1")
    await desk.postings.doubt("r1", document(), "no answer for 30 s", await lease_of(database))
    unanswered = letter(stage="post", code="OUTCOME_UNKNOWN", category=TECHNICAL, target="ledger")
    await desk.ledger.record(
        Entry(dead=[unanswered], states=[StateChange(record_id="r1", state="dead", target="ledger")])
    )
    archive = DeadLetters(database, Outbox(database))
    done = await archive.discard([unanswered.id], "ann", "we gave up")
    assert (done.count, done.skipped) == (0, 1)
    assert await state_of(database) == "dead"
    assert (await archive.show(unanswered.id)).summary.status == "open"
