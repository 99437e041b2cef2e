"""Recover: what the ledger knows as accepted and unfinished, but nothing drives any more, is driven again."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

import msgspec
from loguru import logger

from contracts.envelope import LIVE, Batch, Envelope, Item
from ops.requeueing import message_for
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


async def publish_owed(publisher: Publisher, outbox: Outbox, rows: Sequence[OutboxRow]) -> None:
    """Publish these rows, a bounded number at a time, and forget each once it is confirmed.

    Raises:
      TransientError: not all were confirmed; those stay owed.
    """
    for start in range(0, len(rows), publish_rows_max):
        some = rows[start : start + publish_rows_max]
        await publisher.publish([Message(stage=row.stage, batch=decode(row.body)) for row in some])
        await outbox.delete([row.number for row in some])


async def find_stranded(engine: "Engine", older_than_s: float) -> list[StrandedRecord]:
    """Records that should be moving and have not for so long, held against what the broker says it holds.

    With messages ready on the broker, a record may be slow rather than stranded, and much more patience is shown.
    """
    if await _backlog(engine):
        older_than_s *= patience_with_a_backlog
    return await stranded(engine.db, older_than_s, records_per_run_max)


async def _backlog(engine: "Engine") -> int:
    return sum(depth.ready for queue, depth in (await engine.depths()).items() if queue != "dead")


async def recover(engine: "Engine", older_than_s: float, *, dry_run: bool = False) -> int:
    """Drive stranded records again from where they can be; every stage is idempotent, so one too many does no harm.

    Returns how many records were (with `dry_run`: would be) driven.
    """
    found = [record for record in await find_stranded(engine, older_than_s) if _can_be_driven(record)]
    if dry_run or not found:
        return len(found)
    async with engine.db.begin() as connection:
        ours = await mark_recovered(connection, found)
        rows = await engine.outbox.add(connection, _rows(engine, ours))
    logger.bind(event="recovered").info("{} stranded records are driven again", len(ours))
    await engine.publish_outbox(rows)
    return len(ours)


def _can_be_driven(record: StrandedRecord) -> bool:
    return bool(record.letters or record.posted or (record.moves and record.payload))


def _rows(engine: "Engine", found: Sequence[StrandedRecord]) -> list[OutboxRow]:
    """Requeued records continue at their stage, posted ones are read back, the others start over, in batches."""
    restart = [record for record in found if record.moves and not record.letters]
    read_back = [record for record in found if record.letters or not record.moves]
    rows = [message_for(letter) for record in found for letter in record.letters]
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
