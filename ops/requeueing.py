"""Requeue: dead letters go back to the stage where they failed, as the records they are, with who and why."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from contracts.envelope import Batch, Envelope, Item
from contracts.failure import DeadLetter
from pipeline.messages import derived_id, encode
from store.dead_letter_filter import DeadLetterFilter
from store.outbox import OutboxRow
from store.record_states import states_of

if TYPE_CHECKING:
    from ops.bootstrap import Engine


class RequeueResult(msgspec.Struct, frozen=True, kw_only=True):
    """`at_rest` is the state each record came to where everything is embedded; with a broker its workers are at it."""

    requeued: int
    skipped: int
    batch: str
    at_rest: dict[str, int] = {}


def continuation(letter: DeadLetter) -> Batch:
    """The message that continues a letter: same record, correlation and source, and a first attempt again.

    Its id follows from the failure, so that copies of it are known as such, and the next requeue as another one.
    """
    item = Item(
        id=letter.record_id,
        subject=letter.subject,
        revision=letter.revision,
        correlationid=letter.correlationid,
        body=letter.body,
        target=letter.target,
    )
    envelope = Envelope(
        id=derived_id(letter.id, "requeue", letter.failure.last_at.isoformat()),
        source=letter.source,
        type=letter.document_type,
        time=datetime.now(UTC),
        lane=letter.lane,
        dataschema=letter.document_type,
        causationid=letter.id,
        region=letter.region,
        traceparent=letter.traceparent,
    )
    return Batch(envelope=envelope, items=(item,))


def message_for(letter: DeadLetter) -> OutboxRow:
    """The letter as a message that is owed to the stage where it failed."""
    return OutboxRow(stage=letter.failure.stage, lane=letter.lane, records=1, body=encode(continuation(letter)))


async def requeue(engine: "Engine", letter_ids: Sequence[str], actor: str, reason: str) -> RequeueResult:
    """Requeue open letters and, where everything is embedded, wait until their records are at rest again."""
    letters = await engine.dead_letters.list(DeadLetterFilter(ids=tuple(letter_ids)))
    done = await engine.dead_letters.requeue(letter_ids, actor, reason, message_for)
    await engine.publish_outbox(done.outbox)
    at_rest: dict[str, int] = {}
    if engine.settings.embedded:
        await engine.drain()
        at_rest = await states_of(engine.db, {letter.record_id for letter in letters if letter.record_id})
    return RequeueResult(requeued=done.count, skipped=done.skipped, batch=done.batch, at_rest=at_rest)
