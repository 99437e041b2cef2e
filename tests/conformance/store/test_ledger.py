"""The ledger's writer, on SQLite and PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import event, text, update

from contracts.failure import TECHNICAL
from contracts.money import NOTHING, Money, UnknownCurrency
from pipeline.entries import Entry, NewDelivery, StateChange, Step, Valuation
from pipeline.errors import TransientError
from store.database import Database
from store.ledger import LedgerWriter
from store.standing import UnknownRecord
from store.tables import dead_letters, deliveries, parked, records, steps
from tests.conformance.store.ledger_cases import TEN_EUROS, accept, delivery_of, letter, parking, rows, state_of


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[LedgerWriter]:
    writer = LedgerWriter(database, worker="w1", rows_max=1000)
    await writer.start()
    yield writer
    await writer.close()


def a_step(record_id: str = "r1", stage: str = "validate", outcome: str = "passed", detail: str | None = None) -> Step:
    return Step(record_id=record_id, stage=stage, outcome=outcome, detail=detail)


def a_delivery(record_id: str = "r1", target: str = "ledger") -> NewDelivery:
    return NewDelivery(record_id=record_id, target=target, posting_key=f"{target}/{record_id}", amount=TEN_EUROS)


def becomes(state: str, record_id: str = "r1", target: str | None = None) -> Entry:
    return Entry(states=[StateChange(record_id=record_id, state=state, target=target)])


async def open_letters(database: Database) -> list[str]:
    return [row["id"] for row in await rows(database, dead_letters) if row["status"] == "open"]


async def test_a_step_is_written_with_its_worker_and_told_again_when_it_happens_again(
    database: Database, ledger: LedgerWriter
) -> None:
    await ledger.record(Entry(steps=[a_step()]))
    await ledger.record(Entry(steps=[a_step()]))
    told = await rows(database, steps)
    assert [(row["record_id"], row["stage"], row["outcome"], row["worker"]) for row in told] == [
        ("r1", "validate", "passed", "w1")
    ] * 2


async def test_entries_of_many_callers_share_transactions(database: Database, ledger: LedgerWriter) -> None:
    commits = 0

    def committed(_connection: object) -> None:
        nonlocal commits
        commits += 1

    event.listen(database._writes.sync_engine, "commit", committed)
    await asyncio.gather(*(ledger.record(Entry(steps=[a_step(f"r{number}")])) for number in range(300)))
    assert commits <= 3
    assert len(await rows(database, steps)) == 300


async def test_a_group_is_bounded_by_rows(database: Database) -> None:
    ledger = LedgerWriter(database, worker="w1", rows_max=10)
    commits = 0

    def committed(_connection: object) -> None:
        nonlocal commits
        commits += 1

    event.listen(database._writes.sync_engine, "commit", committed)
    await asyncio.gather(*(ledger.record(Entry(steps=[a_step()])) for _ in range(100)))
    assert commits == 10
    await ledger.record(Entry(steps=[a_step() for _ in range(25)]))
    assert len(await rows(database, steps)) == 125
    await ledger.close()


async def test_only_the_caller_of_a_bad_entry_gets_the_error(database: Database, ledger: LedgerWriter) -> None:
    await accept(database)
    entries = [Entry(steps=[a_step(f"r{number}")]) for number in range(40)]
    entries[7] = Entry(steps=[a_step("bad")], deliveries=[a_delivery("nobody")])
    entries[23] = Entry(steps=[a_step("worse" * 100)], deliveries=[a_delivery("nobody")])
    results = await asyncio.gather(*(ledger.record(entry) for entry in entries), return_exceptions=True)
    assert [number for number, result in enumerate(results) if result is not None] == [7, 23]
    assert isinstance(results[7], UnknownRecord)
    assert {row["record_id"] for row in await rows(database, steps)} == {f"r{n}" for n in range(40) if n not in (7, 23)}


async def test_an_amount_that_cannot_be_counted_is_its_own_callers_error(
    database: Database, ledger: LedgerWriter
) -> None:
    await accept(database)
    bad = Entry(valuations=[Valuation(record_id="r1", amount=Money(amount=TEN_EUROS.amount, currency="QQQ"))])
    good, refused = await asyncio.gather(
        ledger.record(Entry(steps=[a_step()])), ledger.record(bad), return_exceptions=True
    )
    assert good is None
    assert isinstance(refused, UnknownCurrency)


async def test_a_text_that_a_database_refuses_is_told_all_the_same(database: Database, ledger: LedgerWriter) -> None:
    await accept(database)
    await ledger.record(Entry(steps=[a_step(detail="nul \0, half \ud800")], dead=[letter(message="nul \0")]))
    assert [row["detail"] for row in await rows(database, steps)] == ["nul ?, half ?"]
    assert await open_letters(database) == ["r1-enrich-None"]


async def cut_off_whoever_waits_for_a_lock(database: Database) -> int:
    """Returns how many connections were terminated; each call looks afresh, in a transaction of its own."""
    async with database.begin() as connection:
        found = await connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
        )
        return len(found.all())


async def test_a_lost_database_is_everybodys_transient_error_and_nothing_is_half_written(
    migrated_postgresql_url: str,
) -> None:
    database = await Database.open(migrated_postgresql_url)
    ledger = LedgerWriter(database, worker="w1", rows_max=1000)
    async with database.begin() as blocker:
        await blocker.execute(text("LOCK TABLE steps IN ACCESS EXCLUSIVE MODE"))
        waiting = [asyncio.ensure_future(ledger.record(Entry(steps=[a_step()]))) for _ in range(20)]
        while not await cut_off_whoever_waits_for_a_lock(database):
            pass
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(result) for result in results} == {TransientError}
    assert await rows(database, steps) == []
    await ledger.record(Entry(steps=[a_step()]))
    assert len(await rows(database, steps)) == 1
    await ledger.close()
    await database.close()


async def test_closing_commits_what_was_taken_on_and_refuses_the_rest(database: Database) -> None:
    ledger = LedgerWriter(database, worker="w1", rows_max=3)
    waiting = [asyncio.ensure_future(ledger.record(Entry(steps=[a_step()]))) for _ in range(10)]
    await asyncio.sleep(0)
    await ledger.close()
    await asyncio.gather(*waiting)
    assert len(await rows(database, steps)) == 10
    with pytest.raises(TransientError, match="closing"):
        await ledger.record(Entry(steps=[a_step()]))


async def test_a_routed_record_stands_where_its_least_done_delivery_stands(
    database: Database, ledger: LedgerWriter
) -> None:
    await accept(database)
    await ledger.record(Entry(deliveries=[a_delivery(target="ledger"), a_delivery(target="billing")]))
    seen = [await state_of(database)]
    for target, state in [("ledger", "posted"), ("billing", "dead"), ("billing", "in_flight"), ("billing", "posted")]:
        await ledger.record(becomes(state, target=target))
        seen.append(await state_of(database))
    await ledger.record(becomes("reconciled", target="ledger"))
    seen.append(await state_of(database))
    await ledger.record(becomes("reconciled", target="billing"))
    seen.append(await state_of(database))
    assert seen == ["in_flight", "in_flight", "dead", "in_flight", "posted", "posted", "reconciled"]


async def test_a_delivery_announced_twice_is_one_delivery(database: Database, ledger: LedgerWriter) -> None:
    await accept(database)
    await ledger.record(Entry(deliveries=[a_delivery()]))
    await ledger.record(becomes("posted", target="ledger"))
    await ledger.record(Entry(deliveries=[a_delivery()]))
    assert [(row["state"], row["amount_minor"]) for row in await rows(database, deliveries)] == [("posted", 1000)]


@pytest.mark.parametrize("state", ["duplicate", "superseded", "discarded"])
async def test_a_late_copy_does_not_route_a_record_that_has_ended(
    state: str, database: Database, ledger: LedgerWriter
) -> None:
    await accept(database, state=state)
    await ledger.record(Entry(deliveries=[a_delivery()]))
    assert await rows(database, deliveries) == []
    assert await state_of(database) == state


async def test_a_change_about_a_delivery_may_come_before_the_delivery(database: Database, ledger: LedgerWriter) -> None:
    await accept(database)
    await ledger.record(Entry(dead=[letter(stage="post", target="ledger", code="UNEXPECTED_ERROR")]))
    await ledger.record(Entry(deliveries=[a_delivery()]))
    assert [row["state"] for row in await rows(database, deliveries)] == ["dead"]
    assert await state_of(database) == "dead"


async def test_changes_of_one_group_follow_each_other(database: Database, ledger: LedgerWriter) -> None:
    await accept(database)
    entries = [Entry(deliveries=[a_delivery()])]
    entries += [becomes(state, target="ledger") for state in ("in_doubt", "posted", "in_flight", "reconciled")]
    await asyncio.gather(*(ledger.record(entry) for entry in entries))
    assert await state_of(database) == "reconciled"


async def test_a_dead_letter_opens_with_its_cause_worth_and_legal_entity(
    database: Database, ledger: LedgerWriter
) -> None:
    await accept(database)
    body = b'{"document": {"type": "expense.v1"}, "attribution": {"legal_entity": "ACME-DE"}}'
    await ledger.record(Entry(dead=[letter(body=body)], states=[StateChange(record_id="r1", state="dead")]))
    (row,) = await rows(database, dead_letters)
    assert (row["status"], row["cause"], row["legal_entity"]) == ("open", "RATE_MISSING: no rate on <date>", "ACME-DE")
    assert (row["currency"], row["amount_minor"], row["requeues"]) == ("EUR", 1000, 0)
    assert await state_of(database) == "dead"


async def test_a_requeued_letter_that_fails_again_is_open_again_with_its_story(
    database: Database, ledger: LedgerWriter
) -> None:
    await accept(database)
    await ledger.record(Entry(dead=[letter()]))
    async with database.begin() as connection:
        await connection.execute(update(dead_letters).values(status="requeued", requeues=1))
        await connection.execute(update(records).values(state="in_flight"))
    await ledger.record(Entry(dead=[letter(attempts=3)]))
    (row,) = await rows(database, dead_letters)
    assert (row["status"], row["requeues"], row["attempts"]) == ("open", 1, 3)


async def test_a_record_has_one_open_letter(database: Database, ledger: LedgerWriter) -> None:
    await accept(database)
    await ledger.record(Entry(dead=[letter(stage="validate")]))
    await ledger.record(Entry(dead=[letter(stage="enrich")]))
    assert await open_letters(database) == ["r1-enrich-None"]


async def test_a_letter_about_no_record_of_ours_is_kept_open(database: Database, ledger: LedgerWriter) -> None:
    await ledger.record(Entry(dead=[letter("stranger")]))
    assert await open_letters(database) == ["stranger-enrich-None"]


@pytest.mark.parametrize("state", ["submitted", "posted", "reconciled"])
async def test_a_late_death_of_a_posted_delivery_changes_nothing_and_leaves_no_open_letter(
    state: str, database: Database, ledger: LedgerWriter
) -> None:
    await accept(database)
    await ledger.record(Entry(deliveries=[a_delivery()]))
    await ledger.record(becomes(state, target="ledger"))
    late = [
        Entry(dead=[letter(stage="validate")], states=[StateChange(record_id="r1", state="dead")]),
        Entry(
            dead=[letter(stage="post", target="ledger", code="RETRIES_EXHAUSTED", category=TECHNICAL)],
            states=[StateChange(record_id="r1", state="dead", target="ledger")],
        ),
    ]
    for entry in late:
        await ledger.record(entry)
    assert await state_of(database) == state
    assert [row["status"] for row in await rows(database, dead_letters)] == ["resolved", "resolved"]


async def test_a_difference_found_by_reading_back_does_kill_a_posted_delivery(
    database: Database, ledger: LedgerWriter
) -> None:
    await accept(database)
    await ledger.record(Entry(deliveries=[a_delivery()]))
    await ledger.record(becomes("posted", target="ledger"))
    await ledger.record(
        Entry(
            dead=[letter(stage="reconcile", target="ledger", code="DRIFT")],
            states=[StateChange(record_id="r1", state="dead", target="ledger")],
        )
    )
    assert await state_of(database) == "dead"
    assert await open_letters(database) == ["r1-reconcile-ledger"]


async def test_a_record_that_leaves_dead_resolves_its_letter(database: Database, ledger: LedgerWriter) -> None:
    await accept(database)
    await ledger.record(Entry(dead=[letter()]))
    await ledger.record(becomes("superseded"))
    assert (await state_of(database), await open_letters(database)) == ("superseded", [])


async def test_a_death_overtaken_in_its_own_group_leaves_no_open_letter(
    database: Database, ledger: LedgerWriter
) -> None:
    await accept(database)
    await asyncio.gather(ledger.record(Entry(dead=[letter()])), ledger.record(becomes("superseded")))
    assert (await state_of(database), await open_letters(database)) == ("superseded", [])


async def test_parking_keeps_the_message_with_its_own_lane(database: Database, ledger: LedgerWriter) -> None:
    await accept(database)
    await ledger.record(Entry(parkings=[parking()], states=[StateChange(record_id="r1", state="parked")]))
    (row,) = await rows(database, parked)
    assert (row["key"], row["stage"], row["lane"], row["target"]) == ("project.v1:P-1", "enrich", "live", "")
    assert row["body"] == parking().message
    assert await state_of(database) == "parked"


async def test_parking_again_waits_for_the_newer_key(database: Database, ledger: LedgerWriter) -> None:
    await accept(database)
    await ledger.record(Entry(parkings=[parking()]))
    await ledger.record(Entry(parkings=[parking(key="worker.v1:W-1")]))
    assert [row["key"] for row in await rows(database, parked)] == ["worker.v1:W-1"]


@pytest.mark.parametrize("state", ["dead", "duplicate", "superseded", "discarded"])
async def test_a_parking_that_comes_too_late_leaves_nothing_behind(
    state: str, database: Database, ledger: LedgerWriter
) -> None:
    await accept(database, state=state)
    await ledger.record(Entry(parkings=[parking()]))
    assert (await state_of(database), await rows(database, parked)) == (state, [])


async def test_a_parked_record_that_moves_on_leaves_nothing_behind(database: Database, ledger: LedgerWriter) -> None:
    for number, after in enumerate([becomes("duplicate", "r0"), Entry(dead=[letter("r1")])]):
        await accept(database, f"r{number}")
        await ledger.record(Entry(parkings=[parking(f"r{number}")]))
        await ledger.record(after)
    await accept(database, "r2")
    await ledger.record(Entry(parkings=[parking("r2")]))
    await ledger.record(Entry(deliveries=[a_delivery("r2")]))
    assert await rows(database, parked) == []


async def test_flags_add_up(database: Database, ledger: LedgerWriter) -> None:
    await accept(database)
    await ledger.record(Entry(flags={"r1": ("POSSIBLE_DUPLICATE",)}))
    await ledger.record(Entry(flags={"r1": ("LATE", "POSSIBLE_DUPLICATE")}))
    assert [row["flags"] for row in await rows(database, records)] == ["POSSIBLE_DUPLICATE,LATE"]


async def test_a_record_is_valued_until_it_is_routed(database: Database, ledger: LedgerWriter) -> None:
    def worth(minor: int) -> Entry:
        return Entry(valuations=[Valuation(record_id="r1", amount=Money.of_minor(minor, "CHF"))])

    async def value() -> tuple[str, int]:
        (row,) = await rows(database, records)
        return row["currency"], row["amount_minor"]

    await accept(database, money=NOTHING)
    await ledger.record(worth(500))
    assert await value() == ("CHF", 500)
    await ledger.record(Entry(valuations=[Valuation(record_id="r1", amount=NOTHING)]))
    assert await value() == ("CHF", 500)
    await ledger.record(Entry(deliveries=[a_delivery()]))
    await ledger.record(worth(999))
    assert await value() == ("CHF", 500)


async def test_a_valuation_that_arrives_after_the_posting_still_counts_once(
    database: Database, ledger: LedgerWriter
) -> None:
    await accept(database, money=NOTHING)
    await ledger.record(Entry(deliveries=[a_delivery()]))
    await ledger.record(becomes("posted", target="ledger"))
    await ledger.record(Entry(valuations=[Valuation(record_id="r1", amount=TEN_EUROS)]))
    (row,) = await rows(database, records)
    assert (row["currency"], row["amount_minor"]) == ("EUR", 1000)


async def test_a_person_discards_a_record_with_all_its_dead_deliveries(
    database: Database, ledger: LedgerWriter
) -> None:
    await accept(database)
    await ledger.record(Entry(deliveries=[a_delivery(target="ledger"), a_delivery(target="billing")]))
    for target in ("ledger", "billing"):
        await ledger.record(Entry(dead=[letter(stage="post", target=target)]))
    await ledger.record(becomes("discarded"))
    assert {row["state"] for row in await rows(database, deliveries)} == {"discarded"}
    assert (await state_of(database), await open_letters(database)) == ("discarded", [])


async def test_two_processes_that_write_about_the_same_records_do_not_lock_each_other_out(
    database: Database, migrated_url: str
) -> None:
    names = [f"r{number}" for number in range(30)]
    for name in names:
        await accept(database, name)
    other = await Database.open(migrated_url)
    writers = [LedgerWriter(database, worker="w1", rows_max=40), LedgerWriter(other, worker="w2", rows_max=40)]
    entries = [[Entry(steps=[a_step(name)], deliveries=[a_delivery(name)]) for name in names]] * 2
    await asyncio.gather(
        *(writers[0].record(entry) for entry in entries[0]),
        *(writers[1].record(entry) for entry in reversed(entries[1])),
    )
    assert len(await rows(database, deliveries)) == 30
    assert len(await rows(database, steps)) == 60
    assert (await delivery_of(database, "r0"))["state"] == "in_flight"
    for writer in writers:
        await writer.close()
    await other.close()
