"""What Tryton's errors mean: they come with status 200, without codes, in words that are all there is to go by."""

from typing import Any

from connectors.http.errors import ErrorShape, Fault, Rule, message_length_max
from connectors.http.outcome import TargetBusy, TargetRefused
from connectors.http.secrets import Redactor
from pipeline.codes import IT
from pipeline.errors import PermanentError, TransientError

USER_ERROR, USER_WARNING = "UserError", "UserWarning"
CONCURRENCY, LOGIN = "ConcurrencyException", "LoginException"

#: Somebody else is writing: Tryton says so with a 503, which from others means that nobody is there.
LOCKED = "could not obtain lock|database is locked|could not serialize"
#: For answers with a status of their own, whose bodies are pages of HTML.
STATUSES = ErrorShape(
    rules=(
        Rule(means="busy", status=503, pattern=LOCKED),
        # There is no such database, or no Tryton at all at the other end: no document is to blame.
        Rule(means="login", status=404),
        Rule(means="login", status=405),
    )
)

#: What Tryton says in `error`. The words are those of `language`, which every call asks for.
RULES = (
    Rule(means="transient", codes=frozenset({CONCURRENCY})),
    Rule(means="login", codes=frozenset({LOGIN})),
    # Ours has ended while the call was at work: nothing is done, and the next one logs in again.
    Rule(means="busy", codes=frozenset({USER_ERROR}), pattern='of "Session" that don\'t exist'),
    Rule(
        means="period_closed",
        codes=frozenset({USER_ERROR}),
        pattern=r"you must (re-?open|create) (the|a) (period|fiscal ?year)",
    ),
)
language = "en"

#: Of rights in general; those to one field, or by a rule to some records, are a matter of the document.
_NO_RIGHTS, _NO_ACCESS = "You are not allowed to", "You are not allowed to access"
_WHOEVER_ASKS = (401, 403)
_UNIQUE = " must be unique"
_GONE = " that don't exist"


class AlreadyThere(TargetRefused):
    """A record with this unique key exists: look it up and compare."""


class Gone(TargetRefused):
    """A record is not there, or no longer: one that the call names, or one that a search of it had just found."""


class Warned(TargetRefused):
    """Tryton would do it once somebody has said yes to a warning; nothing was done.

    `warning` is its whole name, which tells the records it is about; `kind` the end of it: `invoice_date_future`.
    """

    def __init__(self, error: TargetRefused) -> None:
        super().__init__(error.code, str(error), owner=error.owner)
        self.fault = error.fault
        self.warning = error.fault.code
        self.kind = error.fault.code.rpartition(".")[2]


class StaleRecord(TargetBusy):
    """Somebody else has written the record since it was read: read it again. Nothing was done."""


def fault_in(body: Any, redactor: Redactor) -> Fault | None:
    """The fault in the body of an answer with status 200; None where there is none."""
    error = body.get("error") if isinstance(body, dict) else None
    match error:
        case None:
            return None
        case [str(kind), [str(name), str(message), *_]] if kind == USER_WARNING:
            return Fault(status=200, kind=kind, code=name, message=_said(redactor, message))
        case [str(kind), [str(message), *more]]:
            # Next to the message stands a description, and what fills pages: the domain that was not met.
            description = more[0] if more and isinstance(more[0], str) else ""
            return Fault(status=200, kind=kind, message=_said(redactor, message, description))
        case [str(kind), str(message), *_] if kind in (CONCURRENCY, LOGIN):
            return Fault(status=200, kind=kind, message=_said(redactor, message))
    # A Python exception: its text, and nothing else.
    return Fault(status=200, kind="an error of its own", message=_said(redactor, str(error)))


def sorted_out(error: PermanentError | TransientError, fault: Fault) -> PermanentError | TransientError:
    """The pipeline's error, as a class of its own where a caller does something about it, and with its owner."""
    if fault.kind == CONCURRENCY:
        return StaleRecord(str(error))
    if not isinstance(error, TargetRefused):
        return error
    if fault.kind == USER_WARNING:
        return Warned(error)
    if fault.kind != USER_ERROR or fault.message.startswith(_NO_RIGHTS):
        # Rights are given by IT; what Tryton did not foresee is a defect of ours, or another version of it.
        error.owner = IT
    elif _UNIQUE in fault.message:
        return _as(AlreadyThere, error)
    elif _GONE in fault.message:
        return _as(Gone, error)
    return error


def _as(kind: type[TargetRefused], error: TargetRefused) -> TargetRefused:
    same = kind(error.code, str(error), owner=error.owner)
    same.fault = error.fault
    return same


def concerns_every_document(fault: Fault) -> bool:
    """Whether any other document would be refused as well: rights, an address that is not there."""
    return fault.status in _WHOEVER_ASKS or (fault.kind == USER_ERROR and fault.message.startswith(_NO_ACCESS))


def _said(redactor: Redactor, *texts: str) -> str:
    said = redactor.excerpt(" ".join(" ".join(texts).split()))
    return said if len(said) <= message_length_max else said[: message_length_max - 1] + "…"
