"""The tests' ERP is a real Tryton, with books that are open and one month that is closed; it can be disturbed."""

from collections.abc import Iterator

import httpx
import pytest

from tests.erp.calls import Caller, Refused, a_date, an_amount, hours
from tryton import Tryton, tryton

PARTY = {"name": "Acme GmbH", "identifiers": [["create", [{"type": None, "code": "CRM-9001"}]]]}


@pytest.fixture(params=["fresh_erp", "postgres_erp"])
def either_erp(request: pytest.FixtureRequest) -> Tryton:
    """A server over SQLite, then one over PostgreSQL."""
    server: Tryton = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def call(either_erp: Tryton) -> Iterator[Caller]:
    caller = Caller(either_erp)
    yield caller
    caller.close()


def workers(call: Caller) -> int:
    """How many there are, with those who have left: a search for employees passes those over."""
    return int(call("party.party.search_count", [["identifiers.code", "like", "HR-%"]]))


def an_invoice(server: Tryton, call: Caller, day: str) -> int:
    """A draft of one line; returns its id."""
    seed = server.seed
    party = seed["customers"]["CRM-0001"]
    (address,) = call("party.address.search", [["party", "=", party]], 0, None, None)
    line = {"type": "line", "product": seed["products"]["CONS-SR"], "account": seed["accounts"]["revenue"]}
    line |= {"description": "Consulting", "quantity": 7.5, "unit": seed["units"]["Hour"]}
    line |= {"unit_price": an_amount("150.00"), "taxes": [["add", [seed["tax"]]]]}
    invoice = {"type": "out", "company": seed["company"], "party": party, "invoice_address": address}
    invoice |= {"account": seed["accounts"]["receivable"], "journal": seed["journals"]["revenue"]}
    invoice |= {"payment_term": seed["term"], "invoice_date": a_date(day), "lines": [["create", [line]]]}
    (number,) = call("account.invoice.create", [invoice])
    return int(number)


# What is in it


def test_anyone_with_an_http_client_logs_in_and_reads(erp: Tryton):
    login = {"id": 0, "method": "common.db.login", "params": [erp.user, {"password": erp.password}]}
    answer = httpx.post(f"{erp.url}/{erp.database}/rpc/", json=login, trust_env=False)
    number, session, _ = answer.raise_for_status().json()["result"]
    assert number > 0
    assert len(session) >= 32
    assert Caller(erp)("party.party.search_count", [["identifiers.code", "=", "CRM-0001"]]) == 1


def test_the_seeded_period_is_closed_and_an_invoice_of_that_month_is_refused(either_erp, call):
    periods = call("account.period.search_read", [["state", "!=", "open"]], 0, None, None, ["name", "state"])
    assert [(period["name"], period["state"]) for period in periods] == [("2026-01", "closed")]
    invoice = an_invoice(either_erp, call, "2026-01-15")
    with pytest.raises(Refused, match=r'reopen the period \\?"2026-01'):
        call("account.invoice.post", [invoice])


def test_an_invoice_of_an_open_month_is_posted_with_tax_and_a_number(either_erp, call):
    invoice = an_invoice(either_erp, call, "2026-02-15")
    with pytest.raises(Refused, match=r"payment date .* in the past") as warned:
        call("account.invoice.post", [invoice])
    call("res.user.warning.skip", warned.value.args[1][0], False)
    call("account.invoice.post", [invoice])
    (read,) = call("account.invoice.read", [invoice], ["state", "number", "total_amount"])
    assert (read["state"], read["number"], read["total_amount"]["decimal"]) == ("posted", "2026-00001", "1350.00")


def test_the_worker_who_left_can_book_no_time_afterwards_and_the_others_can(either_erp, call):
    work = either_erp.seed["projects"]["Project 1"]["timesheet_work"]
    staying, left = (either_erp.seed["employees"][worker] for worker in ("HR-0002", "HR-0005"))
    entry = {"date": a_date("2026-10-05"), "duration": hours(7.5), "work": work}
    assert call("company.employee.read", [left], ["end_date"])[0]["end_date"] == a_date("2026-06-30")
    call("timesheet.line.create", [entry | {"employee": staying}])
    with pytest.raises(Refused, match="is not valid according to its domain"):
        call("timesheet.line.create", [entry | {"employee": left}])


def test_a_user_without_groups_reads_no_invoices(erp: Tryton):
    with pytest.raises(Refused, match="not allowed to access"):
        Caller(erp, "nobody")("account.invoice.search", [], 0, None, None)


def test_postgresql_refuses_a_move_that_does_not_balance(postgres_erp: Tryton):
    call, seed = Caller(postgres_erp), postgres_erp.seed
    (period,) = call("account.period.search", [["name", "=", "2026-03"]], 0, None, None)
    lines = [{"account": seed["accounts"][name]} for name in ("cash", "revenue")]
    lines[0] |= {"debit": an_amount("10"), "credit": an_amount("0")}
    lines[1] |= {"debit": an_amount("0"), "credit": an_amount("9")}
    move = {"period": period, "date": a_date("2026-03-02"), "journal": seed["journals"]["cash"]}
    (number,) = call("account.move.create", [move | {"lines": [["create", lines]]}])
    with pytest.raises(Refused, match="balance"):
        call("account.move.post", [number])


def test_a_test_may_ask_for_more_workers_and_projects(prepared_erp):
    with tryton(counts={"workers": 12, "projects": 5}) as server:
        assert len(server.seed["employees"]) == 12
        assert workers(Caller(server)) == 12
        assert Caller(server)("project.work.search_count", [["type", "=", "project"]]) == 5


# What a test can do to it


def test_a_restart_and_a_crash_keep_what_was_written_and_who_was_logged_in(either_erp, call):
    (party,) = call("party.party.create", [PARTY])
    either_erp.restart()
    assert call("party.party.search", [["identifiers.code", "=", "CRM-9001"]], 0, None, None) == [party]
    either_erp.kill()
    with pytest.raises(httpx.ConnectError):
        call("party.party.search_count", [])
    either_erp.start()
    assert call("party.party.search", [["identifiers.code", "=", "CRM-9001"]], 0, None, None) == [party]


def test_a_server_that_hangs_answers_once_it_is_let_go(fresh_erp: Tryton):
    call = Caller(fresh_erp)
    fresh_erp.pause()
    impatient = httpx.Client(timeout=0.5, trust_env=False)
    with pytest.raises(httpx.ReadTimeout):
        impatient.get(fresh_erp.url)
    fresh_erp.resume()
    assert call("party.party.search_count", []) > 0
