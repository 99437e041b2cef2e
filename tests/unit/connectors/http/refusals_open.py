"""The same of open systems, and of servers that nothing is known of."""

from connectors.http.errors import COMMON, Fault
from connectors.http.outcome import LoginFailed, TargetBusy
from pipeline.codes import TARGET_REFUSED
from pipeline.errors import OutcomeUnknown, TransientError
from tests.unit.connectors.http.platforms import FRAPPE, ODOO, OPENPROJECT, REDMINE, TRYTON
from tests.unit.connectors.http.refusals import Refusal

OPEN_REFUSALS = [
    Refusal(
        "Tryton RPC",
        TRYTON,
        200,
        '{"id": 3, "error": ["UserError", ["A value is required for field \\"Unit\\" in record \\"1\\" of \\"'
        'Account Invoice Line\\".", "", null]]}',
        Fault(
            status=200,
            kind="UserError",
            message='A value is required for field "Unit" in record "1" of "Account Invoice Line".',
        ),
        TARGET_REFUSED,
    ),
    Refusal(
        "Tryton RPC, another was faster",
        TRYTON,
        200,
        '{"id": 3, "error": ["ConcurrencyException", "Records were modified in the meanwhile"]}',
        Fault(status=200, kind="ConcurrencyException", message="Records were modified in the meanwhile"),
        TargetBusy,
    ),
    Refusal(
        "Tryton session",
        TRYTON,
        401,
        "",
        Fault(status=401),
        LoginFailed,
    ),
    Refusal(
        "Tryton REST",
        TRYTON,
        400,
        '{"status": 400, "message": "A value is required for field \\"Unit\\" in record \\"1\\" of \\"Account'
        ' Invoice Line\\".", "description": ""}',
        Fault(status=400, message='A value is required for field "Unit" in record "1" of "Account Invoice Line".'),
        TARGET_REFUSED,
    ),
    Refusal(
        "Tryton REST, bad field",
        TRYTON,
        500,
        "<!doctype html>\n<html lang=en>\n<title>500 Internal Server Error</title>\n"
        "<h1>Internal Server Error</h1>\n<p>Sorry.</p>",
        Fault(status=500, message="500 Internal Server Error Internal Server Error Sorry."),
        OutcomeUnknown,
    ),
    Refusal(
        "Odoo JSON-2",
        ODOO,
        422,
        '{"name": "odoo.exceptions.ValidationError", "message": "The entry is locked", "arguments": ["x"'
        '], "debug": "Traceback"}',
        Fault(status=422, kind="odoo.exceptions.ValidationError", message="The entry is locked"),
        TARGET_REFUSED,
    ),
    Refusal(
        "Odoo JSON-RPC",
        ODOO,
        200,
        '{"id": 1, "error": {"code": 200, "message": "Odoo Server Error", "data": {"name": "odoo.excepti'
        'ons.UserError", "message": "No"}}}',
        Fault(status=200, kind="odoo.exceptions.UserError", message="No"),
        TARGET_REFUSED,
    ),
    Refusal(
        "Frappe",
        FRAPPE,
        417,
        r'{"exception": "frappe.exceptions.ValidationError: Customer <b>X</b> is disabled", "exc_type": '
        r'"ValidationError", "exc": "[\"Traceback (most recent call last) ...\"]", "_server_messages": '
        r'"[\"{\\\"message\\\": \\\"Customer <b>X</b> is disabled\\\", \\\"title\\\": \\\"Message\\\"}\"]"}',
        Fault(status=417, kind="ValidationError", message="Customer X is disabled"),
        TARGET_REFUSED,
    ),
    Refusal(
        "Frappe, deadlock",
        FRAPPE,
        508,
        '{"exc_type": "QueryDeadlockError"}',
        Fault(status=508, kind="QueryDeadlockError", message='{"exc_type":"QueryDeadlockError"}'),
        TransientError,
    ),
    Refusal(
        "Frappe, maintenance",
        FRAPPE,
        503,
        "<html><body>Updating</body></html>",
        Fault(status=503, message="Updating"),
        TransientError,
    ),
    Refusal(
        "Redmine",
        REDMINE,
        422,
        '{"errors": ["Hours is invalid", "Activity cannot be blank"]}',
        Fault(status=422, message="Hours is invalid; Activity cannot be blank"),
        TARGET_REFUSED,
    ),
    Refusal(
        "Kimai",
        COMMON,
        400,
        '{"code": 400, "message": "Validation Failed", "errors": {"children": {"begin": {"errors": ["Bad"]}}}}',
        Fault(status=400, code="400", message="Validation Failed"),
        TARGET_REFUSED,
    ),
    Refusal(
        "OpenProject",
        OPENPROJECT,
        422,
        '{"_type": "Error", "errorIdentifier": "urn:x:PropertyConstraintViolation", "message": "Set it."'
        ', "_embedded": {"details": {"attribute": "title"}}}',
        Fault(status=422, code="urn:x:PropertyConstraintViolation", field="title", message="Set it."),
        TARGET_REFUSED,
    ),
    Refusal(
        "nginx",
        COMMON,
        502,
        "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>",
        Fault(status=502, message="502 Bad Gateway 502 Bad Gateway"),
        OutcomeUnknown,
    ),
    Refusal(
        "nobody in particular",
        COMMON,
        400,
        "",
        Fault(status=400),
        TARGET_REFUSED,
    ),
]
