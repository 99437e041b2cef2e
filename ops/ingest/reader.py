"""Files to rows: CSV and JSON Lines, plain or gzip, in constant memory. A bad line is a faulty row, not an error."""

from collections.abc import Collection, Sequence
from pathlib import Path

from ops.ingest.csv_rows import CsvRows
from ops.ingest.json_rows import JsonRows
from ops.ingest.layout import CSV, JSONL, MappingFile
from ops.ingest.lines import Lines, UnreadableFile

_JSON_NAMES = (".jsonl", ".ndjson", ".json")


def open_rows(
    path: Path, settings: MappingFile, wanted: Sequence[str], needed: Collection[str]
) -> "CsvRows | JsonRows":
    """Open a file; its kind is what the mapping says, or else what its name and first bytes say.

    Args:
      wanted: the columns that the mapping reads.
      needed: those of them that no row can do without; in JSON, where a missing key may mean null, only they must show.

    Raises:
      UnreadableFile: it can't be opened, is empty, or its header can't be read.
      InvalidMapping: columns are missing; the text has the nearest names.
    """
    lines = Lines(path, settings.encoding)
    try:
        if lines.first_bytes().startswith(b"PK\x03\x04"):
            raise UnreadableFile(f"{path}: looks like an Excel workbook or a zip file; save it as CSV")
        kind = settings.format or _kind_of(path, lines)
        if kind == JSONL:
            return JsonRows(lines, settings, wanted, needed)
        return CsvRows(lines, settings, wanted)
    except BaseException:
        lines.close()
        raise


def _kind_of(path: Path, lines: Lines) -> str:
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(_JSON_NAMES):
        return JSONL
    return JSONL if lines.first_bytes().lstrip()[:1] == b"{" else CSV
