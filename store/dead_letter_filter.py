"""Which dead letters are meant, and how a row of the archive reads."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, or_

from contracts.money import Money
from store.tables import dead_letters

OPEN, REQUEUED, RESOLVED, DISCARDED = "open", "requeued", "resolved", "discarded"


class DeadLetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Every field that is set must fit; of several values one must. An empty filter means every open letter.

    `document_types` takes `time_entry` for all versions or `time_entry.v1` for one. `older_than` and `newer_than`
    count from the last failure. `status` None means any. `limit` takes the oldest.
    """

    ids: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    document_types: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    legal_entities: tuple[str, ...] = ()
    record_ids: tuple[str, ...] = ()
    older_than: timedelta | None = None
    newer_than: timedelta | None = None
    cause: str | None = None
    target: str | None = None
    status: str | None = OPEN
    limit: int | None = None

    def conditions(self, now: datetime) -> list[ColumnElement[bool]]:
        """The filter as SQL; ages are counted from `now`."""
        letters = dead_letters.c
        chosen: list[tuple[Sequence[str], Any]] = [
            (self.ids, letters.id),
            (self.codes, letters.code),
            (self.stages, letters.stage),
            (self.sources, letters.source),
            (self.owners, letters.owner),
            (self.legal_entities, letters.legal_entity),
            (self.record_ids, letters.record_id),
        ]
        conditions = [column.in_(values) for values, column in chosen if values]
        if self.document_types:
            conditions.append(or_(*(_of_type(name) for name in self.document_types)))
        if self.older_than is not None:
            conditions.append(letters.last_at < now - self.older_than)
        if self.newer_than is not None:
            conditions.append(letters.last_at >= now - self.newer_than)
        equal = [(self.cause, letters.cause), (self.target, letters.target), (self.status, letters.status)]
        return conditions + [column == value for value, column in equal if value is not None]

    def described(self) -> dict[str, Any]:
        """The fields that are set, as JSON values, for the audit trail; long lists by their length."""
        described = {
            name: value if not isinstance(value, tuple) or len(value) <= 20 else f"{len(value)} given"
            for name in self.__struct_fields__
            if (value := getattr(self, name)) not in ((), None)
        }
        return dict(msgspec.to_builtins(described))


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the archive without its body. `record_id` None: the message was not one of ours."""

    id: str
    record_id: str | None
    target: str | None
    status: str
    stage: str
    code: str
    category: str
    owner: str
    message: str
    cause: str
    attempts: int
    requeues: int
    first_at: datetime
    last_at: datetime
    source: str
    document_type: str
    subject: str
    revision: str
    lane: str
    legal_entity: str | None
    amount: Money


_PLAIN = tuple(name for name in Letter.__struct_fields__ if name != "amount")

#: The columns a Letter is read from.
LETTER_COLUMNS = (*(dead_letters.c[name] for name in _PLAIN), dead_letters.c.currency, dead_letters.c.amount_minor)


def letter_of(row: Row[Any]) -> Letter:
    """A Letter from a row that has LETTER_COLUMNS."""
    return Letter(
        **{name: getattr(row, name) for name in _PLAIN}, amount=Money.of_minor(row.amount_minor, row.currency)
    )


def _of_type(name: str) -> ColumnElement[bool]:
    """`time_entry` means every version of it."""
    column = dead_letters.c.document_type
    return or_(column == name, column.startswith(f"{name}.", autoescape=True))
