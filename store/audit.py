"""The audit trail: what people did, when and why. Written in the transaction that does it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Row, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from store.tables import audit


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One action of one person (or process). `detail` keeps what is needed to tell it later, as JSON values."""

    actor: str
    action: str
    reason: str | None = None
    record_id: str | None = None
    dead_letter_id: str | None = None
    detail: dict[str, Any] | None = None
    at: datetime = msgspec.field(default_factory=lambda: datetime.now(UTC))


async def write(
    connection: AsyncConnection,
    actor: str,
    action: str,
    reason: str | None = None,
    *,
    record_id: str | None = None,
    dead_letter_id: str | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Write one line of the audit trail into the caller's transaction."""
    entry = AuditEntry(
        actor=actor,
        action=action,
        reason=reason,
        record_id=record_id,
        dead_letter_id=dead_letter_id,
        detail=detail,
    )
    await write_all(connection, [entry])


async def write_all(connection: AsyncConnection, entries: Sequence[AuditEntry]) -> None:
    """Write many lines with one statement; none is fine."""
    if entries:
        await connection.execute(insert(audit), [msgspec.structs.asdict(entry) for entry in entries])


def entry_of(row: Row[Any]) -> AuditEntry:
    """A line of the audit trail from a row of its table."""
    return AuditEntry(**{name: getattr(row, name) for name in AuditEntry.__struct_fields__})
