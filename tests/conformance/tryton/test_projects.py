"""Projects with their tasks in a real Tryton, on a series where our key can be their number and on one where not."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import pytest

from connectors.tryton import TrytonTarget
from connectors.tryton.lookups import Place
from contracts.money import NOTHING
from contracts.project import Task
from pipeline.codes import TARGET_REFERENCE_MISSING
from pipeline.errors import PermanentError
from pipeline.ports import Total
from tests.conformance.tryton.conftest import Open
from tests.conformance.tryton.masters import customer, is_as_sent, project
from tests.erp.calls import Caller, a_date, hours
from tryton import Tryton

SPAN = {"valid_from": date(2026, 1, 1), "valid_to": date(2026, 12, 31)}


def number_of(target_id: str) -> int:
    return int(target_id.partition(",")[2])


async def test_a_project_is_made_once_with_its_tasks_and_read_back_as_it_was_sent(target: TrytonTarget, name: str):
    await target.post(customer(f"C-{name}", target=name))
    document = project(f"P-{name}", target=name, customer=f"C-{name}", **SPAN)
    first, second = await target.post(document), await target.post(document)
    assert (first.target_id, first.state) == (second.target_id, "posted")
    assert is_as_sent(await target.find(document.reference), document)
    totals = [total for total in await target.totals() if total.document_type == "project.v1"]
    assert totals == [Total(document_type="project.v1", amount=NOTHING, count=1)]


async def test_a_project_of_a_seeded_customer_is_read_back_with_the_id_that_was_sent(target: TrytonTarget, name: str):
    document = project(f"P-{name}", target=name, customer="CRM-0002", billing_method="fixed_price")
    await target.post(document)
    assert is_as_sent(await target.find(document.reference), document)


async def test_time_can_be_booked_on_the_project_and_each_task_within_its_days(
    target: TrytonTarget, name: str, call: Caller, server: Tryton
):
    document = project(f"P-{name}", target=name, **SPAN)
    await target.post(document)
    places = [Place(f"P-{name}"), Place(f"P-{name}", "T-1"), Place(f"P-{name}", "T-2")]
    works = await target.lookups.works.of(places)
    assert list(works) == places
    line = {"employee": server.seed["employees"]["HR-0002"], "duration": hours(2)}
    for place in places:
        call("timesheet.line.create", [line | {"work": works[place].timesheet, "date": a_date("2026-12-31")}])
        with pytest.raises(Exception, match="not valid according to its domain"):
            call("timesheet.line.create", [line | {"work": works[place].timesheet, "date": a_date("2027-01-01")}])


async def test_the_names_carry_no_mark_since_they_stand_on_invoices(target: TrytonTarget, name: str, call: Caller):
    receipt = await target.post(project(f"P-{name}", target=name))
    (held,) = call("project.work.read", [number_of(receipt.target_id)], ["name", "children.name", "number"])
    assert (held["name"], {task["name"] for task in held["children."]}) == (f"Bridge P-{name}", {"Design", "Build"})


async def test_our_key_is_the_number_where_a_client_may_set_it(
    target: TrytonTarget, name: str, call: Caller, server: Tryton
):
    receipt = await target.post(project(f"P-{name}", target=name))
    (held,) = call("project.work.read", [number_of(receipt.target_id)], ["number", "children.number"])
    numbers = {held["number"], *(task["number"] for task in held["children."])}
    ours = {f"P-{name}", f"P-{name}/T-1", f"P-{name}/T-2"}
    assert (numbers == ours) is server.seed["series"].startswith("8.0")


async def test_the_same_projects_from_two_processes_at_once_are_made_once(open_target: Open, name: str):
    ours, theirs = open_target(), open_target()
    documents = [project(f"P-{name}-{number}", target=name) for number in range(10)]
    await asyncio.gather(*(one.post(each) for each in documents for one in (ours, theirs)))
    (total,) = await ours.totals()
    assert total.count == 10
    assert [is_as_sent(await theirs.find(document.reference), document) for document in documents] == [True] * 10


async def test_a_later_revision_writes_the_same_project_and_leaves_what_people_wrote(
    target: TrytonTarget, name: str, call: Caller
):
    old = project(f"P-{name}", target=name, **SPAN)
    receipt = await target.post(old)
    number = number_of(receipt.target_id)
    (held,) = call("project.work.read", [number], ["comment"])
    call("project.work.write", [number], {"comment": f"Ask Eve first.\n{held['comment']}"})
    tasks = (Task(id="T-2", name="Build it"), Task(id="T-3", name="Hand over"))
    new = project(f"P-{name}", 2, target=name, name="Bridge of today", tasks=tasks, customer="CRM-0001")
    assert (await target.post(new)).target_id == receipt.target_id
    assert is_as_sent(await target.find(new.reference), new)
    assert await target.find(old.reference) is None
    (held,) = call("project.work.read", [number], ["comment", "children.name"])
    assert held["comment"].startswith("Ask Eve first.\n[tieout ")
    assert {task["name"] for task in held["children."]} == {"Design", "Build it", "Hand over"}


async def test_a_project_of_an_unknown_customer_is_refused_and_fails_no_neighbour(target: TrytonTarget, name: str):
    lost = project(f"P-{name}", target=name, customer="C-nobody")
    found = project(f"Q-{name}", target=name, customer="CRM-0001")
    refusal, receipt = await asyncio.gather(target.post(lost), target.post(found), return_exceptions=True)
    assert isinstance(refusal, PermanentError)
    assert (refusal.code, "C-nobody" in str(refusal)) == (TARGET_REFERENCE_MISSING, True)
    assert not isinstance(receipt, BaseException)
    assert await target.find(lost.reference) is None


async def test_an_id_of_digits_is_not_taken_for_a_number_of_trytons_own(target: TrytonTarget, name: str, call: Caller):
    (number,) = call("project.work.create", [{"name": "Somebody's", "type": "project"}])
    (held,) = call("project.work.read", [number], ["number"])
    document = project(held["number"], target=name)
    assert (await target.post(document)).target_id != f"project.work,{number}"
    assert is_as_sent(await target.find(document.reference), document)


async def test_a_project_that_a_late_call_made_again_counts_once(target: TrytonTarget, name: str, call: Caller):
    document = project(f"P-{name}", target=name)
    first = await target.post(document)
    (held,) = call("project.work.read", [number_of(first.target_id)], ["name", "comment"])
    task = {"name": "Design", "type": "task", "comment": "[tieout T-1]"}
    late = {"name": held["name"], "type": "project", "comment": held["comment"], "children": [["create", [task]]]}
    call("project.work.create", [late])
    assert (await target.post(document)).target_id == first.target_id
    assert [total.count for total in await target.totals()] == [1]


async def test_a_copy_that_somebody_made_of_a_project_is_theirs(target: TrytonTarget, name: str, call: Caller):
    old = project(f"P-{name}", target=name)
    first = await target.post(old)
    (copy,) = call("project.work.copy", [number_of(first.target_id)])
    new = project(f"P-{name}", 2, target=name, name="Bridge of today")
    assert (await target.post(new)).target_id == first.target_id
    (held,) = call("project.work.read", [copy], ["name", "children"])
    assert (held["name"], len(held["children"])) == (f"Bridge P-{name}", 2)
    assert is_as_sent(await target.find(new.reference), new)
    assert await target.find(old.reference) is None
    assert [one.reference async for one in target.since(datetime.now(UTC) - timedelta(minutes=5))] == [new.reference]
    assert [total.count for total in await target.totals()] == [1]
