"""The ports: what the pipeline asks of a store, a broker and a target, as Protocols."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec

from contracts.channels import Enriched, Receipt, TargetDocument
from contracts.envelope import Batch
from contracts.failure import DeadLetter
from contracts.money import Money
from pipeline.entries import Entry


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A batch on its way to a stage. `delay_ms` waits on the broker's retry tiers."""

    stage: str
    batch: Batch
    delay_ms: int | None = None


class Publisher(Protocol):
    """Puts messages where they survive."""

    def publish(self, messages: Sequence[Message]) -> Awaitable[None]:
        """Put them on their way at once; done when every message is durable.

        Raises:
          TransientError: at least one message was not confirmed; nothing may be acknowledged.
        """

    async def publish_dead(self, letters: Sequence[DeadLetter]) -> None:
        """Tell the dead-letter exchange; returns when confirmed."""


class Ledger(Protocol):
    """Our own durable account of every record and delivery."""

    def record(self, entry: Entry) -> Awaitable[None]:
        """Write one entry; done when it is committed. Entries of several callers share a transaction."""


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """What `post` finds when it announces a call.

    `status`: `new` (go ahead), `in_doubt` (called before and never answered: ask first), `answered` (`receipt` is the
    answer, `document` what it answered to), `leased` (another worker's call may still be under way: wait), `blocked`
    (the call of the older revision `by` was never answered, and is a dead letter that somebody must requeue first),
    `superseded` or `duplicate` (nothing to send; `by` is the newer revision, or the id of the record standing for it).
    `leased_until` tells our lease from everybody else's, and is None where the call needs none.
    `replaces` is the reference of an older revision that the target holds and that this one corrects. `amount` is what
    a call `in_doubt` was announced with: the document may have been made anew since, from newer reference data.
    """

    status: str
    receipt: Receipt | None = None
    document: TargetDocument | None = None
    replaces: str | None = None
    by: str | None = None
    amount: Money | None = None
    leased_until: datetime | None = None


class Postings(Protocol):
    """The postings part of the ledger: intent before the call, answer after it."""

    async def intend(self, record_id: str, document: TargetDocument, lease_ms: int) -> Intent:
        """Durably announce the call under the posting key (`document.reference`)."""

    async def answer(self, record_id: str, document: TargetDocument, receipt: Receipt) -> None:
        """Durably write the target's answer; releases whoever is parked for this record."""

    async def doubt(self, record_id: str, document: TargetDocument, reason: str, lease: datetime | None) -> None:
        """The call was made and never answered: the delivery is `in_doubt` until the target has been asked.

        `lease` is the intent's `leased_until`: it ends, unless somebody else holds one by now.
        """

    async def not_created(self, record_id: str, document: TargetDocument, lease: datetime | None) -> None:
        """The call is over and has created nothing: whoever comes next need not wait for the end of this lease."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A document as the target holds it: `fields` in the shape of `TargetDocument.body`."""

    reference: str
    receipt: Receipt
    amount: Money
    fields: dict[str, Any]
    reversed: bool = False


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """What a target holds of one document type and currency, reversed documents left out."""

    document_type: str
    amount: Money
    count: int


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a target can do. `lacks` gives the reason for each thing it can't.

    `unique_reference`: the target refuses a second document with our reference, so a second call can do no harm
    and no lease is needed. `bulk_max`: documents per call. `call_timeout_ms`: after that long no call is under way.
    """

    bulk_max: int = 1
    call_timeout_ms: int = 30_000
    unique_reference: bool = False
    reverse: bool = False
    totals: bool = False
    lacks: dict[str, str] = {}


class Target(Protocol):
    """A connector to a system that documents are posted to: the same port for every ERP."""

    name: str
    capabilities: Capabilities

    async def post(self, document: TargetDocument) -> Receipt:
        """Create the document, correcting `document.replaces` if set. Calls of the same moment may travel in bulk.

        Raises:
          TransientError: refused for now, and certainly not created.
          OutcomeUnknown: the call was made and not answered.
          PermanentError: refused for good, with the target's own words.
        """

    async def find(self, reference: str) -> Found | None:
        """Read a document back by our reference; None when the target does not hold it."""

    async def totals(self) -> Sequence[Total]:
        """What the target holds, for the tie-out."""

    async def close(self) -> None:
        """Release connections."""


class Translator(Protocol):
    """Message translator: from the canonical model to the target's own document. Pure."""

    def translate(self, enriched: Enriched, reference: str, context: Any) -> TargetDocument:
        """Raises PermanentError or MappingMissing when the target could not take it."""


class Connector(msgspec.Struct, frozen=True, kw_only=True):
    """A system that can be routed to: how to open its target, given our database, and how documents become its own."""

    name: str
    open: Callable[[Any], Target]
    translator: Translator


def posting_key(target: str, document_type: str, source: str, subject: str, revision: str) -> str:
    """The idempotency key of the effect in the target; two records never share one, whatever their ids are made of."""
    key = f"{target}/{document_type}/{source}/{subject}/{revision}"
    if key.count("/") == 4:
        return key
    # Ids with slashes: ("E-1/1", "1") and ("E-1", "1/1") would read the same.
    lengths = f"{len(source)}.{len(subject)}.{len(revision)}"
    return f"{key}/{lengths}"
