"""0 when it holds, 1 when it does not, 2 for a usage or configuration error with one clear line."""

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
    tieout.environment["TIEOUT_WORKER_THREADS"] = "many"
    assert "TIEOUT_WORKER_THREADS" in one_line(tieout, "balance", expect=2)


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
