"""The demo's files: exports as each source system would write them, their mapping files, and the firm's rules."""

import csv
import gzip
import io
from importlib.resources import files
from pathlib import Path

import msgspec

from ops.demo.firm import LATE_PROJECT, Row, customers, projects, rate_cards, workers
from ops.demo.month import generate

RULES, ROUTING, ROUTING_ERP = "rules.toml", "routing.toml", "routing_erp.toml"


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """One export file of `rows` rows and the mapping file that reads it; `what` says in a few words what they are."""

    file: Path
    mapping: Path
    rows: int
    what: str


class Exports(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the demo reads: `first` in order, then the late project, then the corrections."""

    rules: Path
    first: tuple[Export, ...]
    late_project: Export
    corrections: Export

    @property
    def all(self) -> tuple[Export, ...]:
        """Every file, in the order in which they are read."""
        return (*self.first, self.late_project, self.corrections)


def write_exports(directory: Path, *, erp: bool = False) -> Exports:
    """Write the month's export files, their mappings and the rules below `directory` (made if need be).

    With `erp` the rules send documents to the target `tryton` as well.
    """
    for name in ("exports", "mappings"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    month = generate()
    on_time = [row for row in projects() if row["project_id"] != LATE_PROJECT]
    late = [row for row in projects() if row["project_id"] == LATE_PROJECT]

    def export(name: str, rows: list[Row], mapping: str, what: str) -> Export:
        return Export(
            file=_write(directory / "exports" / name, rows),
            mapping=_copy(f"{mapping}.toml", directory / "mappings"),
            rows=len(rows),
            what=what,
        )

    return Exports(
        rules=_copy(RULES, directory, more=ROUTING_ERP if erp else ROUTING),
        first=(
            export("crm_accounts.csv", customers(), "customers", "customers, from the CRM"),
            export("hr_workers.csv", workers(), "workers", "workers, from HR"),
            export("psa_projects.jsonl", on_time, "projects", "projects, from the PSA"),
            export("psa_rate_cards.csv", rate_cards(), "rate_cards", "rate cards, from the PSA"),
            export("psa_time_2025-09.csv.gz", month.time_entries, "time_entries", "time entries, from the PSA"),
            export("travel_2025-09.jsonl", month.expenses, "expenses", "expenses, from the travel tool"),
        ),
        late_project=export("psa_projects_late.jsonl", late, "projects", f"project ({LATE_PROJECT}), a day late"),
        corrections=export(
            "psa_time_2025-09_corrections.csv",
            month.corrections,
            "time_entries",
            "corrections of time that is posted already",
        ),
    )


def _write(path: Path, rows: list[Row]) -> Path:
    """Write rows in the format that the name says: `.csv`, `.jsonl`, either with `.gz`."""
    if ".csv" in path.suffixes:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        content = text.getvalue().encode()
    else:
        content = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    # No timestamp in the gzip header: the same seed writes the same bytes.
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


def _copy(name: str, directory: Path, *, more: str | None = None) -> Path:
    path = directory / name
    path.write_bytes(b"".join((files("ops.demo") / one).read_bytes() for one in (name, more) if one is not None))
    return path
