"""The migrated tables of the embedded ledger are those on its page."""

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect

from connectors.ledger.tables import metadata
from store.database import Database


async def test_the_migrated_tables_are_the_ones_on_the_page(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        def ours(_object: object, name: str | None, kind: str, reflected: bool, _other: object) -> bool:
            return not (kind == "table" and reflected and name not in metadata.tables)

        context = MigrationContext.configure(connection, opts={"include_object": ours, "compare_type": True})
        return list(compare_metadata(context, metadata))

    async with database.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_keys_and_checks_are_the_ones_on_the_page(database: Database) -> None:
    def keys(connection: Connection) -> dict[str, tuple[list[str], int]]:
        inspector = inspect(connection)
        return {
            name: (
                inspector.get_pk_constraint(name)["constrained_columns"],
                len(inspector.get_check_constraints(name)),
            )
            for name in metadata.tables
        }

    async with database.connect() as connection:
        assert await connection.run_sync(keys) == {
            name: (list(table.primary_key.columns.keys()), 1 if name == "ledger_lines" else 0)
            for name, table in metadata.tables.items()
        }
