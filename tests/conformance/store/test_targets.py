"""Targets in their table, on SQLite and PostgreSQL: who said what, one at a time, and an older database migrated."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from store import migrations
from store.database import Database, migrate, schema_is_current
from store.reference import ReferenceStore
from store.tables import audit, reference_clock, targets
from store.targets import (
    TargetExists,
    TargetSpec,
    list_targets,
    put_target,
    read_targets,
    remove_target,
    unfinished,
)
from tests.conformance.store.given import Given, a_record

MIGRATIONS = Path(migrations.__file__).parent

ERP = TargetSpec(
    name="erp",
    kind="shelf",
    options={"place": "cellar 1", "width": 4, "colours": ["red"]},
    secrets={"key": "SHELF_KEY"},
    limits={"rate_per_s": 2.5},
)


async def audited(database: Database) -> list[tuple[str, str, str | None, Any]]:
    async with database.connect() as connection:
        rows = await connection.execute(select(audit).order_by(audit.c.number))
        return [(row.actor, row.action, row.reason, row.detail) for row in rows]


async def test_what_is_written_down_is_read_back_with_who_and_when(database: Database) -> None:
    await put_target(database, ERP, "ann")
    (row,) = await list_targets(database)
    assert TargetSpec(**{name: getattr(row, name) for name in TargetSpec.__struct_fields__}) == ERP
    assert (row.created_by, row.changed_by, row.created_at) == ("ann", "ann", row.changed_at)
    assert datetime.now(UTC) - row.created_at < timedelta(minutes=1)


async def test_a_name_is_taken_until_it_is_to_be_replaced(database: Database) -> None:
    await put_target(database, ERP, "ann")
    other = TargetSpec(name="erp", kind="shelf", options={"place": "attic"})
    with pytest.raises(TargetExists, match=r"'erp'.*ann"):
        await put_target(database, other, "bob")
    await put_target(database, other, "bob", replace=True)
    (row,) = await list_targets(database)
    assert (row.options, row.secrets, row.limits) == ({"place": "attic"}, {}, {})
    assert (row.created_by, row.changed_by) == ("ann", "bob")


async def test_of_two_who_add_the_same_name_at_once_one_is_told(database: Database, migrated_url: str) -> None:
    other = await Database.open(migrated_url)
    results = await asyncio.gather(
        *(put_target(db, ERP, "ann") for db in (database, other, database, other)), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in results) == ["NoneType", *["TargetExists"] * 3]
    await other.close()


async def test_everything_stands_in_the_audit_without_any_secret(database: Database) -> None:
    await put_target(database, ERP, "ann")
    await put_target(database, TargetSpec(name="erp", kind="shelf", options={"place": "attic"}), "bob", replace=True)
    assert await remove_target(database, "erp", "cem", "moved")
    assert not await remove_target(database, "erp", "cem")
    added, replaced, removed = await audited(database)
    assert added[:3] == ("ann", "target added", None)
    assert added[3]["secrets"] == {"key": "SHELF_KEY"}
    assert (replaced[1], replaced[3]["options"], replaced[3]["before"]["options"]) == (
        "target replaced",
        {"place": "attic"},
        ERP.options,
    )
    assert (removed[:3], removed[3]["options"]) == (("cem", "target removed", "moved"), {"place": "attic"})
    assert await list_targets(database) == []


async def test_each_change_is_a_version_of_the_reference_data_that_is_read_with_it(database: Database) -> None:
    seen: list[list[str]] = []

    async def follow(connection: AsyncConnection) -> None:
        seen.append([row.name for row in await read_targets(connection)])

    reference = ReferenceStore(database, follow=follow)
    await reference.refresh()
    assert seen == []
    await put_target(database, ERP, "ann")
    await reference.refresh()
    await reference.refresh()
    await remove_target(database, "erp", "ann")
    await reference.refresh()
    assert (seen, reference.snapshot.version) == ([["erp"], []], 2)


async def test_what_fails_to_follow_is_followed_the_next_time(database: Database) -> None:
    failures = [RuntimeError("half-way")]

    async def follow(_: object) -> None:
        if failures:
            raise failures.pop()

    reference = ReferenceStore(database, follow=follow)
    await put_target(database, ERP, "ann")
    with pytest.raises(RuntimeError):
        await reference.refresh()
    assert reference.snapshot.version == 0
    await reference.refresh()
    assert reference.snapshot.version == 1


async def test_deliveries_that_are_not_through_are_counted_by_target_and_state(given: Given) -> None:
    waiting, dead, posted, done = a_record("E-1"), a_record("E-2"), a_record("E-3"), a_record("E-4")
    await given.accepted(waiting, dead, posted, done)
    await given.routed(waiting, "erp", "ledger")
    await given.posted(posted, "erp")
    await given.posted(done, "erp")
    await given.state("reconciled", done, target="erp")
    await given.routed(dead, "erp")
    await given.state("dead", dead, target="erp")
    assert await unfinished(given.db, ["erp", "other"]) == {
        "erp": {"dead": 1, "in_flight": 1, "posted": 1},
        "other": {},
    }
    assert await unfinished(given.db, []) == {}


def test_a_database_of_the_release_before_is_migrated_with_what_is_in_it(database_url: str) -> None:
    url = make_url(database_url)
    engine = create_engine(url.set(drivername=url.drivername.replace("aiosqlite", "pysqlite")))
    if url.get_backend_name() == "sqlite":
        Path(str(url.database)).parent.mkdir(parents=True)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        assert not inspect(connection).has_table("targets")
        connection.execute(update(reference_clock).values(version=7))
    assert not schema_is_current(database_url)
    migrate(database_url)
    assert schema_is_current(database_url)
    with engine.connect() as connection:
        assert connection.scalar(select(reference_clock.c.version)) == 7
        assert connection.execute(select(targets)).all() == []
    engine.dispose()
