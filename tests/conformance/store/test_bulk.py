"""Statements given to the driver itself do what SQLAlchemy's do, on SQLite and PostgreSQL."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import IntegrityError

from pipeline.errors import TransientError
from store.bulk import insert_new_rows, insert_rows, update_rows
from store.database import Database
from store.statements import BY_KEY, ask, statement
from store.tables import audit, masters, outbox, reference_clock, rejects, runs
from tests.conformance.store.ledger_cases import accept, rows

ODD_TEXTS = ["plain", "", "quote ' \" \\ {,}", "umlaut ü, 漢字, 🧾", "line\nbreak\ttab", "NULL"]
SUMMER_TIME = timezone(timedelta(hours=2))


def a_master(name: str, document: bytes = b"{}", version: int = 1) -> dict[str, Any]:
    return {
        "document_type": "project.v1",
        "canonical_id": name,
        "reference": f"masterdata/{name}",
        "revision_order": "1",
        "document": document,
        "version": version,
    }


async def test_rows_written_in_bulk_read_like_those_that_sqlalchemy_wrote(database: Database) -> None:
    at = datetime(2026, 3, 5, 14, 30, 15, 120, tzinfo=SUMMER_TIME)
    lines = [
        {"at": at, "actor": f"{word}!", "action": "edit", "reason": word or None, "detail": {"original": word}}
        for word in ODD_TEXTS
    ]
    async with database.begin() as connection:
        await connection.execute(insert(audit), lines)
        await insert_rows(connection, audit, lines)
    written = [{name: row[name] for name in row if name != "number"} for row in await rows(database, audit)]
    assert written[: len(lines)] == written[len(lines) :]
    assert written[0]["at"] == at


async def test_bytes_and_constants_are_kept_as_they_are(database: Database) -> None:
    bodies = [bytes(range(256)), b"", b'{"a": "\\u0000"}']
    owed = [{"created_at": datetime.now(UTC), "stage": "post", "records": 1, "body": body} for body in bodies]
    async with database.begin() as connection:
        await insert_rows(connection, outbox, owed, lane="bulk")
        await insert_rows(connection, outbox, [], lane="bulk")
    found = await rows(database, outbox)
    assert [(row["lane"], row["body"]) for row in found] == [("bulk", body) for body in bodies]


async def test_only_rows_that_are_new_are_inserted_and_told(database: Database) -> None:
    run = {"started_at": datetime.now(UTC), "actor": "ann", "origin": "f", "source": "s", "document_type": "t"}
    async with database.begin() as connection:
        await connection.execute(insert(runs).values(id="r", lane="bulk", **run))
        first = await insert_new_rows(connection, rejects, _refused(1, 2), unique="fingerprint", returning="row_number")
        again = await insert_new_rows(connection, rejects, _refused(2, 3), unique="fingerprint", returning="row_number")
        assert await insert_new_rows(connection, rejects, [], unique="fingerprint", returning="row_number") == {}
    assert (first, again) == ({"row 1": 1, "row 2": 2}, {"row 3": 3})


def _refused(*numbers: int) -> list[dict[str, Any]]:
    same = {"run_id": "r", "document_type": "t", "currency": "EUR", "amount_minor": 0, "reason": "r", "column": None}
    at = datetime.now(UTC)
    return [same | {"row_number": number, "at": at, "fingerprint": f"row {number}"} for number in numbers]


async def test_rows_are_updated_by_their_key_and_no_others(database: Database) -> None:
    async with database.begin() as connection:
        await insert_rows(connection, masters, [a_master("P-1"), a_master("P-2"), a_master("P-3")])
        changed = [a_master(name, name.encode()) for name in ("P-1", "P-3", "P-404")]
        await update_rows(connection, masters, "reference", ("document",), changed, version=7)
        await update_rows(connection, masters, "reference", ("document",), [], version=9)
    found = [(row["canonical_id"], row["document"], row["version"]) for row in await rows(database, masters)]
    assert found == [("P-1", b"P-1", 7), ("P-2", b"{}", 1), ("P-3", b"P-3", 7)]


async def test_keys_of_any_kind_and_number_are_one_parameter(database: Database) -> None:
    names = [*ODD_TEXTS, *(f"P-{number}" for number in range(40_000))]
    looking = statement("SELECT canonical_id FROM masters WHERE canonical_id AMONG :?")
    async with database.begin() as connection:
        await insert_rows(connection, masters, [a_master(name) for name in ODD_TEXTS])
        found, none = await ask(connection, looking(names), looking([]))
    assert {name for (name,) in found} == set(ODD_TEXTS)
    assert none == []


async def test_what_one_statement_of_a_packet_breaks_is_an_error_of_ours_and_nothing_of_it_is_written(
    database: Database,
) -> None:
    fine = statement("UPDATE reference_clock SET version = :? WHERE id = 1")
    broken = statement("INSERT INTO reference_clock (id, version) VALUES (:?, 0)")

    async def write() -> None:
        async with database.begin() as connection:
            await ask(connection, fine(7), broken(1), fine(8))

    with pytest.raises(IntegrityError):
        await write()
    async with database.connect() as connection:
        assert await connection.scalar(select(reference_clock.c.version)) == 0


async def test_a_row_that_breaks_a_rule_fails_its_statement(database: Database) -> None:
    async def write() -> None:
        async with database.begin() as connection:
            await insert_rows(connection, masters, [a_master("P-1"), a_master("P-1")])

    with pytest.raises(IntegrityError):
        await write()
    assert await rows(database, masters) == []


async def test_a_connection_cut_under_a_packet_is_a_transient_fault_and_leaves_the_pool(
    migrated_postgresql_url: str,
) -> None:
    database = await Database.open(migrated_postgresql_url, pool_size=2)
    reading = statement("SELECT version FROM reference_clock")()

    async def write_on_a_cut_connection() -> None:
        async with database.begin() as victim:
            number = await victim.scalar(text("SELECT pg_backend_pid()"))
            async with database.begin() as killer:
                await killer.execute(text("SELECT pg_terminate_backend(:number)"), {"number": number})
            await ask(victim, reading, reading)

    for _ in range(3):
        with pytest.raises(TransientError):
            await write_on_a_cut_connection()
    async with database.begin() as connection:
        assert await ask(connection, reading) == [[(0,)]]
    await database.close()


async def test_keys_are_looked_up_in_an_index_though_the_table_has_no_statistics(migrated_postgresql_url: str) -> None:
    database = await Database.open(migrated_postgresql_url)
    for number in range(20):
        await accept(database, f"r{number}")
    looking = "SELECT 1 FROM records AS own JOIN records AS other ON other.subject = own.subject WHERE own.id AMONG :?"
    async with database.begin() as connection:
        before, _, after = await ask(
            connection,
            statement(f"EXPLAIN {looking}")(["r1"]),
            BY_KEY,
            statement(f"EXPLAIN {looking}")(["r1"]),
        )
        assert any("Seq Scan" in line for (line,) in before)
        assert not any("Seq Scan" in line or "Hash" in line for (line,) in after)
    async with database.begin() as connection:
        # Whoever is given the connection next plans as ever.
        assert await connection.scalar(select(func.current_setting("enable_seqscan"))) == "on"
    await database.close()
