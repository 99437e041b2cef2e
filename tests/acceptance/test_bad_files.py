"""A corrupted copy of the file: each defect is a clear reject or one clear error, and the balance holds."""

import gzip
from pathlib import Path

import pytest

from tests.acceptance.declarations import MAPPING, a_small_file
from tests.acceptance.product import Product

APPROVED = "Declaration FINAL_APPROVED by SUPERVISOR"


@pytest.fixture
def lines(tmp_path: Path) -> list[bytes]:
    return a_small_file(tmp_path / "whole.csv", declarations=60).read_bytes().splitlines(keepends=True)


def spoiled(lines: list[bytes], old: bytes, new: bytes) -> list[bytes]:
    """The file with one approved row spoiled."""
    number = next(n for n, line in enumerate(lines) if APPROVED.encode() in line and old in line)
    return [*lines[:number], lines[number].replace(old, new), *lines[number + 1 :]]


def ingest(tmp_path: Path, content: bytes, *, name: str = "spoiled.csv", expect: int) -> tuple[Product, dict]:
    (tmp_path / name).write_bytes(content)
    product = Product(tmp_path)
    summary = product.json("ingest", name, "--map", MAPPING, "--rejects", "rejects.csv", expect=expect)
    product.run("balance")
    return product, summary


@pytest.mark.parametrize(
    ("old", "new", "column"),
    [
        (b"2018-03-03", b"2018-02-31", "timestamp"),
        (b"2018-03-03", b"yesterday!", "timestamp"),
        (b",12.4691356,", b",12.4691.356,", "amount"),
        (b",12.4691356,", b",NaN,", "amount"),
        (b",12.4691356,", b",1e400,", "amount"),
    ],
)
def test_a_bad_value_is_rejected_with_row_column_and_reason(tmp_path, lines, old, new, column):
    _, summary = ingest(tmp_path, b"".join(spoiled(lines, old, new)), expect=0)
    assert summary["rejected"] == 1
    rejects = (tmp_path / "rejects.csv").read_text()
    assert column in rejects
    assert summary["read"] == summary["accepted"] + summary["rejected"] + summary["seen_before"]


def test_a_row_in_the_wrong_encoding_is_rejected_alone(tmp_path, lines):
    _, summary = ingest(tmp_path, b"".join(spoiled(lines, b"ROLE", b"R\xff\xfeLE")), expect=0)
    assert summary["rejected"] <= 1
    assert summary["read"] == summary["accepted"] + summary["rejected"]


def test_a_line_of_ten_megabytes_is_rejected_alone(tmp_path, lines):
    product, summary = ingest(tmp_path, b"".join(spoiled(lines, b"ROLE", b"R" * 10_000_000)), expect=0)
    assert summary["rejected"] == 1
    assert product.sheets()["expense.v1", "EUR"]["reconciled"] > 0


def test_a_truncated_gzip_processes_what_is_readable_and_says_so(tmp_path, lines):
    whole = gzip.compress(b"".join(lines))
    _, summary = ingest(tmp_path, whole[: len(whole) * 2 // 3], name="spoiled.csv.gz", expect=1)
    assert summary["accepted"] > 0
    assert "truncated" in " ".join(summary["errors"]).lower() or "ended" in " ".join(summary["errors"]).lower()


def test_a_missing_column_is_one_clear_error(tmp_path, lines):
    product = Product(tmp_path)
    (tmp_path / "spoiled.csv").write_bytes(b"".join(lines).replace(b",amount,", b",amnt,", 1))
    done = product.run("ingest", "spoiled.csv", "--map", MAPPING, expect=2)
    assert "amount" in done.stderr
    assert "amnt" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02\x03", b"declaration_id\n"])
def test_a_file_that_is_none_is_one_clear_error(tmp_path, content):
    product = Product(tmp_path)
    (tmp_path / "spoiled.csv").write_bytes(content)
    done = product.run("ingest", "spoiled.csv", "--map", MAPPING, expect=2)
    assert "spoiled.csv" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_file_that_is_not_there_is_one_clear_error(tmp_path):
    done = Product(tmp_path).run("ingest", "nowhere.csv", "--map", MAPPING, expect=2)
    assert "nowhere.csv" in done.stderr
