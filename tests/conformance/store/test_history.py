"""History: what a stage is told about a record's other revisions and its neighbours."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from pipeline.history import History
from store import history as history_module
from store.history import HistoryKey, HistoryReader
from store.intake import AcceptedRecord
from store.statements import BY_KEY, Call, Rows, ask
from tests.conformance.store.given import Given, a_record


def keys(*records: AcceptedRecord) -> list[HistoryKey]:
    return [
        HistoryKey(
            record_id=record.id, source=record.source, document_type=record.document_type, subject=record.subject
        )
        for record in records
    ]


async def history_of(given: Given, record: AcceptedRecord) -> History:
    return (await HistoryReader(given.db).of(keys(record)))[record.id]


@contextmanager
def statements() -> Iterator[list[Call]]:
    """Every statement that a history is read with meanwhile."""
    sent: list[Call] = []

    async def listening(connection: AsyncConnection, *calls: Call) -> list[Rows]:
        sent.extend(call for call in calls if call is not BY_KEY)
        return await ask(connection, *calls)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(history_module, "ask", listening)
        yield sent


def hours(subject: str, value: str, day: str = "W-1|2026-03-02", revision: str = "1") -> AcceptedRecord:
    return a_record(subject, revision, worker_day=day, hours=Decimal(value), document_type="time_entry.v1")


async def test_revisions_stand_in_their_order_whatever_order_they_came_in(given: Given) -> None:
    tenth, second, other = a_record("E-1", "10"), a_record("E-1", "2"), a_record("E-2", "5")
    elsewhere = a_record("E-1", "3", source="netsuite")
    await given.accepted(tenth, other, elsewhere)
    await given.accepted(second)
    await given.state("superseded", second)

    found = await history_of(given, tenth)

    assert [(one.revision, one.record_id, one.state) for one in found.revisions] == [
        ("2", second.id, "superseded"),
        ("10", tenth.id, "in_flight"),
    ]
    assert found.revisions[1].fingerprint == "E-1/10"


async def test_neighbours_with_the_same_business_key_are_named_but_not_other_revisions(given: Given) -> None:
    first, again = a_record("E-1", business_key="k"), a_record("E-1", "2", business_key="k")
    neighbour, other = a_record("E-2", business_key="k"), a_record("E-3", business_key="other")
    settled = a_record("E-4", business_key="k")
    await given.accepted(first, again, neighbour, other, settled)
    await given.state("duplicate", settled)

    assert (await history_of(given, first)).same_business == (neighbour.id,)
    assert (await history_of(given, other)).same_business == ()


async def test_of_many_neighbours_a_few_are_named(given: Given) -> None:
    many = [a_record(f"E-{number}", business_key="k") for number in range(history_module.same_business_max + 5)]
    await given.accepted(*many)

    found = await history_of(given, many[0])

    assert found.same_business == tuple(one.id for one in many[1 : history_module.same_business_max + 1])


async def test_a_day_counts_entries_in_the_order_they_were_accepted(given: Given) -> None:
    first, second, other_day = hours("T-1", "8"), hours("T-2", "7.5"), hours("T-3", "4", day="W-1|2026-03-03")
    await given.accepted(first, other_day, second)

    found = await history_of(given, second)

    assert [(one.record_id, one.hours) for one in found.same_day] == [
        (first.id, Decimal(8)),
        (second.id, Decimal("7.5")),
    ]
    assert found.same_day[0].accepted_number < found.same_day[1].accepted_number


@pytest.mark.parametrize("state", ["dead", "duplicate", "superseded"])
async def test_entries_that_came_to_nothing_do_not_fill_the_day(given: Given, state: str) -> None:
    gone, stays = hours("T-1", "8"), hours("T-2", "8")
    await given.accepted(gone, stays)
    await given.state(state, gone)

    assert [one.record_id for one in (await history_of(given, stays)).same_day] == [stays.id]


async def test_a_corrected_entry_fills_the_day_once(given: Given) -> None:
    posted, corrected, neighbour = hours("T-1", "14"), hours("T-1", "12", revision="2"), hours("T-2", "8")
    await given.accepted(posted, corrected, neighbour)
    await given.posted(posted)

    assert [one.record_id for one in (await history_of(given, corrected)).same_day] == [corrected.id, neighbour.id]
    assert [one.record_id for one in (await history_of(given, neighbour)).same_day] == [corrected.id, neighbour.id]
    # The overtaken one still finds itself, so that it can be judged.
    assert posted.id in [one.record_id for one in (await history_of(given, posted)).same_day]


async def test_a_correction_that_died_leaves_the_one_before_it_in_force(given: Given) -> None:
    posted, corrected, neighbour = hours("T-1", "14"), hours("T-1", "12", revision="2"), hours("T-2", "8")
    await given.accepted(posted, corrected, neighbour)
    await given.state("dead", corrected)

    assert [one.record_id for one in (await history_of(given, neighbour)).same_day] == [posted.id, neighbour.id]


async def test_a_batch_of_any_size_takes_three_queries(given: Given) -> None:
    many = [a_record(f"T-{n}", business_key=f"b{n % 7}", worker_day=f"w{n}", hours=Decimal(1)) for n in range(900)]
    await given.accepted(*many)
    reader = HistoryReader(given.db)

    with statements() as sent:
        found = await reader.of(keys(*many))

    assert len(sent) == 3
    assert all(found[one.id].same_day[0].record_id == one.id for one in many)


async def test_callers_of_the_same_moment_share_their_queries(given: Given) -> None:
    many = [
        a_record(f"E-{number}", business_key="k", worker_day=f"w{number}", hours=Decimal(1)) for number in range(50)
    ]
    await given.accepted(*many)
    reader = HistoryReader(given.db)

    with statements() as sent:
        found = await asyncio.gather(*(reader.of(keys(one)) for one in many))

    assert len(sent) == 3
    assert [list(one) for one in found] == [[record.id] for record in many]


async def test_a_record_that_nobody_accepted_has_no_history(given: Given) -> None:
    unknown = a_record("E-404")

    assert await history_of(given, unknown) == History(record_id=unknown.id)
    assert await HistoryReader(given.db).of([]) == {}


async def test_a_failed_read_fails_its_callers_and_not_those_after_them(given: Given) -> None:
    record = a_record("E-1", worker_day="w", hours=Decimal(1))
    await given.accepted(record)
    reader = HistoryReader(given.db)
    unreadable = HistoryKey(record_id="x", source="s", document_type="t", subject="half a pair \ud800")

    with pytest.raises(UnicodeEncodeError):
        await reader.of([unreadable])

    assert (await reader.of(keys(record)))[record.id].same_day[0].record_id == record.id
