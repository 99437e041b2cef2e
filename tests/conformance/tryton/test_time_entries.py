"""Time entries in a real Tryton of both series: each once, corrected, taken back, and worth what the hours are."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest

from connectors.tryton import TrytonTarget
from contracts.money import Money
from pipeline.codes import MISSING_ATTRIBUTE, NOT_IN_TARGET, TARGET_REFERENCE_MISSING, TARGET_REFUSED
from pipeline.errors import PermanentError, TransientError
from tests.conformance.tryton.conftest import Open
from tests.conformance.tryton.entries import DAY, WORKER, entry, lines_of, number_in
from tests.conformance.tryton.masters import is_as_sent
from tests.erp.calls import Caller, a_date, an_amount, hours
from tryton import Tryton


async def held(target: TrytonTarget) -> tuple[int, Decimal]:
    """How many documents, and what they are worth."""
    totals = await target.totals()
    return sum(total.count for total in totals), sum((total.amount.amount for total in totals), Decimal(0))


async def refusal(target: TrytonTarget, document: object) -> PermanentError:
    with pytest.raises(PermanentError) as refused:
        await target.post(document)  # type: ignore[arg-type]
    return refused.value


# Once


async def test_an_entry_is_made_once_and_read_back_as_it_was_sent(target: TrytonTarget, name: str, call: Caller):
    document = entry(target=name, note="Design review — Zürich\n second line", hours=Decimal("0.333333"))
    first, second = await target.post(document), await target.post(document)
    assert (first.target_id, first.state) == (second.target_id, "posted")
    assert is_as_sent(await target.find(document.reference), document)
    assert await held(target) == (1, Decimal("1125.00"))
    (line,) = lines_of(call, name)
    assert f"timesheet.line,{line['id']}" == first.target_id
    assert line["description"].startswith("Design review — Zürich second line [tieout ")


async def test_one_entry_from_two_processes_at_once_is_made_once(open_target: Open, name: str, call: Caller):
    ours, theirs = open_target(), open_target()
    document = entry(target=name)
    receipts = await asyncio.gather(*(one.post(document) for one in [ours, theirs] * 10))
    assert len({receipt.target_id for receipt in receipts}) == 1
    assert len(lines_of(call, name)) == 1


async def test_the_same_bulks_from_two_processes_at_once_make_each_entry_once(
    open_target: Open, name: str, call: Caller
):
    ours, theirs = open_target(bulk_max=40), open_target(bulk_max=40)
    documents = [entry(f"TE-{number}", target=name, project=str(number % 3 + 1)) for number in range(120)]
    receipts = await asyncio.gather(
        *(ours.post(document) for document in documents), *(theirs.post(document) for document in reversed(documents))
    )
    assert [one.target_id for one in receipts[:120]] == [one.target_id for one in reversed(receipts[120:])]
    assert len(lines_of(call, name)) == 120


@pytest.mark.parametrize("other", [{"hours": Decimal(8)}, {"amount": "1125.01"}, {"note": "other"}, {"project": "2"}])
async def test_the_same_reference_with_other_content_is_refused_and_the_first_stays(
    target: TrytonTarget, name: str, other: dict[str, object]
):
    document = entry(target=name)
    await target.post(document)
    refused = await refusal(target, entry(target=name, **other))
    assert refused.code == TARGET_REFUSED
    assert "different content" in str(refused)
    assert is_as_sent(await target.find(document.reference), document)


async def test_two_contents_under_one_reference_in_one_bulk_are_never_both_there(target: TrytonTarget, name: str):
    documents = [entry(target=name), entry(target=name, hours=Decimal(1))]
    outcomes = await asyncio.gather(*map(target.post, documents), return_exceptions=True)
    assert [isinstance(outcome, PermanentError) for outcome in outcomes] == [False, True]
    assert await held(target) == (1, Decimal("1125.00"))


async def test_ids_of_any_kind_are_found_again_and_not_taken_for_one_another(target: TrytonTarget, name: str):
    keys = ["E-1/1", "E-1", "E 1", "E%201", "E_1", "Ex1", "E[1]", "Größe\\1", "e-1"]
    documents = [entry(key, target=name, amount=f"{number}.00") for number, key in enumerate(keys, 1)]
    await asyncio.gather(*map(target.post, documents))
    for document in documents:
        assert is_as_sent(await target.find(document.reference), document)
    assert await held(target) == (len(keys), Decimal(sum(range(len(keys) + 1))))


# Corrected and taken back


async def test_a_correction_writes_the_same_line_whatever_it_changes(target: TrytonTarget, name: str, call: Caller):
    old = entry(target=name)
    new = entry(target=name, revision=2, replaces=1, worker="HR-0003", project="2", task="5", hours=Decimal(2))
    before, after, again = [await target.post(document) for document in (old, new, new)]
    assert before.target_id == after.target_id == again.target_id
    assert await target.find(old.reference) is None
    assert is_as_sent(await target.find(new.reference), new)
    assert len(lines_of(call, name)) == 1


async def test_a_correction_of_a_line_that_somebody_deleted_is_made_anew(target: TrytonTarget, name: str, call: Caller):
    gone = number_in((await target.post(entry(target=name))).target_id)
    call("timesheet.line.delete", [gone])
    new = entry(target=name, revision=2, replaces=1, hours=Decimal(2))
    await target.post(new)
    assert is_as_sent(await target.find(new.reference), new)
    assert len(lines_of(call, name)) == 1


async def test_of_two_corrections_at_once_one_is_made_and_the_other_is_told_to_look_again(
    open_target: Open, name: str, call: Caller
):
    ours, theirs = open_target(), open_target()
    await ours.post(entry(target=name))
    posts = [
        one.post(entry(target=name, revision=revision, replaces=1, amount=f"{revision}.00"))
        for one, revision in ((ours, 2), (theirs, 3), (ours, 2), (theirs, 3))
    ]
    outcomes = await asyncio.gather(*posts, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes if isinstance(outcome, Exception)} <= {TransientError}
    (line,) = lines_of(call, name)
    won = 2 if "/2 2.00 EUR" in line["description"] else 3
    settled = await asyncio.gather(*posts_again(ours, name), return_exceptions=True)
    assert [isinstance(outcome, TransientError) for outcome in settled] == [won != 2, won != 3]


def posts_again(target: TrytonTarget, name: str) -> list[object]:
    return [target.post(entry(target=name, revision=n, replaces=1, amount=f"{n}.00")) for n in (2, 3)]


async def test_an_old_revision_that_comes_late_does_not_bring_a_line_back(
    target: TrytonTarget, name: str, call: Caller
):
    await target.post(entry(target=name))
    await target.post(entry(target=name, revision=2, replaces=1))
    assert "does not correct" in str(await refusal(target, entry(target=name)))
    assert len(lines_of(call, name)) == 1


async def test_many_corrections_travel_together_with_new_entries(open_target: Open, name: str, call: Caller):
    target = open_target(bulk_max=100)
    old = [entry(f"TE-{number}", target=name) for number in range(30)]
    await asyncio.gather(*map(target.post, old))
    new = [entry(f"TE-{number}", 2, target=name, replaces=1, amount="5.00") for number in range(30)]
    new += [entry(f"TE-{number}", target=name, amount="5.00") for number in range(30, 60)]
    await asyncio.gather(*map(target.post, new))
    assert await held(target) == (60, Decimal("300.00"))
    for document in new:
        assert is_as_sent(await target.find(document.reference), document)


async def test_a_line_taken_back_is_gone_and_can_be_posted_again(target: TrytonTarget, name: str, call: Caller):
    document = entry(target=name)
    receipt = await target.post(document)
    assert (await target.reverse(document.reference, "booked twice")).target_id == receipt.target_id
    assert lines_of(call, name) == []
    assert await target.find(document.reference) is None
    with pytest.raises(PermanentError) as refused:
        await target.reverse(document.reference, "again")
    assert refused.value.code == NOT_IN_TARGET
    await target.post(document)
    assert await held(target) == (1, Decimal("1125.00"))


async def test_a_line_that_somebody_deleted_hides_none_of_those_that_are_read_back_with_it(
    open_target: Open, name: str, call: Caller
):
    target = open_target()
    documents = [entry(f"TE-{number}", target=name) for number in range(3)]
    receipts = await asyncio.gather(*map(target.post, documents))
    assert [one.receipt for one in await asyncio.gather(*(target.find(one.reference) for one in documents))] == receipts
    call("timesheet.line.delete", [number_in(receipts[1].target_id)])
    found = await asyncio.gather(*(target.find(one.reference) for one in documents))
    assert [one and one.receipt.target_id for one in found] == [receipts[0].target_id, None, receipts[2].target_id]
    for there, document in zip(found[::2], documents[::2], strict=True):
        assert is_as_sent(there, document)


async def test_time_that_has_been_invoiced_is_neither_corrected_nor_taken_back(
    target: TrytonTarget, name: str, server: Tryton, admin: Caller
):
    project = a_project(admin, server, party=server.seed["customers"]["CRM-0001"])
    document = entry(target=name, project=project.number)
    await target.post(document)
    admin("project.work.invoice", [project.id])
    for refused in (
        await refusal(target, entry(target=name, project=project.number, revision=2, replaces=1, amount="1.00")),
        await reversal_refused(target, document.reference),
    ):
        assert refused.code == TARGET_REFUSED
        assert "has been invoiced" in str(refused)
        assert "credit that invoice" in str(refused)
    assert is_as_sent(await target.find(document.reference), document)


async def reversal_refused(target: TrytonTarget, reference: str) -> PermanentError:
    with pytest.raises(PermanentError) as refused:
        await target.reverse(reference, "no")
    return refused.value


# What people do in Tryton


async def test_whoever_changes_the_hours_changes_the_money_that_ties_out(target: TrytonTarget, name: str, call: Caller):
    document = entry(target=name)
    number = number_in((await target.post(document)).target_id)
    call("timesheet.line.write", [number], {"duration": hours(5)})
    found = await target.find(document.reference)
    assert found is not None
    assert (found.amount, found.fields["hours"]) == (Money(amount=Decimal("750.00"), currency="EUR"), "5")
    assert await held(target) == (1, Decimal("750.00"))


async def test_whoever_moves_a_line_is_seen_to_have_moved_it(
    target: TrytonTarget, name: str, server: Tryton, call: Caller
):
    document = entry(target=name)
    number = number_in((await target.post(document)).target_id)
    moved = {
        "employee": server.seed["employees"]["HR-0004"],
        "work": server.seed["projects"]["Project 3"]["timesheet_work"],
    }
    call("timesheet.line.write", [number], moved)
    found = await target.find(document.reference)
    assert found is not None
    assert found.fields["project"] == "3"
    assert found.fields["worker"] != WORKER


async def test_a_line_that_people_copy_counts_twice_and_one_they_typed_not_at_all(
    target: TrytonTarget, name: str, server: Tryton, call: Caller
):
    document = entry(target=name)
    number = number_in((await target.post(document)).target_id)
    (copy,) = call("timesheet.line.copy", [number], {})
    typed = {
        "employee": server.seed["employees"][WORKER],
        "work": server.seed["projects"]["Project 1"]["timesheet_work"],
    }
    call("timesheet.line.create", [typed | {"date": a_date("2026-10-05"), "duration": hours(1)}])
    assert await held(target) == (2, Decimal("2250.00"))
    found = await target.find(document.reference)
    assert found is not None
    assert number_in(found.receipt.target_id) == number != copy


async def test_a_line_without_its_mark_is_worth_nothing_and_is_not_posted_over(
    target: TrytonTarget, name: str, server: Tryton, call: Caller
):
    document = entry(target=name)
    number = number_in((await target.post(document)).target_id)
    call("timesheet.line.write", [number], {"description": "tidied up"})
    found = await target.find(document.reference)
    if server.seed["series"] == "8.0":  # the key is still there
        assert found is not None
        assert (found.amount.amount, found.fields["note"]) == (0, "tidied up")
        assert "removed our mark" in str(await refusal(target, document))
    else:
        assert found is None
    assert await held(target) == (0, Decimal(0))


# Who and what


async def test_who_has_left_is_booked_for_the_days_before_and_not_after(target: TrytonTarget, name: str):
    before = entry("TE-1", target=name, worker="HR-0005", date=date(2026, 6, 30))
    await target.post(before)
    assert is_as_sent(await target.find(before.reference), before)
    refused = await refusal(target, entry("TE-2", target=name, worker="HR-0005", date=date(2026, 7, 1)))
    assert (refused.code, "not valid" in str(refused)) == (TARGET_REFUSED, True)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"worker": "W-unknown"}, "worker 'W-unknown'"),
        ({"project": "P-unknown"}, "project 'P-unknown'"),
        ({"project": "1", "task": "T-unknown"}, "task 'T-unknown' of project '1'"),
        ({"project": "1", "task": "5"}, "task '5' of project '1'"),
    ],
)
async def test_what_tryton_does_not_know_is_named(target: TrytonTarget, name: str, fields: dict[str, str], named: str):
    refused = await refusal(target, entry(target=name, **fields))
    assert refused.code == TARGET_REFERENCE_MISSING
    assert named in str(refused)


async def test_what_was_not_there_is_looked_for_again(target: TrytonTarget, name: str, server: Tryton, admin: Caller):
    document = entry(target=name, project=f"P-{name}")
    assert (await refusal(target, document)).code == TARGET_REFERENCE_MISSING
    a_project(admin, server, comment=f"[tieout P-{name}]")
    await target.post(document)
    assert is_as_sent(await target.find(document.reference), document)


async def test_a_project_that_takes_no_time_is_named(target: TrytonTarget, name: str, server: Tryton, admin: Caller):
    project = a_project(admin, server, timesheet_available=False)
    refused = await refusal(target, entry(target=name, project=project.number))
    assert "Available on timesheets" in str(refused)


async def test_a_worker_who_came_back_is_booked_under_the_employment_of_that_day(
    target: TrytonTarget, name: str, server: Tryton, admin: Caller, call: Caller
):
    (party,) = admin("party.party.create", [{"name": "Ada", "code": f"W-{name}"}])
    first, second = admin(
        "company.employee.create",
        [
            {"party": party, "company": server.seed["company"], "end_date": a_date("2026-03-31")},
            {"party": party, "company": server.seed["company"], "start_date": a_date("2026-09-01")},
        ],
    )
    for number, day in enumerate((date(2026, 3, 5), date(2026, 10, 5))):
        await target.post(entry(f"TE-{number}", target=name, worker=f"W-{name}", date=day))
    employees = {str(line["date"]): line["employee"] for line in lines_of(call, name)}
    assert employees == {str(a_date("2026-03-05")): first, str(a_date("2026-10-05")): second}


def test_an_entry_without_a_project_has_no_place_in_tryton(name: str):
    with pytest.raises(PermanentError) as refused:
        entry(target=name, project=None)
    assert refused.value.code == MISSING_ATTRIBUTE


# Read back


async def test_everything_is_read_in_pages_whatever_their_size(open_target: Open, name: str):
    target = open_target(page_max=17, find_max=23)
    documents = [
        entry(f"TE-{number}", target=name, amount=f"{number}.50", currency=("EUR", "USD")[number % 2])
        for number in range(100)
    ]
    await asyncio.gather(*map(target.post, documents))
    other = open_target()
    found = await asyncio.gather(*(other.find(document.reference) for document in documents))
    assert [one and one.amount for one in found] == [document.amount for document in documents]
    totals = {total.amount.currency: total for total in await target.totals()}
    assert {currency: total.count for currency, total in totals.items()} == {"EUR": 50, "USD": 50}
    assert totals["EUR"].amount.amount == sum(Decimal(f"{number}.50") for number in range(0, 100, 2))
    assert {one.reference async for one in target.since(datetime(2026, 1, 1, tzinfo=UTC))} == {
        document.reference for document in documents
    }


async def test_hours_are_told_by_project_and_day_ours_and_others(
    target: TrytonTarget, name: str, server: Tryton, admin: Caller, call: Caller
):
    project = a_project(admin, server)
    days = [DAY, DAY + timedelta(days=1), DAY + timedelta(days=1)]
    for number, day in enumerate(days):
        await target.post(entry(f"TE-{number}", target=name, project=project.number, date=day, hours=Decimal("2.25")))
    typed = {"employee": server.seed["employees"][WORKER], "work": project.timesheet_work}
    call("timesheet.line.create", [typed | {"date": a_date("2026-10-05"), "duration": hours(1.5)}])
    told = await target.hours_by_project_and_day(DAY, DAY + timedelta(days=1))
    assert [
        (str(one.date), one.hours, one.lines, one.others_hours, one.others_lines)
        for one in told
        if one.project == project.number
    ] == [
        ("2026-10-05", Decimal("2.25"), 1, Decimal("1.5"), 1),
        ("2026-10-06", Decimal("4.5"), 2, Decimal(0), 0),
    ]
    assert await target.hours_by_project_and_day(date(2031, 1, 1), date(2031, 1, 2)) == []


async def test_what_was_written_since_a_moment_is_told_with_what_people_wrote(
    target: TrytonTarget, name: str, call: Caller
):
    documents = [entry(f"TE-{number}", target=name) for number in range(3)]
    receipts = [await target.post(document) for document in documents]
    moment = (await found_at(target, documents[2].reference)) + timedelta(microseconds=1)
    assert [one async for one in target.since(moment)] == []
    call("timesheet.line.write", [number_in(receipts[0].target_id)], {"duration": hours(1)})
    (changed,) = [one async for one in target.since(moment)]
    assert (changed.reference, changed.amount.amount) == (documents[0].reference, Decimal("150.00"))


async def found_at(target: TrytonTarget, reference: str) -> datetime:
    found = await target.find(reference)
    assert found is not None
    return found.receipt.at


class AProject(msgspec.Struct, frozen=True):
    id: int
    number: str
    timesheet_work: int | None


def a_project(call: Caller, server: Tryton, **fields: object) -> AProject:
    """A project of its own, past the connector, whose time is worth 150 an hour."""
    values = {"name": "Bridge", "type": "project", "company": server.seed["company"], "timesheet_available": True}
    values |= {"project_invoice_method": "timesheet", "product": server.seed["products"]["CONS-SR"]}
    (number,) = call("project.work.create", [values | {"list_price": an_amount("150")} | fields])
    (read,) = call("project.work.read", [number], ["number", "timesheet_works"])
    return AProject(number, read["number"], next(iter(read["timesheet_works"]), None))
