"""Targets that somebody has set up: what is said about them, who said it, and what is on its way to them."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pipeline.states import DEAD, IN_DOUBT, IN_FLIGHT, PARKED, POSTED, SUBMITTED
from store import audit
from store.database import Database
from store.reference import next_version
from store.tables import deliveries, targets

#: A delivery in one of these is not through with its target.
UNFINISHED = (IN_FLIGHT, IN_DOUBT, PARKED, DEAD, SUBMITTED, POSTED)


class TargetExists(Exception):
    """There is one of that name already, and it was not to be replaced."""


class TargetSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What is said about a target.

    `options` by name, dots between the parts of a name, as JSON values; `secrets` gives for an option the environment
    variable that holds it; `limits` are fields of `connectors.http.standing.GuardLimits`. What is not said has the
    default of the release that opens it.
    """

    name: str
    kind: str
    options: dict[str, Any] = {}
    secrets: dict[str, str] = {}
    limits: dict[str, Any] = {}


class TargetRow(TargetSpec, frozen=True, kw_only=True):
    """A target in the table. `version` is that of the reference data it came with, which processes follow."""

    version: int
    created_by: str
    created_at: datetime
    changed_by: str
    changed_at: datetime


async def read_targets(connection: AsyncConnection) -> list[TargetRow]:
    """All of them by name, as the caller's transaction sees them."""
    columns = [targets.c[name] for name in TargetRow.__struct_fields__]
    rows = (await connection.execute(select(*columns))).mappings()
    return sorted((TargetRow(**row) for row in rows), key=lambda row: row.name)


async def list_targets(db: Database) -> list[TargetRow]:
    """All of them by name."""
    async with db.connect() as connection:
        return await read_targets(connection)


async def put_target(db: Database, spec: TargetSpec, actor: str, *, replace: bool = False) -> None:
    """Write one down, with its line in the audit.

    Raises:
      TargetExists: the name is taken, and `replace` is not set.
    """
    said = msgspec.structs.asdict(spec)
    async with db.begin() as connection:
        # The clock's lock comes first: of two who add the same name, the second sees the first.
        stamp = {"version": await next_version(connection), "changed_by": actor, "changed_at": datetime.now(UTC)}
        before = {row.name: row for row in await read_targets(connection)}.get(spec.name)
        if before is None:
            created = {"created_by": actor, "created_at": stamp["changed_at"]}
            await connection.execute(insert(targets).values(said | stamp | created))
        elif replace:
            await connection.execute(update(targets).where(targets.c.name == spec.name).values(said | stamp))
        else:
            raise TargetExists(f"there is a target {spec.name!r} already (set up by {before.created_by})")
        detail = said if before is None else said | {"before": _said(before)}
        await audit.write(connection, actor, "target added" if before is None else "target replaced", detail=detail)


async def remove_target(db: Database, name: str, actor: str, reason: str | None = None) -> bool:
    """Remove one, with its line in the audit, which keeps what was said about it; False when there is none."""
    async with db.begin() as connection:
        await next_version(connection)
        before = {row.name: row for row in await read_targets(connection)}.get(name)
        if before is None:
            return False
        await connection.execute(delete(targets).where(targets.c.name == name))
        await audit.write(connection, actor, "target removed", reason, detail=_said(before))
        return True


async def unfinished(db: Database, names: Collection[str]) -> Mapping[str, Mapping[str, int]]:
    """How many deliveries to each of these targets are in which state that is not the end of them."""
    key = (deliveries.c.target, deliveries.c.state)
    these = deliveries.c.target.in_(names), deliveries.c.state.in_(UNFINISHED)
    statement = select(*key, func.count()).where(*these).group_by(*key).order_by(*key)
    counts: dict[str, dict[str, int]] = {name: {} for name in names}
    async with db.connect() as connection:
        for target, state, count in await connection.execute(statement):
            counts[target][state] = count
    return counts


def _said(row: TargetRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in TargetSpec.__struct_fields__}
