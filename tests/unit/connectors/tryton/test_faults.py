"""Tryton's errors, as they came from servers of 8.0: what each means for what happens next."""

import pytest

from connectors.http.errors import Fault
from connectors.http.outcome import LoginFailed, TargetBusy, TargetRefused, error_for
from connectors.http.secrets import Redactor, Secret
from connectors.tryton.config import TrytonConfig
from connectors.tryton.faults import (
    RULES,
    STATUSES,
    AlreadyThere,
    StaleRecord,
    Warned,
    concerns_every_document,
    fault_in,
    sorted_out,
)
from connectors.tryton.rpc import Rpc
from pipeline.codes import FINANCE, IT, PERIOD_CLOSED, TARGET_REFUSED
from pipeline.errors import PermanentError, TransientError
from tests.unit.connectors.http.server import Reply, Request, serving

DOMAIN = 'The value "Worker 5" for field "Employee" in record "(8)" of "Timesheet Line" is not valid'
RECORD_RULE = 'You are not allowed to create records of "Line" because they fail on at least one of these rules:\nOwn'
FIELD_ACCESS = 'You are not allowed to modify the field "Work" on "Timesheet Line".'
NO_RIGHTS = 'You are not allowed to access "Account Invoice".'


def fault_of(*error: object) -> Fault:
    fault = fault_in({"id": 1, "error": list(error)}, Redactor())
    assert fault is not None
    return fault


def error_of(*error: object) -> PermanentError | TransientError:
    fault = fault_of(*error)
    return sorted_out(error_for(fault, "tryton", writes=True, rules=RULES), fault)


@pytest.mark.parametrize(
    ("error", "kind", "code", "owner"),
    [
        (
            ["UserError", [DOMAIN, "", [[["start_date", "<=", "2026"]], {"a": {}}]]],
            TargetRefused,
            TARGET_REFUSED,
            FINANCE,
        ),
        (
            ["UserError", ["The UUID of timesheet line must be unique.", "", None]],
            AlreadyThere,
            TARGET_REFUSED,
            FINANCE,
        ),
        (["UserError", [NO_RIGHTS, "Within groups: ", None]], TargetRefused, TARGET_REFUSED, IT),
        (["'nope'", ""], TargetRefused, TARGET_REFUSED, IT),
        (["'NoneType' object has no attribute 'id'", ""], TargetRefused, TARGET_REFUSED, IT),
        (["UserWarning", ["63d4.invoice_date_future", "In the future.", ""]], Warned, TARGET_REFUSED, FINANCE),
        (
            ["UserError", ['To continue, you must reopen the period "2026-01" of company "Nimbus".', "", None]],
            TargetRefused,
            PERIOD_CLOSED,
            FINANCE,
        ),
        (
            ["UserError", ['To continue, you must create a period for the date "01/15/2023".', "", None]],
            TargetRefused,
            PERIOD_CLOSED,
            FINANCE,
        ),
    ],
)
def test_what_is_refused_for_good(error, kind, code, owner):
    refused = error_of(*error)
    assert isinstance(refused, PermanentError)
    assert (type(refused), refused.code, refused.owner) == (kind, code, owner)


def test_what_is_refused_for_now():
    stale = error_of("ConcurrencyException", "Records were modified in the meanwhile")
    assert type(stale) is StaleRecord
    assert type(error_of("LoginException", ["password", "Password for connector", "password"])) is LoginFailed


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ('could not obtain lock on row in relation "ir_sequence_strict"', TargetBusy),
        ("database is locked", TargetBusy),
        ("could not serialize access due to concurrent update", TargetBusy),
        ("Service Unavailable", TransientError),
    ],
)
async def test_a_lock_is_nobody_s_fault_and_no_sign_that_tryton_is_down(words, kind):
    def locked(request: Request) -> Reply:
        if request.json()["method"] == "common.db.login":
            return Reply(body={"id": 0, "result": [1, "key", []]})
        page = f"<!doctype html><title>503 Service Unavailable</title><p>{words}"
        return Reply(status=503, body=page, headers={"Content-Type": "text/html"})

    async with serving(locked) as server:
        rpc = Rpc(TrytonConfig(url=server.url, database="erp", user="u", password=Secret("p")))
        with pytest.raises(TransientError) as busy:
            await rpc.session()
        await rpc.close()
    assert (type(busy.value), busy.value.burns_attempt) == (kind, kind is not TargetBusy)


def test_tryton_s_own_words_are_kept_without_the_domain_that_fills_pages_and_without_secrets():
    redactor = Redactor()
    redactor.know(Secret("connector_pw"))
    body = {"id": 1, "error": ["UserError", ["No  connector_pw\nhere.", "", [["x"] * 1000]]]}
    fault = fault_in(body, redactor)
    assert fault is not None
    assert (fault.kind, fault.message) == ("UserError", "No *** here.")
    long = fault_in({"error": ["UserError", ["x" * 5_000, "", None]]}, redactor)
    assert long is not None
    assert len(long.message) == 500


def test_a_warning_tells_its_name_and_what_it_is_about():
    warned = error_of("UserWarning", ["63d4dd6dc.invoice_date_future", "The invoices have a date in the future.", ""])
    assert isinstance(warned, Warned)
    assert (warned.kind, warned.warning) == ("invoice_date_future", "63d4dd6dc.invoice_date_future")
    assert "in the future" in str(warned)


def test_an_answer_without_an_error_has_no_fault():
    assert [fault_in(body, Redactor()) for body in ({"id": 1, "result": []}, [], "x", None)] == [None] * 4


def test_rights_and_addresses_are_no_matter_of_one_document():
    assert concerns_every_document(fault_of("UserError", [NO_RIGHTS, "", None]))
    assert concerns_every_document(Fault(status=403))
    for status in (404, 405):
        error = error_for(Fault(status=status), "erp", writes=True, rules=STATUSES.rules)
        assert type(error) is LoginFailed, "another system, or another database, at this address: nothing dies of it"
    assert not concerns_every_document(Fault(status=413))
    assert not concerns_every_document(fault_of("UserError", [RECORD_RULE, "", None]))
    assert not concerns_every_document(fault_of("UserError", [FIELD_ACCESS, "", None]))
    assert not concerns_every_document(fault_of("UserError", [DOMAIN, "", None]))
    assert not concerns_every_document(fault_of("'NoneType' object has no attribute 'id'", ""))


def test_a_session_that_ends_under_a_call_is_nobody_s_fault():
    error = error_of("UserError", ['You are trying to read records "191" of "Session" that don\'t exist.', "", None])
    assert isinstance(error, TargetBusy)
