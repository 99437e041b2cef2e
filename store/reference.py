"""Reference data: kept in tables with a version, loaded by what has changed, handed to the stages as one value."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Mapping as MappingOf
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import and_, exists, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.channels import MasterDocument
from pipeline.errors import TransientError
from pipeline.reference import Mapping, Period, Reference
from store.database import Database
from store.tables import mappings, masters, periods, reference_clock

_master_decoder: msgspec.json.Decoder[MasterDocument] = msgspec.json.Decoder(MasterDocument)

_ONE_DAY = timedelta(days=1)


class MappingRow(Mapping, frozen=True, kw_only=True):
    """A row of the cross-reference, and who wrote it."""

    changed_by: str
    changed_at: datetime


class PeriodRow(Period, frozen=True, kw_only=True):
    """An accounting period that somebody has closed or reopened."""

    changed_by: str
    changed_at: datetime


async def next_version(connection: AsyncConnection) -> int:
    """The version that the caller's transaction writes.

    Holds the clock's row lock until that commits, so versions become visible in their order and a reader that has
    seen one has seen all before it.
    """
    statement = update(reference_clock).values(version=reference_clock.c.version + 1)
    version: int = (await connection.execute(statement.returning(reference_clock.c.version))).scalar_one()
    return version


class ReferenceStore:
    """Keeps the newest reference data in memory. `fallback` (kind, key, value) holds where no row of the table does.

    `follow` reads whatever else changes with a new version, in the same transaction, before that version is shown.
    """

    def __init__(
        self,
        db: Database,
        fallback: MappingOf[str, MappingOf[str, str]] | None = None,
        follow: Callable[[AsyncConnection], Awaitable[None]] | None = None,
    ) -> None:
        self._db = db
        self._follow = follow
        self._fallback = {
            (kind, key): Mapping(kind=kind, key=key, value=value)
            for kind, values in (fallback or {}).items()
            for key, value in values.items()
        }
        self._snapshot = Reference()
        for (kind, key), mapping in self._fallback.items():
            self._snapshot.put_mappings(kind, key, [mapping])
        self._one_at_a_time = asyncio.Lock()
        self._begun = self._loaded = 0

    @property
    def snapshot(self) -> Reference:
        """The newest reference data loaded; a value that no later refresh changes."""
        return self._snapshot

    async def refresh(self, at_least: int = 0) -> None:
        """Load what has been committed before this call, or, given a version, make sure to have seen that one.

        Concurrent callers share a query, but never one that began before they asked: what they know to be committed
        is in it.

        Raises:
          TransientError: the database failed, or does not have that version (a standby that lags?).
        """
        if 0 < at_least <= self._snapshot.version:
            return
        asked = self._begun
        async with self._one_at_a_time:
            if self._loaded <= asked:
                self._begun += 1
                await self._load()
                self._loaded = self._begun
        if self._snapshot.version < at_least:
            raise TransientError(f"reference data {at_least} is not here yet (newest: {self._snapshot.version})")

    async def set_mapping(
        self, kind: str, key: str, value: str, valid_from: date | None, valid_to: date | None, actor: str
    ) -> None:
        """Map a value between two inclusive dates (None: open); see `set_mappings`."""
        row = Mapping(kind=kind, key=key, value=value, valid_from=valid_from, valid_to=valid_to)
        await self.set_mappings([row], actor)

    async def set_mappings(self, rows: Sequence[Mapping], actor: str) -> None:
        """Write many mappings in one transaction; later rows win over earlier ones.

        What holds already keeps holding outside the new dates: a row from 1 May ends the one before it on 30 April.

        Raises:
          ValueError: a mapping ends before it begins.
        """
        for row in rows:
            if row.valid_from and row.valid_to and row.valid_to < row.valid_from:
                raise ValueError(f"{row.kind} {row.key!r} ends on {row.valid_to}, before it begins on {row.valid_from}")
        if not rows:
            return
        async with self._db.begin() as connection:
            stamp = await _stamp(connection, actor)
            for row in rows:
                await _make_room(connection, row, stamp)
                await connection.execute(insert(mappings).values(msgspec.structs.asdict(row) | stamp))

    async def unset_mapping(self, kind: str, key: str, actor: str) -> int:
        """Remove every row of a kind and key (the fall-back of the rules remains); returns how many there were."""
        async with self._db.begin() as connection:
            stamp = await _stamp(connection, actor)
            removed = await connection.execute(
                update(mappings)
                .where(mappings.c.kind == kind, mappings.c.key == key, mappings.c.deleted.is_(False))
                .values(deleted=True, **stamp)
            )
            return removed.rowcount

    async def list_mappings(self, kind: str | None = None) -> list[MappingRow]:
        """The rows in the table, by kind, key and date; the fall-backs of the rules are not among them."""
        columns = [mappings.c[name] for name in MappingRow.__struct_fields__]
        statement = select(*columns).where(mappings.c.deleted.is_(False))
        if kind is not None:
            statement = statement.where(mappings.c.kind == kind)
        async with self._db.connect() as connection:
            rows = [MappingRow(**row) for row in (await connection.execute(statement)).mappings()]
        return sorted(rows, key=lambda row: (row.kind, row.key, row.valid_from or date.min))

    async def set_period(self, legal_entity: str, name: str, closed: bool, actor: str) -> None:
        """Close or reopen an accounting period (`2026-03`) of a legal entity (`*`: of all)."""
        async with self._db.begin() as connection:
            stamp = await _stamp(connection, actor)
            statement = self._db.insert(periods)
            await connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["legal_entity", "name"],
                    set_={name: statement.excluded[name] for name in ("closed", *stamp)},
                ),
                [{"legal_entity": legal_entity, "name": name, "closed": closed} | stamp],
            )

    async def list_periods(self) -> list[PeriodRow]:
        """The periods that somebody has closed or reopened; a month that is not listed is open."""
        columns = [periods.c[name] for name in PeriodRow.__struct_fields__]
        async with self._db.connect() as connection:
            rows = [PeriodRow(**row) for row in (await connection.execute(select(*columns))).mappings()]
        return sorted(rows, key=lambda row: (row.name, row.legal_entity))

    async def _load(self) -> None:
        """Put what changed since the snapshot's version on top of a copy, and make that the snapshot."""
        since = self._snapshot.version
        async with self._db.connect() as connection:
            version = (await connection.execute(select(reference_clock.c.version))).scalar_one()
            if version == since:
                return
            statement = select(masters.c.canonical_id, masters.c.document).where(masters.c.version > since)
            changed_masters = (await connection.execute(statement)).all()
            changed_mappings = await _changed_mappings(connection, since)
            columns = [periods.c[name] for name in Period.__struct_fields__]
            changed_periods = (await connection.execute(select(*columns).where(periods.c.version > since))).mappings()
            closed = [Period(**row) for row in changed_periods]
            if self._follow is not None:
                await self._follow(connection)
        # Stages read the old snapshot in their threads meanwhile; they must not see it change.
        snapshot = self._snapshot.copy()
        for canonical_id, document in changed_masters:
            snapshot.put_master(canonical_id, _master_decoder.decode(document))
        for place, rows in changed_mappings.items():
            below = [self._fallback[place]] if place in self._fallback else []
            snapshot.put_mappings(*place, [*rows, *below])
        for period in closed:
            snapshot.put_period(period)
        snapshot.version = version
        self._snapshot = snapshot


