"""The trial of the whole road into an ERP: time entries by file, broker and workers into Tryton, over a bad network.

The oracle is Tryton itself, asked past the proxy and past our connector, and the file that was read.
"""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
from rich.console import Console
from rich.table import Table

from tests.erp.calls import Caller

MAPPING = """
document_type = "time_entry"
source = "psa"
id = "id"

[fields]
worker = "worker"
project = "project"
date = "date"
hours = { column = "hours", type = "decimal" }
rate = { column = "rate", type = "decimal" }
currency = { constant = "EUR" }
status = { constant = "approved" }
"""
RULES = '[[routing]]\ndocument_type = "time_entry"\ntargets = ["erp"]\n'

FIRST_DAY, DAYS = date(2025, 1, 2), 660
#: Those of the seeded firm who have not left.
WORKERS = ("HR-0001", "HR-0002", "HR-0003", "HR-0004")
#: Hours of the entries of one day; no two alike, so that none looks like another's duplicate.
HOURS = (Decimal("3.5"), Decimal("4.25"))
RATE = Decimal("150.00")
RECORDS_MAX = DAYS * len(WORKERS) * len(HOURS)

LINE = "timesheet.line"
page_max = 1_000
_MARK = re.compile(r"\[tieout (\S+) (-?[\d.]+) ([A-Z]{3}) ")


class Row(msgspec.Struct, frozen=True):
    """A time entry as the file has it."""

    id: str
    worker: str
    project: str
    date: date
    hours: Decimal
    rate: Decimal = RATE


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What Tryton holds beside what was in the file; ids are those of the file."""

    rows: int
    lines: int
    lost: list[str]
    twice: list[str]
    strange: list[str]
    hours: tuple[Decimal, Decimal]
    amount: tuple[Decimal, Decimal]

    @property
    def holds(self) -> bool:
        ours_and_theirs = (self.hours, self.amount)
        return not (self.lost or self.twice or self.strange) and all(here == there for here, there in ours_and_theirs)


def rows_of(count: int, projects: Sequence[str]) -> list[Row]:
    """Entries of so many: per day one of each length for every worker."""
    assert count <= RECORDS_MAX, f"at most {RECORDS_MAX} fit into the days there are"
    rows = []
    for number in range(count):
        slot, worker = divmod(number, len(WORKERS))
        day, length = divmod(slot, len(HOURS))
        rows.append(
            Row(
                id=f"T-{number:05}",
                worker=WORKERS[worker],
                project=projects[number % len(projects)],
                date=FIRST_DAY + timedelta(days=day),
                hours=HOURS[length],
            )
        )
    return rows


def write_files(folder: Path, rows: Sequence[Row]) -> None:
    """`rules.toml`, `map.toml` and `entries.csv` in the folder."""
    (folder / "rules.toml").write_text(RULES)
    (folder / "map.toml").write_text(MAPPING)
    with (folder / "entries.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row.__struct_fields__)
        writer.writerows(msgspec.structs.astuple(row) for row in rows)


def held(call: Caller) -> int:
    """How many timesheet lines there are."""
    count: int = call(f"{LINE}.search_count", [])
    return count


def judged(call: Caller, rows: Sequence[Row]) -> Verdict:
    """Read every line that Tryton holds, and hold it against the file."""
    lines = list(_lines(call))
    found = Counter(line["id"] for line in lines)
    expected = {row.id: row for row in rows}
    strange = [line["id"] for line in lines if not _same(line, expected.get(line["id"]))]
    return Verdict(
        rows=len(rows),
        lines=len(lines),
        lost=sorted(expected.keys() - found.keys()),
        twice=sorted(name for name, count in found.items() if count > 1),
        strange=strange,
        hours=(sum((row.hours for row in rows), Decimal(0)), sum((line["hours"] for line in lines), Decimal(0))),
        amount=(
            sum((row.hours * row.rate for row in rows), Decimal(0)),
            sum((line["amount"] for line in lines), Decimal(0)),
        ),
    )


def print_report(verdict: Verdict, faults: Sequence[tuple[str, int, int]], told: dict[str, str]) -> None:
    """Two tables; every figure comes from the run."""
    console = Console(highlight=False)
    calls = Table("call to Tryton", "times", "carried out all the same", title="What the network did")
    for column in calls.columns[1:]:
        column.justify = "right"
    for name, count, called in faults:
        if count:
            calls.add_row(name, f"{count:,}", f"{called:,}")
    console.print(calls)
    outcome = Table("", "", title="What became of the time entries", show_header=False)
    outcome.columns[1].justify = "right"
    rows = {
        "in the file": f"{verdict.rows:,}",
        "in Tryton": f"{verdict.lines:,}",
        "lost": f"{len(verdict.lost)}",
        "twice": f"{len(verdict.twice)}",
        "with other content": f"{len(verdict.strange)}",
        "hours in the file, in Tryton": " = ".join(f"{one:,}" for one in verdict.hours),
        "EUR in the file, in Tryton": " = ".join(f"{one:,.2f}" for one in verdict.amount),
    }
    for name, value in (rows | told).items():
        outcome.add_row(name, value)
    console.print(outcome)


def _lines(call: Caller) -> Any:
    fields, last = ["date", "duration", "description", "employee.party.identifiers.code", "work.origin.number"], 0
    while page := call(f"{LINE}.search_read", [["id", ">", last]], 0, page_max, [["id", "ASC"]], fields):
        for line in page:
            yield _line(line)
        last = page[-1]["id"]


def _line(line: dict[str, Any]) -> dict[str, Any]:
    mark = _MARK.search(line["description"] or "")
    day = line["date"]
    return {
        "id": unquote(mark[1]).split("/")[3] if mark else f"timesheet line {line['id']}",
        "amount": Decimal(mark[2]) if mark else Decimal(0),
        "hours": Decimal(str(line["duration"]["seconds"])) / 3600,
        "date": date(day["year"], day["month"], day["day"]),
    }


def _same(line: dict[str, Any], row: Row | None) -> bool:
    if row is None:
        return False
    return (line["date"], line["hours"], line["amount"]) == (row.date, row.hours, row.hours * row.rate)
