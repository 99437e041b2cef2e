"""What one kind of document needs of the connector, and what handlers of every kind share."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol, TypeVar

import msgspec

from connectors.http.outcome import TargetRefused
from connectors.tryton.faults import concerns_every_document
from contracts.channels import Receipt, TargetDocument
from pipeline.codes import TARGET_REFUSED
from pipeline.errors import OutcomeUnknown, PermanentError, PipelineError, TransientError
from pipeline.ports import Found, Total

Outcome = Receipt | PipelineError
Item = TypeVar("Item")
Body = TypeVar("Body")

POSTED, SUBMITTED = "posted", "submitted"


class Handler(Protocol):
    """One kind of document: `kind` of `TargetDocument`s, `document_type` of the references that they stand under.

    `bulk_max`: documents per `post_bulk`, and `find_max` references per `find_bulk`, so few that it ends well within a
    request's time. Everything raises what `Rpc.call` raises.
    """

    kind: str
    document_type: str
    bulk_max: int
    find_max: int

    async def post_bulk(self, documents: Sequence[TargetDocument]) -> Sequence[Outcome]:
        """One outcome per document, in order; what it raises is the outcome of all of them."""

    async def find_bulk(self, references: Sequence[str]) -> Sequence[Found | None]:
        """One answer per reference, in order."""

    async def totals(self) -> Sequence[Total]:
        """What Tryton holds of ours."""

    async def reverse(self, reference: str, reason: str) -> Receipt:
        """Take it back. Raises PermanentError: NOT_IN_TARGET, or TARGET_REFUSED with what to do instead."""

    def since(self, moment: datetime) -> AsyncIterator[Found]:
        """Ours that were written at this moment or later, by anybody."""


def receipt(model: str, number: int, state: str = POSTED, at: datetime | None = None) -> Receipt:
    """The answer about record `number`: `timesheet.line,12`, as Tryton itself refers to it."""
    return Receipt(target_id=f"{model},{number}", state=state, at=at or datetime.now(UTC))


def number_in(receipt: Receipt) -> int:
    return int(receipt.target_id.rpartition(",")[2])


def refused(message: str) -> PermanentError:
    return PermanentError(TARGET_REFUSED, f"tryton: {message}")


def body_of(document: TargetDocument, shape: type[Body]) -> Body:
    """The body, as the translator made it. Raises PermanentError: it is of another shape."""
    try:
        return msgspec.json.decode(document.body, type=shape)
    except msgspec.MsgspecError as error:
        raise refused(f"{document.kind} {document.reference}: {error}") from None


def in_doubt(error: PipelineError) -> OutcomeUnknown:
    """The outcome of a document when a call failed after another one had written something of it, or may have."""
    if isinstance(error, OutcomeUnknown):
        return error
    again = error if isinstance(error, TransientError) else TransientError("")
    unknown = OutcomeUnknown(f"written in part, then: {error}", retry_after_ms=again.retry_after_ms)
    unknown.burns_attempt = again.burns_attempt
    return unknown


async def bisected(
    items: Sequence[Item], write: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome]]]
) -> list[Outcome]:
    """Write what Tryton takes only whole, and halves of it while it is refused, until the bad ones stand alone.

    One bad item costs twice as many calls as there are halvings; its neighbours get in. What is refused whatever the
    item is not tried with each. After a call that failed for another reason nothing more is sent.
    """
    if not items:
        return []
    try:
        return list(await write(items))
    except TargetRefused as error:
        if len(items) == 1 or concerns_every_document(error.fault):
            return [error] * len(items)
    except PipelineError as error:
        return [error] * len(items)
    half = len(items) // 2
    first = await bisected(items[:half], write)
    if failed := next((outcome for outcome in first if isinstance(outcome, TransientError)), None):
        not_sent = TransientError(f"not sent: {failed}", retry_after_ms=failed.retry_after_ms, burns_attempt=False)
        return [*first, *[not_sent] * (len(items) - half)]
    return [*first, *await bisected(items[half:], write)]
