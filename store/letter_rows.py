"""A dead letter as a row of the archive: what it is grouped by, and whose books it concerns."""

import re
from typing import Any

import msgspec

from contracts.failure import DeadLetter
from pipeline.codes import MAPPING_MISSING
from store.tables import dead_letters

cause_length_max: int = dead_letters.c.cause.type.length  # type: ignore[attr-defined]
legal_entity_length_max: int = dead_letters.c.legal_entity.type.length  # type: ignore[attr-defined]

_encoder = msgspec.json.Encoder()

_UUID = re.compile(r"\b[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")
_DAY = re.compile(r"\b\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?")
#: A number on its own; not one inside a name (`P-100`), a month (`2026-03`), a version, or quotes.
_NUMBER = re.compile(r"(?<!ISO )(?<![\w.'\"/:-])[-+]?\d+([.,]\d+)*(?![\w'\"/:-])")


class _Document(msgspec.Struct):
    """Just enough of any stage's input to see whose books it concerns."""

    legal_entity: str | None = None


class _Body(_Document):
    document: _Document | None = None
    attribution: _Document | None = None


_body_decoder = msgspec.json.Decoder(_Body)


def storable(text: str) -> str:
    """A text from outside, without what PostgreSQL refuses: NUL and halves of surrogate pairs."""
    return text.replace("\0", "?").encode(errors="replace").decode()


def cause(code: str, message: str) -> str:
    """What letters are grouped by: the code, and the message without what differs from record to record.

    Dates, moments, UUIDs and free-standing numbers are taken out. A missing mapping is its own cause, kind and key
    included: one `tieout map set` mends all of it.
    """
    text = " ".join(storable(message).split())
    if code != MAPPING_MISSING.name:
        text = _UUID.sub("<id>", text)
        text = _DAY.sub("<date>", text)
        text = _NUMBER.sub("<number>", text)
    return f"{code}: {text}"[:cause_length_max]


def legal_entity(body: bytes) -> str | None:
    """The legal entity that the failed stage's input names, if it names one."""
    try:
        found = _body_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # What can't be decoded at all is dead-lettered as well; it concerns nobody's books yet.
        return None
    for part in (found.attribution, found.document, found):
        if part is not None and part.legal_entity:
            return part.legal_entity[:legal_entity_length_max]
    return None


def letter_row(letter: DeadLetter) -> dict[str, Any]:
    """The row of the archive, without its `status`.

    Raises:
      UnknownCurrency: the amount is in no ISO 4217 currency.
    """
    failure = letter.failure
    return {
        "id": letter.id,
        "record_id": letter.record_id or None,
        "target": letter.target,
        "stage": failure.stage,
        "code": failure.code,
        "category": failure.category,
        "owner": failure.owner,
        "message": storable(failure.message),
        "cause": cause(failure.code, failure.message),
        "attempts": failure.attempts,
        "first_at": failure.first_at,
        "last_at": failure.last_at,
        "source": letter.source,
        "document_type": letter.document_type,
        "subject": letter.subject,
        "revision": letter.revision,
        "lane": letter.lane,
        "legal_entity": letter.failure.legal_entity or legal_entity(bytes(letter.body)),
        "currency": letter.amount.currency,
        "amount_minor": letter.amount.minor(),
        "letter": _encoder.encode(letter),
    }
