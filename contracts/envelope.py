"""The envelope: what every message carries besides its records.

Attribute names are those of CloudEvents 1.0 (https://github.com/cloudevents/spec): lower case, no underscores.
"""

from datetime import datetime

import msgspec

from contracts.base import Contract

SPEC_VERSION = "1.0"
LIVE = "live"
BULK = "bulk"
LANES = (LIVE, BULK)


class Item(Contract, frozen=True, kw_only=True):
    """One record of a batch, at one stage of its way.

    `id` is the record's id here, `subject` the source's own id; `body` is the stage's input, still encoded.
    `target` is set once `transform` has routed the record.
    """

    id: str
    subject: str
    revision: str
    correlationid: str
    body: msgspec.Raw
    target: str | None = None


class Envelope(Contract, frozen=True, kw_only=True):
    """The headers of one message.

    `type` and `dataschema` name the document type (`time_entry.v1`), `causationid` the message that caused this one,
    `referenceversion` the reference data its sender had seen, so that nobody judges it by older data.
    """

    id: str
    source: str
    type: str
    time: datetime
    lane: str
    specversion: str = SPEC_VERSION
    dataschema: str | None = None
    causationid: str | None = None
    region: str | None = None
    traceparent: str | None = None
    attempt: int = 1
    firstfailedat: datetime | None = None
    referenceversion: int = 0


class Batch(Contract, frozen=True, kw_only=True):
    """A message: one or more records of the same type, source and lane. A single event is a batch of one."""

    envelope: Envelope
    items: tuple[Item, ...]