async def _changed_mappings(connection: AsyncConnection, since: int) -> dict[tuple[str, str], list[Mapping]]:
    """All rows in force of every kind and key that anything has changed about; an empty list if none is left."""
    changed = mappings.alias("changed")
    statement = select(mappings).where(
        exists().where(
            and_(changed.c.kind == mappings.c.kind, changed.c.key == mappings.c.key, changed.c.version > since)
        )
    )
    found: dict[tuple[str, str], list[Mapping]] = defaultdict(list)
    for row in (await connection.execute(statement)).mappings():
        rows = found[row["kind"], row["key"]]
        if not row["deleted"]:
            rows.append(Mapping(**{name: row[name] for name in Mapping.__struct_fields__}))
    return found


async def _stamp(connection: AsyncConnection, actor: str) -> dict[str, Any]:
    return {"version": await next_version(connection), "changed_by": actor, "changed_at": datetime.now(UTC)}


async def _make_room(connection: AsyncConnection, row: Mapping, stamp: dict[str, Any]) -> None:
    """End, cut or remove the rows that hold at the same time as a new one.

    A cut row is removed and its remainders written as new rows: the table keeps what used to hold.
    """
    statement = select(mappings).where(
        mappings.c.kind == row.kind, mappings.c.key == row.key, mappings.c.deleted.is_(False)
    )
    begins, ends = row.valid_from or date.min, row.valid_to or date.max
    for old in (await connection.execute(statement)).mappings().all():
        old_begins, old_ends = old["valid_from"] or date.min, old["valid_to"] or date.max
        if old_ends < begins or ends < old_begins:
            continue
        await connection.execute(
            update(mappings).where(mappings.c.number == old["number"]).values(deleted=True, version=stamp["version"])
        )
        before = {"valid_from": old["valid_from"], "valid_to": begins - _ONE_DAY} if old_begins < begins else None
        after = {"valid_from": ends + _ONE_DAY, "valid_to": old["valid_to"]} if ends < old_ends else None
        for remainder in (before, after):
            if remainder is not None:
                kept = {"kind": row.kind, "key": row.key, "value": old["value"], "changed_by": old["changed_by"]}
                await connection.execute(
                    insert(mappings).values(
                        kept | remainder | {"changed_at": old["changed_at"], "version": stamp["version"]}
                    )
                )
