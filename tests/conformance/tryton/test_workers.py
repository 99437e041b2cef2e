"""Workers in a real Tryton: an employee each, whoever posts them at once."""

import asyncio
from datetime import date

from connectors.tryton import TrytonTarget
from contracts.money import NOTHING
from pipeline.ports import Total
from tests.conformance.tryton.conftest import Open
from tests.conformance.tryton.masters import is_as_sent, worker
from tests.erp.calls import Caller, a_date
from tryton import Tryton


def employees_of(call: Caller, identifier: str) -> list[int]:
    parties = [["party.identifiers.code", "=", identifier]]
    return [one["id"] for one in call("company.employee.search_read", parties, 0, None, None, ["party"])]


async def test_a_worker_is_made_once_and_read_back_as_it_was_sent(target: TrytonTarget, name: str):
    document = worker(f"W-{name}", target=name, work_email="ada@firm.example", left_on=date(2026, 6, 30))
    first, second = await target.post(document), await target.post(document)
    assert (first.target_id, first.state) == (second.target_id, "posted")
    assert is_as_sent(await target.find(document.reference), document)
    assert await target.totals() == [Total(document_type="worker.v1", amount=NOTHING, count=1)]


async def test_the_same_workers_from_two_processes_at_once_are_employed_once(
    open_target: Open, name: str, call: Caller
):
    ours, theirs = open_target(), open_target()
    documents = [worker(f"W-{name}-{number}", target=name) for number in range(10)]
    receipts = await asyncio.gather(*(one.post(each) for each in documents for one in (ours, theirs)))
    assert len({receipt.target_id for receipt in receipts}) == 10
    for number in range(10):
        assert len(employees_of(call, f"tieout worker W-{name}-{number}")) == 1


async def test_a_worker_whose_party_alone_was_made_before_a_crash_is_not_found_and_then_made(
    target: TrytonTarget, name: str, call: Caller
):
    document = worker(f"W-{name}", target=name)
    number = int((await target.post(document)).target_id.partition(",")[2])
    call("company.employee.delete", [number])
    assert await target.find(document.reference) is None
    await target.post(document)
    assert is_as_sent(await target.find(document.reference), document)


async def test_a_later_revision_writes_the_days_of_the_same_employee(target: TrytonTarget, name: str):
    before = await target.post(worker(f"W-{name}", target=name))
    leaving = worker(f"W-{name}", 2, target=name, left_on=date(2026, 9, 30), family_name="Lovelace")
    assert (await target.post(leaving)).target_id == before.target_id
    assert is_as_sent(await target.find(leaving.reference), leaving)


async def test_an_employee_whom_people_gave_our_id_is_taken_over(target: TrytonTarget, name: str, server: Tryton):
    document = worker("HR-0003", target=name, given_name="Worker", family_name="3")
    assert (await target.post(document)).target_id == f"company.employee,{server.seed['employees']['HR-0003']}"
    assert is_as_sent(await target.find(document.reference), document)


async def test_days_that_can_not_be_are_refused_and_fail_no_neighbour(target: TrytonTarget, name: str):
    days = {"hired_on": date(2026, 6, 1), "left_on": date(2026, 5, 1)}
    documents = [worker(f"W-{name}-{number}", target=name, **(days if number == 3 else {})) for number in range(8)]
    outcomes = await asyncio.gather(*(target.post(document) for document in documents), return_exceptions=True)
    assert [place for place, outcome in enumerate(outcomes) if isinstance(outcome, BaseException)] == [3]
    assert await target.find(documents[3].reference) is None


async def test_a_second_employee_that_somebody_else_made_is_left_to_them_and_the_oldest_counts(
    target: TrytonTarget, name: str, call: Caller, server: Tryton
):
    document = worker(f"W-{name}", target=name)
    first = await target.post(document)
    (held,) = call("company.employee.read", [int(first.target_id.partition(",")[2])], ["party", "start_date"])
    late = {"party": held["party"], "company": server.seed["company"], "start_date": held["start_date"]}
    rehired = late | {"start_date": a_date("2020-01-01"), "end_date": a_date("2021-01-01")}
    call("company.employee.create", [late, rehired])
    assert (await target.post(document)).target_id == first.target_id
    call.context |= {"active_test": False}
    employments = call("company.employee.search_read", [["party", "=", held["party"]]], 0, None, None, ["start_date"])
    assert sorted(one["start_date"]["year"] for one in employments) == [2020, 2025, 2025]
    assert await target.totals() == [Total(document_type="worker.v1", amount=NOTHING, count=1)]
