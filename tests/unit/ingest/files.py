"""Writes mapping files and exports for the tests, and maps whole files in memory."""

import gzip
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from textwrap import dedent

from ops.ingest.csv_rows import CsvRows
from ops.ingest.json_rows import JsonRows
from ops.ingest.layout import MappingRules
from ops.ingest.mapping import load_mapping
from ops.ingest.reader import open_rows
from ops.ingest.rows import Row
from ops.ingest.translation import BadCell, Mapped, Translation, judge_row

EXPENSE = """
    document_type = "expense"
    source = "test"
    id = "id"
    [fields]
    date = "date"
    amount = "amount"
    currency = { constant = "EUR" }
    """


def a_mapping(folder: Path, text: str = EXPENSE, *, top: str = "", fields: str = "") -> MappingRules:
    """A mapping from its text; `top` and `fields` add lines before and under [fields]."""
    head, _, tail = dedent(text).partition("[fields]\n")
    path = folder / "mapping.toml"
    path.write_text(f"{head}{dedent(top)}\n[fields]\n{tail}{dedent(fields)}\n", "utf-8")
    return load_mapping(path)


def a_file(folder: Path, content: str | bytes, name: str = "export.csv") -> Path:
    """A file of this content; compressed if its name says so."""
    path = folder / name
    raw = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return path


@contextmanager
def opened(path: Path, mapping: MappingRules) -> Iterator[CsvRows | JsonRows]:
    """The rows of a file, closed at the end of the block."""
    rows = open_rows(path, mapping.file, mapping.columns(), mapping.needed_columns())
    with closing(rows.lines):
        yield rows


def read(path: Path, mapping: MappingRules) -> list[Row]:
    """All rows of a file."""
    with opened(path, mapping) as rows:
        return list(rows)


def translate(path: Path, mapping: MappingRules) -> tuple[list[Mapped], list[tuple[int, str, str]], int]:
    """The mapped rows, the refusals (row, column, reason), and how many rows the filter left out."""
    mapped: list[Mapped] = []
    refused: list[tuple[int, str, str]] = []
    filtered = 0
    with opened(path, mapping) as rows:
        translation = Translation(mapping, rows.columns)
        for row in rows:
            try:
                one = judge_row(row, rows.columns, translation)
            except BadCell as refusal:
                refused.append((row.number, refusal.column, refusal.reason))
                continue
            if one is None:
                filtered += 1
            else:
                mapped.append(one)
    return mapped, refused, filtered


def expenses(count: int, *, first: int = 1) -> str:
    """An export with a header and `count` expenses of 1.50, 2.50, ... EUR."""
    return "id,date,amount,note\n" + "".join(
        f"E-{number},2026-03-{1 + number % 28:02},{number}.50,note {number}\n" for number in range(first, first + count)
    )


def total(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0))
