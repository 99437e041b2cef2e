"""What follows from a fault: by the declared rules, else by its status."""

from datetime import UTC, datetime

import httpx
import pytest

from connectors.http.errors import Fault, fault_of
from connectors.http.outcome import (
    LoginFailed,
    TargetBusy,
    TargetRefused,
    error_for,
    retry_after_max_ms,
    retry_after_of,
)
from connectors.http.secrets import Redactor
from pipeline.codes import IT
from pipeline.errors import OutcomeUnknown, TransientError
from tests.unit.connectors.http.calling import answer
from tests.unit.connectors.http.platforms import (
    DYNAMICS,
    FRAPPE,
    KANTATA,
    NETSUITE,
    OPENAIR,
    ORACLE,
    SALESFORCE,
    SAP,
    TRYTON,
    WORKDAY,
)

#: System, shape, status, headers, body; the error of a write and its wait in milliseconds.
THROTTLED = [
    (
        "Salesforce",
        SALESFORCE,
        403,
        {},
        [{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "TotalRequests Limit exceeded."}],
        None,
    ),
    (
        "NetSuite",
        NETSUITE,
        429,
        {},
        {
            "title": "Bad Request",
            "status": 429,
            "o:errorCode": "USER_ERROR",
            "o:errorDetails": [
                {
                    "detail": "Concurrent request limit exceeded. Request blocked.",
                    "o:errorCode": "CONCURRENCY_LIMIT_EXCEEDED",
                }
            ],
        },
        None,
    ),
    ("NetSuite RESTlet", NETSUITE, 400, {}, {"o:errorCode": "SSS_REQUEST_LIMIT_EXCEEDED", "title": "Bad"}, None),
    ("Kantata", KANTATA, 429, {}, "Retry later", None),
    ("OpenAir", OPENAIR, 429, {}, {"message": "API limit reached"}, None),
    ("Workday", WORKDAY, 429, {}, {"error": "too many requests"}, None),
    (
        "Dynamics",
        DYNAMICS,
        429,
        {"Retry-After": "12"},
        "Number of concurrent requests exceeded the limit of 52.",
        12_000,
    ),
    ("Oracle", ORACLE, 429, {}, "", None),
    ("SAP", SAP, 429, {"Retry-After": "60", "X-RateLimit-Remaining": "0"}, "", 60_000),
    ("Tryton", TRYTON, 429, {}, "<h1>Too Many Requests</h1>", None),
    ("Frappe", FRAPPE, 429, {}, {"exc_type": "RateLimitExceededError"}, None),
]


@pytest.mark.parametrize("row", THROTTLED, ids=lambda row: row[0])
def test_a_throttled_call_is_tried_again_and_burns_no_attempt(row):
    _, shape, status, headers, body, wait_ms = row
    given = answer(status, body, headers)
    fault = fault_of(given, shape, Redactor())
    assert fault is not None
    error = error_for(fault, "erp", writes=True, rules=shape.rules, retry_after_ms=retry_after_of(given.headers))
    assert type(error) is TargetBusy
    assert (error.retry_after_ms, error.burns_attempt) == (wait_ms, False)


@pytest.mark.parametrize(
    ("status", "write", "read"),
    [
        (300, TargetRefused, TargetRefused),
        (302, OutcomeUnknown, TransientError),
        (400, TargetRefused, TargetRefused),
        (401, LoginFailed, LoginFailed),
        (403, TargetRefused, TargetRefused),
        (404, TargetRefused, TargetRefused),
        (408, TargetBusy, TargetBusy),
        (409, TargetRefused, TargetRefused),
        (422, TargetRefused, TargetRefused),
        (423, TargetBusy, TargetBusy),
        (429, TargetBusy, TargetBusy),
        (500, OutcomeUnknown, TransientError),
        (502, OutcomeUnknown, TransientError),
        (503, TransientError, TransientError),
        (504, OutcomeUnknown, TransientError),
        (599, OutcomeUnknown, TransientError),
    ],
)
def test_without_a_rule_the_status_decides(status, write, read):
    fault = Fault(status=status)
    assert type(error_for(fault, "erp", writes=True)) is write
    assert type(error_for(fault, "erp", writes=False)) is read


def test_missing_rights_are_for_those_who_grant_them():
    refused = error_for(Fault(status=403, message="no access to journals"), "erp", writes=True)
    assert isinstance(refused, TargetRefused)
    assert refused.owner == IT


@pytest.mark.parametrize(
    ("value", "wait_ms"),
    [
        ("12", 12_000),
        ("0", 0),
        ("1.5", 1_500),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30_000),
        ("Saturday, 21-Nov-26 12:00:30 GMT", 30_000),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0),
        ("Sat, 21 Nov 2030 11:00:00 GMT", retry_after_max_ms),
        ("99999999999", retry_after_max_ms),
        ("9" * 400, None),
        ("soon", None),
        ("-5", None),
        ("", None),
        ("Sat, 99 Nov 2026 99:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value, wait_ms):
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert retry_after_of(httpx.Headers({"Retry-After": value}), now) == wait_ms
