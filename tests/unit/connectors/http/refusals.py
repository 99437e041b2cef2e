"""What the systems really answer when they refuse, and what is to be read of it."""

from typing import Any, NamedTuple

from connectors.http.errors import ErrorShape, Fault
from connectors.http.outcome import LoginFailed, TargetBusy
from pipeline.codes import PERIOD_CLOSED, TARGET_REFUSED
from pipeline.errors import OutcomeUnknown, TransientError
from tests.unit.connectors.http.platforms import (
    DYNAMICS,
    KANTATA,
    NETSUITE,
    OPENAIR,
    ORACLE,
    SALESFORCE,
    SAP,
    WORKDAY,
)


class Refusal(NamedTuple):
    """`outcome` is the error that a write ends with, or the code of its TargetRefused."""

    name: str
    shape: ErrorShape
    status: int
    body: str
    fault: Fault
    outcome: Any


REFUSALS = [
    Refusal(
        "Salesforce",
        SALESFORCE,
        400,
        '[{"message": "No such column \'FullName\' on entity \'Account\'", "errorCode": "INVALID_FIELD", "fi'
        'elds": ["A", "B"]}]',
        Fault(
            status=400,
            code="INVALID_FIELD",
            field="A, B",
            message="No such column 'FullName' on entity 'Account'",
        ),
        TARGET_REFUSED,
    ),
    Refusal(
        "Salesforce, a lock",
        SALESFORCE,
        400,
        '[{"message": "unable to obtain exclusive access", "errorCode": "UNABLE_TO_LOCK_ROW"}]',
        Fault(status=400, code="UNABLE_TO_LOCK_ROW", message="unable to obtain exclusive access"),
        TargetBusy,
    ),
    Refusal(
        "Salesforce, several match",
        SALESFORCE,
        300,
        '["/services/data/v66.0/sobjects/Account/001A", "/services/data/v66.0/sobjects/Account/001B"]',
        Fault(
            status=300,
            message='["/services/data/v66.0/sobjects/Account/001A","/services/data/v66.0/sobjects/Account/001B"]',
        ),
        TARGET_REFUSED,
    ),
    Refusal(
        "NetSuite",
        NETSUITE,
        400,
        '{"title": "Bad Request", "status": 400, "o:errorDetails": [{"detail": "Invalid Field Value 9999'
        '", "o:errorCode": "INVALID_CONTENT", "o:errorPath": "item.items[0].item"}, {"detail": "Also wro'
        'ng", "o:errorCode": "INVALID_CONTENT"}]}',
        Fault(
            status=400,
            kind="Bad Request",
            code="INVALID_CONTENT",
            field="item.items[0].item",
            message="Invalid Field Value 9999; Also wrong",
        ),
        TARGET_REFUSED,
    ),
    Refusal(
        "NetSuite, login",
        NETSUITE,
        401,
        '{"title": "Unauthorized", "o:errorDetails": [{"detail": "Invalid login attempt.", "o:errorCode"'
        ': "INVALID_LOGIN"}]}',
        Fault(status=401, kind="Unauthorized", code="INVALID_LOGIN", message="Invalid login attempt."),
        LoginFailed,
    ),
    Refusal(
        "NetSuite, unexpected",
        NETSUITE,
        500,
        '{"title": "Internal Server Error", "o:errorDetails": [{"detail": "Error ID: jr", "o:errorCode":'
        ' "UNEXPECTED_ERROR"}]}',
        Fault(status=500, kind="Internal Server Error", code="UNEXPECTED_ERROR", message="Error ID: jr"),
        OutcomeUnknown,
    ),
    Refusal(
        "Kantata",
        KANTATA,
        422,
        '{"errors": [{"type": "validation", "message": "Please give your project a title", "field": "tit'
        'le"}, {"type": "validation", "message": "Please select a role for this project", "field": "crea'
        'tor_role"}]}',
        Fault(
            status=422,
            kind="validation",
            field="title",
            message="Please give your project a title; Please select a role for this project",
        ),
        TARGET_REFUSED,
    ),
    Refusal(
        "OpenAir",
        OPENAIR,
        400,
        '{"message": "Task deserialization failed"}',
        Fault(status=400, message="Task deserialization failed"),
        TARGET_REFUSED,
    ),
    Refusal(
        "Workday",
        WORKDAY,
        400,
        '{"error": "invalid", "errors": [{"error": "not a worker", "field": "worker", "location": "x", "'
        'code": "A212"}]}',
        Fault(status=400, code="A212", field="worker", message="not a worker"),
        TARGET_REFUSED,
    ),
    Refusal(
        "Workday SOAP",
        WORKDAY,
        500,
        "<SOAP-ENV:Fault><faultcode>SOAP-ENV:Server</faultcode><faultstring>Busy &amp; overloaded</fault"
        "string></SOAP-ENV:Fault>",
        Fault(status=500, message="SOAP-ENV:Server Busy & overloaded"),
        TransientError,
    ),
    Refusal(
        "Dynamics",
        DYNAMICS,
        500,
        '{"error": {"code": "", "message": "An error has occurred.", "innererror": {"message": "Write fa'
        "iled for table row of type 'CustCustomerV3Entity'. Infolog: Warning: Customer group X is not th"
        'ere", "type": "ODataException"}}}',
        Fault(
            status=500,
            kind="ODataException",
            message="Write failed for table row of type 'CustCustomerV3Entity'. Infolog: Warning: Customer group X"
            " is not there",
        ),
        TARGET_REFUSED,
    ),
    Refusal(
        "Dynamics, period",
        DYNAMICS,
        400,
        '{"error": {"code": "", "message": "Fiscal period 2026-10 is closed for ledger USMF"}}',
        Fault(status=400, message="Fiscal period 2026-10 is closed for ledger USMF"),
        PERIOD_CLOSED,
    ),
    Refusal(
        "Oracle, text",
        ORACLE,
        400,
        "Invalid operation create for the specified resource.",
        Fault(status=400, message="Invalid operation create for the specified resource."),
        TARGET_REFUSED,
    ),
    Refusal(
        "Oracle",
        ORACLE,
        400,
        '{"title": "Bad Request", "status": "400", "o:errorDetails": [{"detail": "No project", "o:errorC'
        'ode": "PJC-1", "o:errorPath": "/P"}]}',
        Fault(status=400, code="PJC-1", field="/P", message="No project"),
        TARGET_REFUSED,
    ),
    Refusal(
        "SAP",
        SAP,
        400,
        '{"error": {"code": "V1/302", "message": {"lang": "en", "value": "Sold-to party 9 not maintained'
        '"}, "innererror": {"errordetails": [{"code": "V1/302", "message": "Party 9 is missing", "proper'
        'tyref": "SoldToParty"}]}}}',
        Fault(status=400, code="V1/302", field="SoldToParty", message="Party 9 is missing"),
        TARGET_REFUSED,
    ),
    Refusal(
        "SAP, no details",
        SAP,
        412,
        '{"error": {"code": "C", "message": {"lang": "en", "value": "Precondition failed"}, "innererror"'
        ': {"errordetails": []}}}',
        Fault(status=412, code="C", message="Precondition failed"),
        TARGET_REFUSED,
    ),
]
