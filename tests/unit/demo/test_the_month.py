"""The demo's month: the same for the same seed, as large as it says, with exactly the faults planted."""

from collections import Counter
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from ops.demo import firm, month
from ops.demo.exports import write_exports
from ops.demo.story import clear
from ops.ingest.check import check
from ops.ingest.mapping import load_mapping
from pipeline.rules import load_rules


@pytest.fixture(scope="module")
def generated() -> month.Month:
    return month.generate()


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    return write_exports(tmp_path_factory.mktemp("demo"))


def test_the_same_seed_writes_the_same_bytes(exports, tmp_path):
    again = write_exports(tmp_path)
    for one, other in zip(exports.all, again.all, strict=True):
        assert one.file.read_bytes() == other.file.read_bytes()
    assert month.generate(seed=1) != month.generate()


def test_the_firm_is_as_large_as_promised(generated):
    assert (len(firm.ENTITIES), len(set(firm.ENTITIES.values()))) == (3, 2)
    assert (len(firm.workers()), len(firm.projects())) == (40, 12)
    assert 2_900 <= len(generated.time_entries) <= 3_300
    assert 280 <= len(generated.expenses) <= 320


def test_every_entry_lies_in_the_past_on_a_working_day_of_the_month_or_the_closed_one(generated):
    days = {date.fromisoformat(row["date"]) for row in generated.time_entries if _is_date(row["date"])}
    assert {f"{day:%Y-%m}" for day in days} == {"2025-09", firm.CLOSED_PERIOD}
    assert all(day.weekday() < 5 for day in days)


def test_the_duplicates_and_revisions_are_planted(generated):
    keys = Counter((row["id"], row["rev"]) for row in generated.time_entries)
    assert sum(count - 1 for count in keys.values()) == month.EXACT_DUPLICATES
    assert sum(row["rev"] == "2" for row in generated.time_entries) == month.CORRECTED_IN_FILE
    assert len(generated.corrections) == month.CORRECTED_LATER


def test_a_correction_corrects_an_entry_that_nothing_else_is_wrong_with(generated):
    entries = Counter(row["id"] for row in generated.time_entries)
    for row in generated.corrections:
        assert entries[row["id"]] == 1
        assert row["projectid"] not in (firm.LATE_PROJECT, firm.EXPIRED_RATE_PROJECT)
        assert row["userid"] != firm.psa_user(firm.WORKER_WITHOUT_IDENTITY)


def test_one_day_is_overbooked(generated):
    hours: Counter[tuple[str, str]] = Counter()
    latest = {row["id"]: row for row in generated.time_entries if row["status"] == "A" and _is_number(row)}
    for row in latest.values():
        hours[row["userid"], row["date"]] += Decimal(row["decimal_hours"])
    assert sum(total > 24 for total in hours.values()) == 1


def test_the_rules_translate_every_psa_user_but_the_new_joiner(exports):
    rules = load_rules(exports.rules)
    identities = rules.mappings["worker:psa"]
    known = {worker["Employee_ID"] for worker in firm.workers()} - {firm.WORKER_WITHOUT_IDENTITY}
    assert identities == {firm.psa_user(employee): employee for employee in known}
    assert set(month.CATEGORIES) - rules.mappings["expense_account"].keys() == {"Conference"}
    assert {name: entity.currency for name, entity in rules.legal_entities.items()} == firm.ENTITIES


def test_every_file_fits_its_mapping_but_for_the_broken_rows(exports):
    refused = {}
    for export in exports.all:
        (checked,) = check(load_mapping(export.mapping), [export.file], rows_min=10_000)
        refused[export.file.name] = checked.rejected
        assert checked.rows == export.rows
    assert {name: count for name, count in refused.items() if count} == {
        "psa_time_2025-09.csv.gz": len(month.UNREADABLE_ENTRIES),
        "travel_2025-09.jsonl": len(month.UNREADABLE_EXPENSES),
    }


def test_a_new_run_removes_what_the_last_one_left_and_nothing_else(tmp_path: Path):
    write_exports(tmp_path)
    (tmp_path / "tieout.db").write_text("")
    (tmp_path / "notes.txt").write_text("mine")
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def _is_date(text: str) -> bool:
    return len(text) == 10 and text[4] == "-"


def _is_number(row: dict[str, str]) -> bool:
    return row["decimal_hours"].replace(".", "").isdigit() and _is_date(row["date"])
