"""A look at the first rows of a file through a mapping: what would become of them, without writing anything."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ops.ingest.layout import MappingRules
from ops.ingest.reader import open_rows
from ops.ingest.translation import BadCell, Translation, judge_row

#: Rows looked at while searching for records to show.
rows_max = 10_000
problems_max = 20
#: Rows shown of the same thing wrong with the same column.
alike_max = 3
_VALUE = re.compile(r"""'[^']*'|"[^"]*"|[0-9]+""")


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A mapped record. `fields` are those that the mapping fills, `revision` None when derived from the content."""

    row: int
    line: int
    subject: str
    revision: str | None
    fields: dict[str, Any]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A cell (or a whole row) because of which a row would be rejected."""

    row: int
    line: int
    column: str
    reason: str


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What the first rows of one file come to. It is good when at least one row was mapped and none refused."""

    path: str
    document_type: str
    source: str
    rows: int
    filtered: int
    mapped: int
    rejected: int
    columns_unused: tuple[str, ...]
    samples: tuple[Sample, ...]
    problems: tuple[Problem, ...]
    error: str | None

    @property
    def is_good(self) -> bool:
        return self.mapped > 0 and self.rejected == 0 and self.error is None


def check(mapping: MappingRules, files: Sequence[Path], sample: int = 3, rows_min: int = 1000) -> list[Checked]:
    """Map the first rows of every file: at least `rows_min`, and on until `sample` records have been found.

    Raises:
      InvalidMapping: a file lacks columns.
      UnreadableFile: a file can't be opened.
    """
    return [_check(mapping, path, sample, rows_min) for path in files]


def _shown(value: Any) -> Any:
    """Tasks by their ids: that is what other records call them."""
    return ", ".join(one.id for one in value) if isinstance(value, tuple) else value


def _check(mapping: MappingRules, path: Path, sample: int, rows_min: int) -> Checked:
    rows = open_rows(path, mapping.file, mapping.columns(), mapping.needed_columns())
    translation = Translation(mapping, rows.columns)
    samples: list[Sample] = []
    problems: list[Problem] = []
    alike: Counter[tuple[str, str]] = Counter()
    counts = {"rows": 0, "filtered": 0, "mapped": 0, "rejected": 0}
    try:
        for row in rows:
            if counts["rows"] >= rows_max or (counts["rows"] >= rows_min and len(samples) >= sample):
                break
            counts["rows"] += 1
            try:
                mapped = judge_row(row, rows.columns, translation)
            except BadCell as refusal:
                counts["rejected"] += 1
                for each in (refusal, *refusal.further):
                    alike[kind := (each.column, _VALUE.sub("", each.reason))] += 1
                    if len(problems) < problems_max and alike[kind] <= alike_max:
                        problems.append(Problem(row=row.number, line=row.line, column=each.column, reason=each.reason))
                continue
            counts["filtered" if mapped is None else "mapped"] += 1
            if mapped is not None and len(samples) < sample:
                fields = {name: _shown(getattr(mapped.document, name)) for name in mapping.fields}
                samples.append(
                    Sample(
                        row=row.number, line=row.line, subject=mapped.subject, revision=mapped.revision, fields=fields
                    )
                )
    finally:
        rows.lines.close()
    used = set(mapping.columns())
    return Checked(
        path=str(path),
        document_type=mapping.document_type,
        source=mapping.source,
        columns_unused=tuple(name for name in rows.columns if name not in used),
        samples=tuple(samples),
        problems=tuple(problems),
        error=rows.lines.broken,
        **counts,
    )
