"""The database's promises, on SQLite and PostgreSQL."""

import asyncio
import multiprocessing
from datetime import UTC, datetime

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, insert, inspect, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from pipeline.errors import TransientError
from store import database as database_module
from store.database import Database, migrate, schema_is_current
from store.tables import metadata, reference_clock, rejects, runs


async def test_the_migrated_schema_is_the_one_on_the_page(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        def ours(_object: object, name: str | None, kind: str, reflected: bool, _other: object) -> bool:
            # Other parts keep tables of their own in the same database and hold them against their own page.
            return not (kind == "table" and reflected and name not in metadata.tables)

        context = MigrationContext.configure(connection, opts={"include_object": ours, "compare_type": True})
        return list(compare_metadata(context, metadata))

    async with database.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_primary_keys_are_those_on_the_page(database: Database) -> None:
    def keys(connection: Connection) -> dict[str, list[str]]:
        inspector = inspect(connection)
        return {name: sorted(inspector.get_pk_constraint(name)["constrained_columns"]) for name in metadata.tables}

    async with database.connect() as connection:
        assert await connection.run_sync(keys) == {
            name: sorted(table.primary_key.columns.keys()) for name, table in metadata.tables.items()
        }


def test_a_schema_is_current_once_migrated_and_migrating_again_changes_nothing(database_url: str) -> None:
    assert not schema_is_current(database_url)
    migrate(database_url)
    assert schema_is_current(database_url)
    migrate(database_url)
    assert schema_is_current(database_url)


def test_two_processes_that_migrate_at_once_both_succeed(database_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=migrate, args=(database_url,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert schema_is_current(database_url)


async def test_an_open_database_knows_whether_its_schema_is_current(database_url: str) -> None:
    empty = await Database.open(database_url)
    assert not await empty.schema_is_current()
    await asyncio.to_thread(migrate, database_url)
    assert await empty.schema_is_current()
    await empty.close()


async def test_the_reference_clock_starts_with_one_row(database: Database) -> None:
    async with database.connect() as connection:
        assert (await connection.execute(select(reference_clock))).all() == [(1, 0)]


async def test_what_an_error_interrupts_is_rolled_back(database: Database) -> None:
    async def write_and_fail() -> None:
        async with database.begin() as connection:
            await connection.execute(reference_clock.update().values(version=9))
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError):
        await write_and_fail()
    async with database.connect() as connection:
        assert await connection.scalar(select(reference_clock.c.version)) == 0


async def test_a_reader_sees_one_moment_however_many_queries_it_runs(database: Database) -> None:
    async with database.connect() as reader:
        before = await reader.scalar(select(reference_clock.c.version))
        async with database.begin() as writer:
            await writer.execute(reference_clock.update().values(version=9))
        assert await reader.scalar(select(reference_clock.c.version)) == before == 0
    async with database.connect() as reader:
        assert await reader.scalar(select(reference_clock.c.version)) == 9


async def test_writing_on_a_reading_connection_is_an_error(database: Database) -> None:
    async with database.connect() as reader:
        with pytest.raises((DBAPIError, TransientError)):
            await reader.execute(reference_clock.update().values(version=9))


async def test_concurrent_writers_lose_no_update(database: Database) -> None:
    async def write() -> None:
        async with database.begin() as connection:
            await connection.execute(reference_clock.update().values(version=reference_clock.c.version + 1))

    await asyncio.gather(*(write() for _ in range(20)))
    async with database.connect() as connection:
        assert await connection.scalar(select(reference_clock.c.version)) == 20


async def test_two_processes_that_read_and_then_write_take_their_turn(database: Database, migrated_url: str) -> None:
    other = await Database.open(migrated_url)

    async def read_then_write(db: Database) -> None:
        async with db.begin() as connection:
            version = await connection.scalar(select(reference_clock.c.version).with_for_update())
            await connection.execute(reference_clock.update().values(version=(version or 0) + 1))

    await asyncio.gather(*(read_then_write(db) for db in (database, other) for _ in range(20)))
    async with database.connect() as connection:
        assert await connection.scalar(select(reference_clock.c.version)) == 40
    await other.close()


async def test_a_broken_rule_of_the_schema_stays_an_error_of_ours(database: Database) -> None:
    with pytest.raises(IntegrityError):
        async with database.begin() as connection:
            await connection.execute(insert(reference_clock).values(id=1, version=0))


async def test_wrong_sql_is_not_taken_for_a_fault_of_the_database(database: Database) -> None:
    with pytest.raises(DBAPIError):
        async with database.begin() as connection:
            await connection.execute(text("SELECT * FROM no_such_table"))


async def test_inserting_what_is_there_can_be_left_out_on_both_databases(database: Database) -> None:
    async with database.begin() as connection:
        statement = database.insert(reference_clock).on_conflict_do_nothing().returning(reference_clock.c.id)
        found = await connection.scalars(statement, [{"id": 1, "version": 5}, {"id": 2, "version": 5}])
        assert found.all() == [2]


async def test_a_foreign_key_is_enforced(database: Database) -> None:
    row = {"run_id": "none", "row_number": 1, "document_type": "x", "currency": "EUR", "reason": "r"}
    with pytest.raises(IntegrityError):
        async with database.begin() as connection:
            await connection.execute(insert(rejects).values(**row, at=datetime.now(UTC), fingerprint="f"))
    async with database.connect() as connection:
        assert (await connection.execute(select(runs))).all() == []


async def test_a_server_that_is_not_there_is_a_transient_fault() -> None:
    with pytest.raises(TransientError):
        await Database.open("postgresql://127.0.0.1:1/nothing")


async def test_a_connection_cut_by_the_server_is_a_transient_fault_and_the_next_one_works(
    migrated_postgresql_url: str,
) -> None:
    database = await Database.open(migrated_postgresql_url)

    async def write_on_a_cut_connection() -> None:
        async with database.begin() as victim:
            number = await victim.scalar(text("SELECT pg_backend_pid()"))
            async with database.begin() as killer:
                await killer.execute(text("SELECT pg_terminate_backend(:number)"), {"number": number})
            await victim.execute(reference_clock.update().values(version=9))

    with pytest.raises(TransientError):
        await write_on_a_cut_connection()
    async with database.connect() as connection:
        assert await connection.scalar(select(reference_clock.c.version)) == 0
    await database.close()


@pytest.mark.parametrize("noticed", ["by what the server sent", "by asking after a while"])
async def test_a_connection_that_died_while_it_lay_idle_is_replaced_and_nobody_notices(
    migrated_postgresql_url: str, noticed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if noticed == "by asking after a while":
        monkeypatch.setattr(database_module, "_has_something_to_read", lambda _driver: False)
        monkeypatch.setattr(database_module, "idle_s_max", 0)
    database, other = await Database.open(migrated_postgresql_url), await Database.open(migrated_postgresql_url)
    async with database.begin(), database.begin(), database.connect():
        """Three connections that lie in the pool afterwards."""
    async with other.begin() as killer:
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        assert await killer.scalar(text(f"SELECT count(pg_terminate_backend(pid, 10000)) {others}")) == 3

    for _ in range(3):
        async with database.begin() as connection:
            await connection.execute(reference_clock.update().values(version=reference_clock.c.version + 1))
    async with database.connect() as connection:
        assert await connection.scalar(select(reference_clock.c.version)) == 3
    await database.close()
    await other.close()


async def test_an_sqlite_commit_is_synced_and_the_folder_is_made(sqlite_url: str) -> None:
    database = await Database.open(sqlite_url)
    async with database.begin() as connection:
        assert await connection.scalar(text("PRAGMA journal_mode")) == "wal"
        assert await connection.scalar(text("PRAGMA synchronous")) == 2
        assert await connection.scalar(text("PRAGMA foreign_keys")) == 1
        assert await connection.scalar(text("PRAGMA busy_timeout")) == 30_000
    await database.close()


@pytest.mark.parametrize("url", ["mysql://host/db", "sqlite://", "sqlite:///:memory:"])
async def test_a_database_we_do_not_serve_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected sqlite:///FILE or postgresql://HOST/DATABASE"):
        await Database.open(url)


async def test_closing_waits_for_a_connection_that_a_cancelled_task_gives_back(database_url: str) -> None:
    db = await Database.open(database_url)
    begun = asyncio.Event()

    async def work() -> None:
        async with db.connect() as connection:
            await connection.execute(text("SELECT 1"))
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    await db.close()
    await asyncio.wait([task])
    assert db._reads.sync_engine.pool.checkedout() == 0
