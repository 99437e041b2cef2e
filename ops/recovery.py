"""Recover: what the ledger knows as accepted and unfinished, but nothing drives any more, is driven again."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

import msgspec
from loguru import logger

from broker.delivery import Unroutable
from contracts.envelope import LIVE, Batch, Envelope, Item
from ops.requeueing import messages_for
from pipeline.errors import TransientError
from pipeline.messages import decode, derived_id, encode
from pipeline.ports import Message, Publisher
from store.outbox import Outbox, OutboxRow
from store.recovery import StrandedRecord, mark_recovered, stranded

if TYPE_CHECKING:
    from ops.bootstrap import Engine

records_per_run_max = 50_000
publish_rows_max = 200

#: While messages are queued, a record without a step may simply be waiting its turn: be this much more patient.
patience_with_a_backlog = 30


class Homeless(TransientError):
    """Owed messages are for stages without a queue: a stage was renamed, or its processes are older than we are."""


async def publish_owed(publisher: Publisher, outbox: Outbox, rows: Sequence[OutboxRow]) -> None:
    """Publish these rows, a bounded number at a time, and forget each once it is confirmed.

    Raises:
      TransientError: not all were confirmed; those stay owed.
    """
    homeless: list[OutboxRow] = []
    for start in range(0, len(rows), publish_rows_max):
        some = rows[start : start + publish_rows_max]
        try:
            await publisher.publish([_message(row) for row in some])
        except Unroutable:
            stuck = await _without_a_queue(publisher, some)
            homeless += stuck
            some = [row for row in some if row not in stuck]
        await outbox.delete([row.number for row in some])
    if homeless:
        stages = ", ".join(sorted({row.stage for row in homeless}))
        raise Homeless(f"{len(homeless)} owed messages are for stages that have no queue: {stages}")


async def _without_a_queue(publisher: Publisher, rows: Sequence[OutboxRow]) -> list[OutboxRow]:
    """Publish one by one, so that those without a queue hold up no others; returns them."""
    stuck = []
    for row in rows:
        try:
            await publisher.publish([_message(row)])
        except Unroutable:
            stuck.append(row)
    return stuck


def _message(row: OutboxRow) -> Message:
    return Message(stage=row.stage, batch=decode(row.body))


async def relay(engine: "Engine", older_than_s: float) -> None:
    """Publish everything that has been owed for so long, a bounded number at a time.

    Raises:
      TransientError: something could not be published; it stays owed, but holds up nothing else.
    """
    last, homeless = 0, None
    while rows := await engine.outbox.pending(publish_rows_max, older_than_s, last):
        last = rows[-1].number
        try:
            await engine.publish_when_room(rows)
        except Homeless as error:
            homeless = error
    if homeless is not None:
        raise homeless


async def drive_what_was_left(engine: "Engine", records_max: int = records_per_run_max) -> None:
    """Embedded, when a process starts: everything unfinished lost its message with the process before.

    Recovered before the outbox is relayed, since what is owed is being driven already.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    # Only what did not move since: what has been recovered in one round is not found in the next.
    while await recover(engine, loop.time() - began, patient=False, records_max=records_max):
        pass
    await relay(engine, 0)


async def find_stranded(
    engine: "Engine", older_than_s: float, *, patient: bool = True, records_max: int = records_per_run_max
) -> list[StrandedRecord]:
    """Records that should be moving and have not for so long, held against what the broker says it holds.

    With messages ready on the broker, a record may be slow rather than stranded, and much more patience is shown
    (unless told not to).
    """
    if patient and await _backlog(engine):
        older_than_s *= patience_with_a_backlog
    return await stranded(engine.db, older_than_s, records_max)


async def _backlog(engine: "Engine") -> int:
    return sum(depth.ready for queue, depth in (await engine.depths()).items() if queue != "dead")


async def recover(
    engine: "Engine",
    older_than_s: float,
    *,
    dry_run: bool = False,
    patient: bool = True,
    records_max: int = records_per_run_max,
) -> int:
    """Drive stranded records again from where they can be; every stage is idempotent, so one too many does no harm.

    Returns how many records were (with `dry_run`: would be) driven.
    """
    stranded_now = await find_stranded(engine, older_than_s, patient=patient, records_max=records_max)
    found = [record for record in stranded_now if _can_be_driven(record)]
    if dry_run or not found:
        return len(found)
    async with engine.db.begin() as connection:
        ours = await mark_recovered(connection, found)
        rows = await engine.outbox.add(connection, _rows(engine, ours))
    logger.bind(event="recovered").info("{} stranded records are driven again", len(ours))
    await engine.publish_when_room(rows)
    return len(ours)


def _can_be_driven(record: StrandedRecord) -> bool:
    return bool(record.letters or record.posted or (record.moves and record.payload))


def _rows(engine: "Engine", found: Sequence[StrandedRecord]) -> list[OutboxRow]:
    """Requeued records continue at their stage, posted ones are read back, the others start over, in batches."""
    restart = [record for record in found if record.moves and not record.letters]
    read_back = [record for record in found if record.letters or not record.moves]
    rows = messages_for([letter for record in found for letter in record.letters], engine.settings)
    first, last = next(iter(engine.runner.stages)), next(reversed(engine.runner.stages))
    rows += _batches(
        engine, first, [(record, _item(record, record.payload)) for record in restart if record.payload is not None]
    )
    rows += _batches(
        engine,
        last,
        [
            (record, _item(record, msgspec.json.encode(posted), posted.document.target))
            for record in read_back
            for posted in record.posted
        ],
    )
    return rows


def _item(record: StrandedRecord, body: bytes, target: str | None = None) -> Item:
    return Item(
        id=record.id,
        subject=record.subject,
        revision=record.revision,
        correlationid=record.correlation_id,
        body=msgspec.Raw(body),
        target=target,
    )


def _batches(engine: "Engine", stage: str, driven: list[tuple[StrandedRecord, Item]]) -> list[OutboxRow]:
    """Messages of like records, as many in each as their lane allows."""

    def kind(one: tuple[StrandedRecord, Item]) -> tuple[str, str, str, str]:
        record, item = one
        return record.source, record.document_type, record.lane, item.target or ""

    rows = []
    for _, group in groupby(sorted(driven, key=kind), key=kind):
        alike = list(group)
        size = 1 if alike[0][0].lane == LIVE else engine.settings.bulk_batch_records_max
        rows += [_row(engine, stage, alike[start : start + size]) for start in range(0, len(alike), size)]
    return rows


def _row(engine: "Engine", stage: str, driven: Sequence[tuple[StrandedRecord, Item]]) -> OutboxRow:
    first = driven[0][0]
    now = datetime.now(UTC)
    envelope = Envelope(
        id=derived_id(first.id, "recover", stage, now.isoformat()),
        source=first.source,
        type=first.document_type,
        time=now,
        lane=first.lane,
        dataschema=first.document_type,
        region=first.region,
        referenceversion=engine.reference.snapshot.version,
    )
    batch = Batch(envelope=envelope, items=tuple(item for _, item in driven))
    return OutboxRow(stage=stage, lane=first.lane, records=len(driven), body=encode(batch))
