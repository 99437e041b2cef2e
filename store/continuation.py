"""Continuation: what the message of a record that has lost it is built again from."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.channels import Posted, Receipt, TargetDocument
from contracts.failure import DeadLetter
from pipeline.states import IN_DOUBT, IN_FLIGHT, POSTED, SUBMITTED
from store.database import Database
from store.dead_letter_filter import REQUEUED
from store.statements import chunks
from store.tables import dead_letters, deliveries, records

if TYPE_CHECKING:
    from store.recovery import Candidate

#: What should be moving towards its target.
MOVING = (IN_FLIGHT, IN_DOUBT)

#: What is in its target and has still to be read back.
UNRECONCILED = (SUBMITTED, POSTED)


class StrandedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record that should be moving, and what its message is built again from.

    With `letters` it was requeued: continue each at its stage with its body, which a person may have edited. Without,
    a record that `moves` starts over with `payload` (None: retention removed it) at the first stage, since every stage
    is idempotent; one that does not has only to be read back: `posted` says what was sent, and where it is.
    """

    id: str
    source: str
    document_type: str
    subject: str
    revision: str
    lane: str
    region: str | None
    correlation_id: str
    state: str
    changed_at: datetime
    payload: bytes | None
    moves: bool = False
    letters: tuple[DeadLetter, ...] = ()
    posted: tuple[Posted, ...] = ()


_letter_decoder = msgspec.json.Decoder(DeadLetter)
_document_decoder = msgspec.json.Decoder(TargetDocument)
_PLAIN = [records.c[name] for name in StrandedRecord.__struct_fields__ if name not in ("moves", "letters", "posted")]


async def to_drive(db: Database, lost: "Sequence[Candidate]") -> list[StrandedRecord]:
    """What the messages of these parts are built again from."""
    wanted, noted_at = {one.id: one.parts for one in lost}, {one.id: one.changed_at for one in lost}
    async with db.connect() as connection:
        found: list[Row[Any]] = []
        for some in chunks(sorted(wanted)):
            found += (await connection.execute(select(records.c.number, *_PLAIN).where(records.c.id.in_(some)))).all()
        found.sort(key=lambda row: row.number)
        moving = {
            id: {target for target, part in parts.items() if target and part.state in MOVING}
            for id, parts in wanted.items()
        }
        letters = await _letters_to_continue(connection, list(wanted), moving)
        posted = await _to_read_back(connection, list(wanted))
    return [
        StrandedRecord(
            **{column.name: getattr(row, column.name) for column in _PLAIN} | {"changed_at": noted_at[row.id]},
            moves=any(part.state in MOVING for part in wanted[row.id].values()),
            letters=letters[row.id],
            posted=tuple(one for one in posted[row.id] if one.document.target in wanted[row.id]),
        )
        for row in found
    ]


async def _to_read_back(connection: AsyncConnection, record_ids: Sequence[str]) -> dict[str, list[Posted]]:
    """What the targets hold of these records and nobody has compared yet."""
    posted: dict[str, list[Posted]] = defaultdict(list)
    for some in chunks(record_ids):
        rows = await connection.execute(
            select(deliveries).where(
                deliveries.c.record_id.in_(some),
                deliveries.c.state.in_(UNRECONCILED),
                deliveries.c.document.is_not(None),
            )
        )
        for row in rows:
            receipt = Receipt(target_id=row.target_id or "", state=row.state, at=row.answered_at)
            posted[row.record_id].append(Posted(document=_document_decoder.decode(row.document), receipt=receipt))
    return posted


async def _letters_to_continue(
    connection: AsyncConnection, record_ids: Sequence[str], moving: Mapping[str, set[str]]
) -> dict[str, tuple[DeadLetter, ...]]:
    """The requeued letters that drive all of a record's moving parts; none where only its payload does.

    Letters of the moving deliveries if each has one; else the last one from before the record was routed.
    """
    letters: dict[str, dict[str | None, bytes]] = defaultdict(dict)
    for some in chunks(record_ids):
        requeued = await connection.execute(
            select(dead_letters.c.record_id, dead_letters.c.target, dead_letters.c.letter)
            .where(
                dead_letters.c.record_id.in_(some),
                dead_letters.c.status == REQUEUED,
                dead_letters.c.letter.is_not(None),
            )
            .order_by(dead_letters.c.last_at)
        )
        for record_id, target, letter in requeued:
            letters[record_id][target] = letter
    return defaultdict(
        tuple,
        {
            record_id: tuple(
                _letter_decoder.decode(letter) for letter in _sufficient(by_target, moving.get(record_id, set()))
            )
            for record_id, by_target in letters.items()
        },
    )


def _sufficient(by_target: dict[str | None, bytes], moving: set[str]) -> Iterable[bytes]:
    if moving and moving <= by_target.keys():
        return [by_target[target] for target in sorted(moving)]
    return [by_target[None]] if None in by_target else []
