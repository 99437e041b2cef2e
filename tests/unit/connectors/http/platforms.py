"""How the systems that connectors are made for say no: their shapes, as a connector would declare them."""

from connectors.http.errors import ErrorShape, Rule

SALESFORCE = ErrorShape(
    code=("/0/errorCode",),
    field=("/0/fields",),
    message=("/*/message",),
    items="",
    item=ErrorShape(
        ok="/success", code=("/errors/0/statusCode",), field=("/errors/0/fields",), message=("/errors/*/message",)
    ),
    rules=(
        Rule(means="throttled", codes=frozenset({"REQUEST_LIMIT_EXCEEDED"})),
        Rule(means="transient", codes=frozenset({"UNABLE_TO_LOCK_ROW"})),
    ),
)
NETSUITE = ErrorShape(
    kind=("/title",),
    code=("/o:errorDetails/0/o:errorCode", "/o:errorCode"),
    field=("/o:errorDetails/0/o:errorPath",),
    message=("/o:errorDetails/*/detail", "/title"),
    rules=(Rule(means="throttled", codes=frozenset({"SSS_REQUEST_LIMIT_EXCEEDED", "CONCURRENCY_LIMIT_EXCEEDED"})),),
)
KANTATA = ErrorShape(kind=("/errors/0/type",), field=("/errors/0/field",), message=("/errors/*/message",))
OPENAIR = ErrorShape(message=("/message",), items="/data", item=ErrorShape(status=("/status",), message=("/message",)))
WORKDAY = ErrorShape(
    code=("/errors/0/code",),
    field=("/errors/0/field",),
    message=("/errors/*/error", "/error"),
    rules=(Rule(means="transient", status=500),),
)
DYNAMICS = ErrorShape(
    kind=("/error/innererror/type",),
    code=("/error/code",),
    message=("/error/innererror/message", "/error/message"),
    rules=(
        Rule(means="period_closed", pattern=r"period .* is (not open|closed|on hold)"),
        Rule(means="refused", status=500, pattern="infolog|validation failed"),
    ),
)
ORACLE = ErrorShape(
    code=("/o:errorDetails/0/o:errorCode",),
    field=("/o:errorDetails/0/o:errorPath",),
    message=("/o:errorDetails/*/detail", "/title"),
)
SAP = ErrorShape(
    code=("/error/code",),
    field=("/error/innererror/errordetails/0/propertyref",),
    message=("/error/innererror/errordetails/*/message", "/error/message/value"),
)
TRYTON = ErrorShape(
    kind=("/error/0",),
    message=("/error/1/0", "/error/1", "/message"),
    failed=("/error",),
    rules=(Rule(means="transient", codes=frozenset({"ConcurrencyException"})),),
)
ODOO = ErrorShape(
    kind=("/name", "/error/data/name"),
    message=("/message", "/error/data/message", "/error/message"),
    failed=("/error",),
)
FRAPPE = ErrorShape(
    kind=("/exc_type",),
    message=("/_server_messages/*/message", "/exception"),
    rules=(Rule(means="transient", status=508),),
)
REDMINE = ErrorShape(message=("/errors/*",))
OPENPROJECT = ErrorShape(code=("/errorIdentifier",), field=("/_embedded/details/attribute",), message=("/message",))
