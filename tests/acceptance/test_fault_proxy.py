"""The fault proxy before a real ERP: what it says of a call is what became of it there."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from copy import copy
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.erp.calls import Caller, a_date, hours
from tests.erp.faults import before_tryton, calls
from tests.faults.plan import FAULTS, PASSED, FaultPlan
from tests.faults.proxy import FaultProxy
from tryton import Tryton

ENTRIES = 150
#: What `Caller` asks before it works: to be let in, and its preferences.
LOG_IN = 2


@pytest.fixture
def log_in(erp: Tryton) -> Iterator[Callable[..., Caller]]:
    """Log in to the ERP: directly, or through a proxy that is taken for it."""
    with ExitStack() as stack:

        def log_in(proxy: FaultProxy | None = None) -> Caller:
            server = copy(erp)
            server.url = proxy.url if proxy else erp.url
            return stack.enter_context(closing(Caller(server)))

        yield log_in


@pytest.fixture
def proxy(erp: Tryton, log_in: Callable[..., Caller]) -> Iterator[FaultProxy]:
    """A proxy that disturbs what it is told to."""
    with before_tryton(erp, FaultPlan(share=0), 1) as proxy:
        yield proxy


def an_entry(erp: Tryton) -> dict[str, Any]:
    work = erp.seed["projects"]["Project 1"]["timesheet_work"]
    entry = {"employee": erp.seed["employees"]["HR-0001"], "date": a_date("2026-09-01"), "duration": hours(0.1)}
    return {**entry, "work": work, "uuid": str(uuid4())}


def test_a_session_that_has_expired_is_gone_from_the_erp_itself(proxy, log_in):
    call, neighbour = log_in(proxy), log_in(proxy)
    proxy.once("expired")
    for _ in range(2):
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            call("party.party.search_count", [])
    assert neighbour("party.party.search_count", []) > 0
    assert log_in(proxy)("party.party.search_count", []) > 0
    assert (proxy.counts["expired"], proxy.called["expired"]) == (1, 1)


@pytest.mark.parametrize(
    ("fault", "there"),
    [("reset_before", False), ("unavailable", False), ("reset_mid_answer", True), ("lost_after_commit", True)],
)
def test_the_erp_has_done_what_the_fault_says(erp, proxy, log_in, fault, there):
    call, entry = log_in(proxy), an_entry(erp)
    proxy.once(fault, calls("timesheet.line.create"))
    with pytest.raises(httpx.HTTPError):
        call("timesheet.line.create", [entry])
    assert log_in()("timesheet.line.search_count", [["uuid", "=", entry["uuid"]]]) == there


def test_whatever_befalls_the_calls_of_a_run_the_erp_holds_what_the_counts_say(erp, log_in):
    plan = FaultPlan(share=0.5, slow_ms_max=5, hang_ms_max=5)
    direct = log_in()
    before = direct("timesheet.line.search_count", [])
    with before_tryton(erp, plan, 11, disturbs=calls("timesheet.line.create")) as proxy:
        call = log_in(proxy)
        passed = proxy.counts[PASSED]
        for _ in range(ENTRIES):
            try:
                call("timesheet.line.create", [an_entry(erp)])
            except httpx.HTTPStatusError as refused:
                if refused.response.status_code == 401:
                    call = log_in(proxy)
                    passed += LOG_IN
            except (httpx.TransportError, ValueError):
                pass
    assert [fault for fault in FAULTS if not proxy.counts[fault]] == []
    assert proxy.disturbed + proxy.counts[PASSED] - passed == ENTRIES
    created = sum(proxy.called.values()) - proxy.called["expired"] - passed
    assert direct("timesheet.line.search_count", []) - before == created
