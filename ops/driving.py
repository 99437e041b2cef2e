"""Driving: messages for records that have lost theirs, built from what the ledger knows."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

import msgspec

from contracts.envelope import LIVE, Batch, Envelope, Item
from ops.requeueing import messages_for
from pipeline.messages import derived_id, encode
from store.continuation import StrandedRecord
from store.outbox import OutboxRow

if TYPE_CHECKING:
    from ops.bootstrap import Engine


def can_be_driven(record: StrandedRecord) -> bool:
    """Whether there is something to build its message from: retention removes payloads of what was finished."""
    return bool(record.letters or record.posted or (record.moves and record.payload))


def rows_for(engine: "Engine", found: Sequence[StrandedRecord]) -> list[OutboxRow]:
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
