"""What became of a call: from a fault, or from no answer at all, to the error that says what happens next."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from connectors.http.errors import Fault, Means, Rule
from pipeline.codes import IT, PERIOD_CLOSED, TARGET_REFUSED
from pipeline.errors import NotAnswered, OutcomeUnknown, PermanentError, TransientError

#: How long to leave alone a target to which all connections of ours are in use.
no_connection_retry_ms = 5_000
#: However long a target asks us to stay away, we look again after an hour.
retry_after_max_ms = 3_600_000

#: Raised before a byte of the request is on its way. Anything else may have reached the target.
NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


class TargetRefused(PermanentError):
    """Refused, with the fault itself for the connector that knows better (already there, not found)."""

    fault: Fault


class LoginFailed(TransientError):
    """The target does not let us in: no document is to blame, so none is dead-lettered before an operator can look."""


class NotLoggedIn(LoginFailed):
    """Another call has just tried to log in, and could not: this one has seen nothing of the target itself."""


class Unreachable(TransientError):
    """Nobody was there to send it to: it has certainly not been done."""


class NoConnection(TransientError):
    """All our own connections to the target are in use: it was not sent, and that says nothing about the target."""


class TargetBusy(TransientError):
    """It answered: not now. Throttled (which burns no attempt) or locked; either way it is there and well."""


def error_for(
    fault: Fault,
    target: str,
    *,
    writes: bool,
    rules: tuple[Rule, ...] = (),
    retry_after_ms: int | None = None,
) -> PermanentError | TransientError:
    """The pipeline's error for a fault: by the declared rules, else by status."""
    text = f"{target} answered {fault}"
    match means_of(fault, rules, writes):
        case "throttled":
            # Nobody's attempt: the same call will be taken as soon as there is room.
            return TargetBusy(text, retry_after_ms=retry_after_ms, burns_attempt=False)
        case "busy":
            return TargetBusy(text, retry_after_ms=retry_after_ms)
        case "transient" if fault.status // 100 in (2, 4):
            return TargetBusy(text, retry_after_ms=retry_after_ms)
        case "transient":
            return TransientError(text, retry_after_ms=retry_after_ms)
        case "unknown" if writes:
            return OutcomeUnknown(text, retry_after_ms=retry_after_ms)
        case "unknown":
            return TransientError(text, retry_after_ms=retry_after_ms)
        case "login":
            return LoginFailed(f"{text} (check the target's address and credentials)", retry_after_ms=retry_after_ms)
        case "period_closed":
            refused = TargetRefused(PERIOD_CLOSED, text)
        case "refused":
            # Rights and addresses are set up by IT; everything else is about the document.
            refused = TargetRefused(TARGET_REFUSED, text, owner=IT if fault.status in (403, 404, 405) else None)
    refused.fault = fault
    return refused


def means_of(fault: Fault, rules: tuple[Rule, ...], writes: bool) -> Means:
    """What a fault means; the first rule that fits, else what its status says."""
    for rule in rules:
        if _fits(rule, fault):
            return rule.means
    match fault.status:
        case 401 | 407:
            return "login"
        case 429:
            return "throttled"
        case 408 | 423 | 425 | 503:
            return "transient"
        case 300:  # several records match: the document names none of them
            return "refused"
        case status if status >= 500 or status < 200 or 300 < status < 400:
            # Between the server and us, or inside it: what it had done by then it does not say.
            return "unknown" if writes else "transient"
    return "refused"


def error_without_answer(error: Exception, target: str, *, writes: bool) -> TransientError:
    """The pipeline's error for a request that got no answer, or half of one.

    A connection that was refused or not found in time has certainly not carried the request; after that nobody knows.
    """
    words = str(error)
    # The text of a local protocol error quotes our own header.
    reason = type(error).__name__ + (f": {words}" if words and not isinstance(error, httpx.LocalProtocolError) else "")
    if isinstance(error, httpx.PoolTimeout):
        words = f"all connections to {target} are in use ({reason})"
        return NoConnection(words, retry_after_ms=no_connection_retry_ms, burns_attempt=False)
    if isinstance(error, NOT_SENT):
        return Unreachable(f"{target} can't be reached ({reason})")
    if writes:
        return OutcomeUnknown(f"{target} was called and has not answered ({reason})")
    return NotAnswered(f"{target} has not answered ({reason})")


def retry_after_of(headers: httpx.Headers, now: datetime | None = None) -> int | None:
    """`Retry-After` in milliseconds, from seconds or an HTTP date, between 0 and the bound; None where unreadable."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]+)?", value):
        wait_ms = int(float(value) * 1000)
    else:
        try:
            until = parsedate_to_datetime(value)
        except ValueError:
            return None
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        wait_ms = int((until - (now or datetime.now(UTC))).total_seconds() * 1000)
    return min(max(wait_ms, 0), retry_after_max_ms)


def _fits(rule: Rule, fault: Fault) -> bool:
    if rule.status is not None and rule.status != fault.status:
        return False
    if rule.codes and fault.code not in rule.codes and fault.kind not in rule.codes:
        return False
    return rule.pattern is None or re.search(rule.pattern, fault.message, re.IGNORECASE) is not None
