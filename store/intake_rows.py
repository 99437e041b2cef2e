"""What is accepted and refused at the door, as the rows that keep it."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from pipeline.entries import Step
from pipeline.states import IN_FLIGHT

if TYPE_CHECKING:
    from store.intake import AcceptedRecord, Reject

#: What is kept of a refused row, so that a person recognises it.
raw_bytes_max = 2000
column_chars_max = 200


class Run(msgspec.Struct, frozen=True):
    """What the rows of a run have in common; `origin` names the file or the call."""

    id: str
    origin: str
    document_type: str


def record_row(record: "AcceptedRecord", run_id: str, now: datetime) -> dict[str, Any]:
    row = msgspec.structs.asdict(record)
    money = row.pop("money")
    return row | {
        "hours": str(record.hours) if record.hours is not None else None,
        "run_id": run_id,
        "accepted_at": now,
        "changed_at": now,
        "state": IN_FLIGHT,
        "currency": money.currency,
        "amount_minor": money.minor(),
    }


def accepted_step(record: "AcceptedRecord", origin: str, now: datetime) -> Step:
    detail = origin if record.row_number is None else f"{origin}:{record.row_number}"
    return Step(record_id=record.id, at=now, stage="ingest", outcome="accepted", detail=detail)


def reject_row(reject: "Reject", run: Run, now: datetime) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "row_number": reject.row_number,
        "document_type": run.document_type,
        "currency": reject.money.currency,
        "amount_minor": reject.money.minor(),
        "column": _storable(reject.column, column_chars_max),
        "reason": _storable(reject.reason, raw_bytes_max),
        "raw": _storable(reject.raw, raw_bytes_max),
        "at": now,
        "fingerprint": reject.fingerprint,
    }


def _storable(text: str | None, bytes_max: int) -> str | None:
    """The beginning of a text from outside, without what a database refuses: NUL, halves of surrogate pairs."""
    if text is None:
        return None
    encoded = text[:bytes_max].encode(errors="replace").replace(b"\0", b"?")
    return encoded[:bytes_max].decode(errors="ignore")
