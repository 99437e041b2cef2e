"""Requeue: dead letters go back to the stage where they failed, as the records they are, with who and why."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from contracts.envelope import LIVE, Batch, Envelope, Item
from contracts.failure import DeadLetter
from ops.embedded import settle
from ops.outages import Down, Outages
from pipeline.messages import derived_id, encode, item_overhead_bytes
from pipeline.settings import Settings
from store.dead_letter_filter import DeadLetterFilter
from store.outbox import OutboxRow
from store.record_states import states_of

if TYPE_CHECKING:
    from ops.bootstrap import Engine


class RequeueResult(msgspec.Struct, frozen=True, kw_only=True):
    """`at_rest` is the state each record came to where everything is embedded, `waits_for` the targets that all that is
    left waits for, and why; with a broker its workers are at it.
    """

    requeued: int
    skipped: int
    batch: str
    at_rest: dict[str, int] = {}
    waits_for: dict[str, str] = {}


def continuation(letters: Sequence[DeadLetter]) -> Batch:
    """The message that continues letters of one kind: same records, correlation and source, a first attempt again.

    Its id follows from the failures, so that copies of it are known as such, and the next requeue as another one.
    """
    items = tuple(
        Item(
            id=letter.record_id,
            subject=letter.subject,
            revision=letter.revision,
            correlationid=letter.correlationid,
            body=letter.body,
            target=letter.target,
        )
        for letter in letters
    )
    first = letters[0]
    failures = (part for letter in letters for part in (letter.id, letter.failure.last_at.isoformat()))
    envelope = Envelope(
        id=derived_id("requeue", *failures),
        source=first.source,
        type=first.document_type,
        time=datetime.now(UTC),
        lane=first.lane,
        dataschema=first.document_type,
        causationid=first.id,
        region=first.region,
        traceparent=first.traceparent if len(letters) == 1 else None,
    )
    return Batch(envelope=envelope, items=items)


def messages_for(letters: Sequence[DeadLetter], settings: Settings) -> list[OutboxRow]:
    """The letters as messages owed to the stages where they failed: like ones together, as their lane allows."""
    rows = []
    for _, group in groupby(sorted(letters, key=_kind), key=_kind):
        rows += [
            OutboxRow(
                stage=part[0].failure.stage, lane=part[0].lane, records=len(part), body=encode(continuation(part))
            )
            for part in _parts(list(group), settings)
        ]
    return rows


def _kind(letter: DeadLetter) -> tuple[str, ...]:
    target, region = letter.target or "", letter.region or ""
    return letter.failure.stage, letter.source, letter.document_type, letter.lane, target, region


def _parts(alike: Sequence[DeadLetter], settings: Settings) -> Iterator[Sequence[DeadLetter]]:
    """Cut what may travel together into pieces below the bounds on records and bytes."""
    records_max = 1 if alike[0].lane == LIVE else settings.bulk_batch_records_max
    part: list[DeadLetter] = []
    size = 0
    for letter in alike:
        grows_by = len(letter.body) + item_overhead_bytes
        if part and (len(part) == records_max or size + grows_by > settings.message_bytes_max):
            yield part
            part, size = [], 0
        part.append(letter)
        size += grows_by
    yield part


async def requeue(
    engine: "Engine", letter_ids: Sequence[str], actor: str, reason: str, down: Down | None = None
) -> RequeueResult:
    """Requeue open letters and, where everything is embedded, wait as `settle` does; `down` hears of outages."""
    letters = await engine.dead_letters.list(DeadLetterFilter(ids=tuple(letter_ids)))
    done = await engine.dead_letters.requeue(letter_ids, actor, reason, partial(messages_for, settings=engine.settings))
    result = RequeueResult(requeued=done.count, skipped=done.skipped, batch=done.batch)
    if not engine.settings.embedded:
        await engine.publish_outbox(done.outbox)
        return result
    async with Outages(engine, down) as outages:
        await engine.publish_outbox(done.outbox)
        await settle(engine, outages)
        waits_for = outages.waited_for()
    at_rest = await states_of(engine.db, {letter.record_id for letter in letters if letter.record_id})
    return replace(result, at_rest=at_rest, waits_for=waits_for)
