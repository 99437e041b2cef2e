"""The balance: it holds for what the ledger does, and each check notices what it is there to notice."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from contracts.money import NO_CURRENCY, Money
from pipeline.states import STATES
from store.balance import BalanceSheet, balance, in_flight_older_than, target_totals, throughput
from store.dead_letters import DeadLetters
from store.tables import dead_letters, deliveries, parked, records, rejects, runs, steps
from tests.conformance.store.given import Given, a_letter, a_record, a_reject, continuation, euros


async def a_busy_day(given: Given) -> None:
    """Records in many states, two types, two currencies, one of them with two targets."""
    names = [
        "flying",
        "parked",
        "dead",
        "posted",
        "reconciled",
        "submitted",
        "duplicate",
        "superseded",
        "both",
        "again",
    ]
    made = {name: a_record(name, amount="10.01") for name in names}
    dollars = a_record("dollars", money=Money(amount=euros("7.50").amount, currency="USD"))
    await given.accepted(*made.values(), dollars, rejects=[a_reject(20, "5.55")])
    await given.accepted(a_record("flying", amount="10.01"))
    await given.accepted(
        a_record("P-1", document_type="project.v1", money=Money(amount=euros(0).amount, currency="XXX"))
    )
    await given.parked(made["parked"])
    await given.dead(a_letter(made["dead"]), a_letter(made["again"]))
    await given.posted(made["posted"])
    await given.posted(made["reconciled"])
    await given.state("reconciled", made["reconciled"], target="ledger")
    await given.posted(made["submitted"], state="submitted")
    await given.state("duplicate", made["duplicate"])
    await given.state("superseded", made["superseded"])
    await given.routed(made["both"], "ledger", "payroll")
    await given.posted(made["both"], "payroll")
    await given.dead(a_letter(made["both"], stage="post", target="ledger"))
    archive = DeadLetters(given.db, given.outbox)
    await archive.requeue(["dead-again-1--enrich"], "ann", "again", continuation)
    await archive.archive_raw("raw", b"\xff", {}, stage="post", message="no batch", cause="UNDECODABLE")


def sheet_of(sheets: list[BalanceSheet], document_type: str, currency: str) -> BalanceSheet:
    (sheet,) = [sheet for sheet in sheets if (sheet.document_type, sheet.currency) == (document_type, currency)]
    return sheet


async def change(given: Given, statement: Any) -> None:
    async with given.db.begin() as connection:
        await connection.execute(statement)


async def test_it_holds_in_count_and_in_money_for_whatever_the_ledger_does(given: Given) -> None:
    await a_busy_day(given)

    sheets = await balance(given.db)

    assert [(sheet.document_type, sheet.currency) for sheet in sheets] == [
        ("expense.v1", "EUR"),
        ("expense.v1", "USD"),
        ("project.v1", NO_CURRENCY),
    ]
    assert [sheet.findings for sheet in sheets] == [(), (), ()]
    for sheet in sheets:
        assert sheet.counts["read"] == sheet.counts["accepted"] + sheet.counts["rejected"]
        assert sheet.counts["accepted"] == sum(sheet.counts[state] for state in STATES)
        assert sheet.amounts["accepted"].amount == sum(sheet.amounts[state].amount for state in STATES)


async def test_a_sheet_as_json_has_counts_and_decimal_strings(given: Given) -> None:
    await a_busy_day(given)

    sheet = sheet_of(await balance(given.db, {"expense.v1": 2}), "expense.v1", "EUR").to_json()

    assert sheet == {
        "document_type": "expense.v1",
        "currency": "EUR",
        "read": 11,
        "rejected": 1,
        "accepted": 10,
        "in_flight": 2,
        "parked": 1,
        "dead": 2,
        "in_doubt": 0,
        "submitted": 1,
        "posted": 1,
        "reconciled": 1,
        "duplicate": 1,
        "superseded": 1,
        "discarded": 0,
        "amounts": {
            "read": "105.65",
            "rejected": "5.55",
            "accepted": "100.10",
            "in_flight": "20.02",
            "parked": "10.01",
            "dead": "20.02",
            "in_doubt": "0.00",
            "submitted": "10.01",
            "posted": "10.01",
            "reconciled": "10.01",
            "duplicate": "10.01",
            "superseded": "10.01",
            "discarded": "0.00",
        },
        "balanced": True,
        "stranded": 2,
        "findings": [],
    }


async def test_an_empty_ledger_has_no_sheets(given: Given) -> None:
    assert await balance(given.db) == []


def _of(subject: str) -> Any:
    return select(records.c.id).where(records.c.subject == subject).scalar_subquery()


#: What somebody might do to the tables, and the sentence that must come of it.
VIOLATIONS: dict[str, tuple[Callable[[], Any], str]] = {
    "a record that no run accepted": (
        lambda: update(runs).values(accepted=runs.c.accepted - 1, read=runs.c.read - 1),
        "Records the runs accepted: 9; in the ledger: 11.",
    ),
    "a reject that is gone": (lambda: delete(rejects), "Rows the runs rejected: 1; listed: 0."),
    "a row that became nothing": (
        lambda: update(runs).where(runs.c.read > 5).values(read=runs.c.read + 1),
        "Rows the runs read: 14; what became of them: accepted 11, seen before 1, rejected 1.",
    ),
    "a dead letter that is gone": (
        lambda: delete(dead_letters).where(dead_letters.c.record_id == _of("dead")),
        "Dead records without an open dead letter: 1.",
    ),
    "an open letter of a record that moved on": (
        lambda: update(dead_letters).where(dead_letters.c.record_id == _of("again")).values(status="open"),
        "Open dead letters of records that are not dead: 1.",
    ),
    "an open letter of a delivery that moved on": (
        lambda: update(deliveries).where(deliveries.c.target == "ledger").values(state="discarded"),
        "Open dead letters of records that are not dead: 1.",
    ),
    "a parked message that is gone": (
        lambda: delete(parked),
        "Parked records without a message to continue with: 1.",
    ),
    "a parked message of a record that moved on": (
        lambda: update(records).where(records.c.subject == "parked").values(state="in_flight"),
        "Parked messages of records that are not parked: 1.",
    ),
    "a posting that the target never answered": (
        lambda: update(deliveries).where(deliveries.c.record_id == _of("posted")).values(answered_at=None),
        "Deliveries that count as posted without the target's answer: 1.",
    ),
    "a posted record without a delivery": (
        lambda: update(records).where(records.c.subject == "flying").values(state="posted"),
        "Records that count as posted without an answer of a target: 1.",
    ),
    "a second posting key for the same target": (
        lambda: insert(deliveries).values(
            posting_key="ledger/another",
            record_id=_of("posted"),
            target="ledger",
            state="posted",
            currency="EUR",
            amount_minor=1001,
            answered_at=datetime.now(UTC),
            changed_at=datetime.now(UTC),
        ),
        "Records with several posting keys for one target: 1.",
    ),
    "a record counted elsewhere than its deliveries": (
        lambda: update(records).where(records.c.subject == "submitted").values(state="reconciled"),
        "Records not counted under the least done of their deliveries: 1.",
    ),
    "a state that does not exist": (
        lambda: update(records).where(records.c.subject == "flying").values(state="lost"),
        "EUR records in a state that does not exist (lost): 1.",
    ),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
async def test_the_balance_does_not_hold_with(given: Given, violation: str) -> None:
    statement, sentence = VIOLATIONS[violation]
    await a_busy_day(given)
    await change(given, statement())

    sheet = sheet_of(await balance(given.db), "expense.v1", "EUR")

    assert sentence in sheet.findings
    assert not sheet.balanced
    assert sheet.to_json()["balanced"] is False


async def test_a_type_of_which_nothing_is_left_but_a_finding_has_a_sheet(given: Given) -> None:
    run_id = await given.a_run("worker.v1")
    await change(given, update(runs).where(runs.c.id == run_id).values(read=4, accepted=4))

    (sheet,) = await balance(given.db)

    assert (sheet.document_type, sheet.currency, sheet.balanced) == ("worker.v1", NO_CURRENCY, False)
    assert sheet.findings == ("Records the runs accepted: 4; in the ledger: 0.",)


async def test_a_target_holds_what_it_answered_for_wherever_it_stands_now(given: Given) -> None:
    await a_busy_day(given)
    drifted = a_record("drifted", amount="100")
    await given.accepted(drifted)
    await given.posted(drifted)
    await given.dead(a_letter(drifted, stage="reconcile", target="ledger"))
    replaced = a_record("replaced", amount="1000")
    await given.accepted(replaced)
    await given.posted(replaced)
    await given.state("superseded", replaced, target="ledger")

    (total,) = await target_totals(given.db, "ledger")

    assert (total.document_type, total.count, total.amount) == ("expense.v1", 4, euros("130.03"))
    assert [total.count for total in await target_totals(given.db, "payroll")] == [1]
    assert await target_totals(given.db, "nowhere") == []


async def test_what_has_been_in_flight_for_long_is_counted(given: Given) -> None:
    await given.accepted(a_record("old"), a_record("new"), a_record("done"))
    await given.state("duplicate", a_record("done"))
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    await change(given, update(records).where(records.c.subject != "new").values(changed_at=an_hour_ago))

    assert await in_flight_older_than(given.db, 1800) == {"expense.v1": 1}
    assert await in_flight_older_than(given.db, 7200) == {}


async def test_throughput_counts_the_steps_of_the_last_seconds(given: Given) -> None:
    record = a_record("E-1")
    await given.accepted(record)
    await change(given, update(steps).values(at=datetime.now(UTC) - timedelta(hours=1)))
    for _ in range(3):
        await given.step(record, "validate")
    await given.step(record, "enrich", "dead")

    rates = await throughput(given.db, 60)

    assert [(rate.stage, rate.outcome, rate.count, rate.per_second) for rate in rates] == [
        ("enrich", "dead", 1, 1 / 60),
        ("validate", "passed", 3, 3 / 60),
    ]


async def test_it_holds_at_every_moment_while_others_write(given: Given) -> None:
    async def write(part: str) -> None:
        for number in range(15):
            record = a_record(f"{part}-{number}")
            await given.accepted(record)
            await given.dead(a_letter(record))

    writers = asyncio.gather(*(write(part) for part in "abc"))
    seen: list[tuple[str, ...]] = []
    while not writers.done():
        seen += [sheet.findings for sheet in await balance(given.db)]
    await writers

    assert set(seen) == {()}
