"""0 when it holds, 1 when it does not, 2 for a usage or configuration error with one clear line."""

import sqlite3

import pytest

from tests.unit.cli.conftest import CommandLine


def one_line(tieout: CommandLine, *arguments: str, expect: int) -> str:
    result = tieout(*arguments, expect=expect)
    assert result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("nonsense",), "nonsense"),
        (("ingest", "nowhere.csv", "--map", "nowhere.toml"), "nowhere"),
        (("dead", "requeue", "--code", "NOPE"), "NOPE"),
        (("dead", "requeue", "--reason", "x"), "--all"),
        (("dead", "requeue", "--all"), "--reason"),
        (("dead", "list", "--older-than", "yesterday"), "yesterday"),
        (("period", "close", "MAIN", "March"), "March"),
        (("worker", "--lane", "express"), "express"),
    ],
)
def test_a_usage_error_is_one_line_that_names_what_is_wrong(tieout, arguments, named):
    assert named in one_line(tieout, *arguments, expect=2)


def test_a_setting_that_cannot_be_used_is_named(tieout):
    tieout.environment["TIEOUT_LIVE_THREADS"] = "many"
    assert "TIEOUT_LIVE_THREADS" in one_line(tieout, "balance", expect=2)


def test_rules_that_cannot_be_read_are_named(tieout):
    tieout.environment["TIEOUT_RULES"] = "nowhere.toml"
    assert "nowhere.toml" in one_line(tieout, "balance", expect=2)


def test_a_database_that_is_not_there_is_named_without_its_password(tieout):
    tieout.environment["DATABASE_URL"] = "postgresql://tieout:secret@127.0.0.1:1/tieout"
    line = one_line(tieout, "balance", expect=2)
    assert "DATABASE_URL" in line or "database" in line
    assert "secret" not in line


@pytest.mark.parametrize("arguments", [("trace", "T-1"), ("dead", "show", "abc"), ("target", "show", "sap")])
def test_what_is_not_there_is_status_1(tieout, arguments):
    assert arguments[-1] in one_line(tieout, *arguments, expect=1)


def test_an_empty_store_balances(tieout):
    assert tieout.json("balance") == []


@pytest.mark.parametrize("command", ["status", "worker"])
def test_an_address_of_no_broker_is_a_matter_of_configuration(tieout, command):
    tieout.environment["AMQP_URL"] = "http://tieout:secret@broker"
    line = one_line(tieout, command, expect=2)
    assert "AMQP_URL" in line
    assert "secret" not in line


def test_a_schema_of_a_later_release_is_no_defect_of_ours(tieout):
    tieout("migrate")
    with sqlite3.connect(tieout.folder / "tieout.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'later'")
    assert "release" in one_line(tieout, "migrate", expect=2)


@pytest.mark.parametrize("verb", ["requeue", "discard"])
def test_a_letter_named_by_its_id_must_be_open(ingested, verb):
    (letter,) = ingested.json("dead", "list")
    result = ingested("dead", verb, "--id", letter["id"], "--id", "nosuch", "--reason", "x", expect=1)
    assert "nosuch" in result.stderr
    assert letter["id"] not in result.stderr
    assert ingested.json("dead", "show", letter["id"])["status"] != "open" or verb == "requeue"
    assert ingested.json("dead", verb, "--code", "PERIOD_CLOSED", "--reason", "x")["skipped"] == 0
