"""What a command prints: one JSON document, tables without colours in a pipe, nothing said to a reader that left."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from commands.output import age, cell, counted, money, print_table, say

TIEOUT = [sys.executable, "-m", "cli"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), (True, "yes"), (1234567, "1,234,567"), (Decimal("1234.50"), "1,234.50"), ("a", "a")],
)
def test_a_cell_shows_a_value_as_a_person_reads_it(value, shown):
    assert cell(value) == shown


def test_money_names_its_currency_and_nothing_has_none():
    assert money(Decimal("1234.5"), "EUR") == "1,234.5 EUR"
    assert money(Decimal(0), "XXX") == ""


@pytest.mark.parametrize(
    ("seconds", "said"), [(5, "5 s"), (125, "2 min"), (7300, "2 h"), (200_000, "2 d"), (-3, "0 s")]
)
def test_an_age_is_told_in_its_largest_unit(seconds, said):
    now = datetime(2025, 3, 1, tzinfo=UTC)
    assert age(now - timedelta(seconds=seconds), now) == said


def test_counting_knows_the_singular():
    assert (counted(1, "row"), counted(3153, "row")) == ("1 row", "3,153 rows")


def test_a_pipe_gets_no_colours_and_json_is_one_document(tmp_path):
    plain = subprocess.run([*TIEOUT, "dead", "codes"], capture_output=True, text=True, check=True)
    assert "\x1b[" not in plain.stdout
    document = subprocess.run([*TIEOUT, "dead", "codes", "--json"], capture_output=True, text=True, check=True)
    assert len(json.loads(document.stdout)) > 10


def test_a_reader_that_has_seen_enough_is_no_error():
    read, write = os.pipe()
    process = subprocess.Popen([*TIEOUT, "contracts", "export"], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    os.close(read)
    _, said = process.communicate()
    assert (said, process.returncode) == ("", 0)


def test_schemas_are_exported_one_file_each(tmp_path: Path):
    command = [*TIEOUT, "contracts", "export", "--out", str(tmp_path / "schemas")]
    subprocess.run(command, check=True, capture_output=True)
    schema = json.loads((tmp_path / "schemas" / "rate_card.v1.schema.json").read_text())
    assert schema["properties"]["cost_rate"]["x-classification"] == "confidential"


LETTER = (
    "lwlxqcyn234paduss6ngbg4f",
    "1,234,567.50 EUR",
    "time_entry.v1",
    "no rate card is in force for worker 'E-1035'",
)


def a_table(capsys, columns: int) -> list[str]:
    names = ("id", "amount", "type", "why")
    print_table(names, [LETTER], right=("amount",), below=("why", "type"), columns_max=columns)
    return capsys.readouterr().out.splitlines()


def test_a_row_is_one_line_in_a_pipe(capsys):
    assert [line.split()[0] for line in a_table(capsys, 1000)] == ["id", LETTER[0]]


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_a_narrow_table_breaks_no_id_and_no_amount(capsys, columns):
    lines = a_table(capsys, columns)
    assert any(line.startswith(LETTER[0]) and LETTER[1] in line for line in lines)
    assert all(len(line) <= columns for line in lines if not line.startswith("    "))


def test_what_does_not_fit_stands_below_its_row_in_one_piece(capsys):
    *_, below = a_table(capsys, 60)
    assert below == f"    {LETTER[3]}"


def test_amounts_are_flush_right(capsys):
    print_table(("amount",), [("9.50 EUR",), ("1,234.50 EUR",)], right=("amount",))
    assert capsys.readouterr().out.splitlines() == ["      amount", "    9.50 EUR", "1,234.50 EUR"]


def test_a_line_is_wrapped_between_words_where_its_width_is_bounded(capsys):
    say("Look at the worker's other entries of that day", columns_max=20)
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(line.strip() for line in lines) == "Look at the worker's other entries of that day"
    assert all(len(line) <= 20 for line in lines)
