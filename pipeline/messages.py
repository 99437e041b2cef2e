"""Messages: derived from the one that caused them, so that a second run of the same message makes the same ones."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from hashlib import blake2b

import msgspec

from contracts.envelope import Batch, Envelope, Item
from pipeline.ports import Message

#: About what an item adds to its body on the wire: ids, revision, names.
item_overhead_bytes = 300

_decoder = msgspec.json.Decoder(Batch)
_encoder = msgspec.json.Encoder()


def encode(batch: Batch) -> bytes:
    return _encoder.encode(batch)


def decode(body: bytes) -> Batch:
    """Raises msgspec.DecodeError (or its subclass ValidationError) when the bytes are not a batch."""
    return _decoder.decode(body)


def derived_id(*parts: str) -> str:
    """A stable id of 24 lower-case characters for what these parts name."""
    return blake2b("\x1f".join(parts).encode(), digest_size=12).hexdigest()


def caused_by(cause: Envelope, stage: str, items: tuple[Item, ...], part: str = "") -> Batch:
    """The batch that continues `cause` at `stage`; `part` tells several of one cause apart."""
    envelope = msgspec.structs.replace(
        cause,
        id=derived_id(cause.id, stage, part, items[0].id, items[0].target or ""),
        causationid=cause.id,
        time=datetime.now(UTC),
        attempt=1,
        firstfailedat=None,
    )
    return Batch(envelope=envelope, items=items)


def again(cause: Envelope, items: tuple[Item, ...], *, burn: bool) -> Batch:
    """The same records at the same stage once more, with the next attempt number if this one counts."""
    envelope = msgspec.structs.replace(
        cause,
        id=derived_id(cause.id, "again", items[0].id, items[0].target or ""),
        causationid=cause.id,
        time=datetime.now(UTC),
        attempt=cause.attempt + (1 if burn else 0),
        firstfailedat=cause.firstfailedat or datetime.now(UTC),
    )
    return Batch(envelope=envelope, items=items)


def apart(batch: Batch) -> list[Batch]:
    """The same records at the same stage and attempt, each in a message of its own."""
    cause = batch.envelope
    return [
        Batch(
            envelope=msgspec.structs.replace(
                cause, id=derived_id(cause.id, "apart", item.id, item.target or ""), causationid=cause.id
            ),
            items=(item,),
        )
        for item in batch.items
    ]


def in_messages(cause: Envelope, stage: str, items: Iterable[Item], *, bytes_max: int) -> Iterator[Message]:
    """Group items of one target into messages that stay below the bound on bytes."""
    group: list[Item] = []
    size = 0
    for item in items:
        grows_by = len(item.body) + item_overhead_bytes
        if group and (size + grows_by > bytes_max or group[-1].target != item.target):
            yield Message(stage=stage, batch=caused_by(cause, stage, tuple(group)))
            group, size = [], 0
        group.append(item)
        size += grows_by
    if group:
        yield Message(stage=stage, batch=caused_by(cause, stage, tuple(group)))
