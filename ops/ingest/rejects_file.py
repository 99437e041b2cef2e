"""The rejects file: one line per refused row, the row itself beside the reason, ready to be mended and read again."""

import csv
from collections.abc import Sequence
from pathlib import Path

from ops.ingest.lines import UnreadableFile
from ops.ingest.rows import Row
from ops.ingest.translation import BadCell

OUR_COLUMNS = ("file", "row", "line", "column", "reason")
#: Of a row that could not be taken apart, as much as a spreadsheet cell takes.
raw_chars_max = 32_000


class RejectsFile:
    """Written as the rows are refused. The columns are those of the first CSV file; JSON lines stand in `raw`.

    A source column of one of our names is called `file (source)` and so on.

    Raises:
      UnreadableFile: the file can't be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns: tuple[str, ...] | None = None
        try:
            self._file = path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
        except OSError as error:
            raise UnreadableFile(f"{path}: can't be written: {error.strerror or error}") from None
        self._writer = csv.writer(self._file)

    def begin(self, columns: Sequence[str], *, is_csv: bool) -> None:
        """A file begins; the first one decides about the columns."""
        if self._columns is None:
            self._columns = tuple(columns) if is_csv else ()
            named = [f"{name} (source)" if name in (*OUR_COLUMNS, "raw") else name for name in self._columns]
            self._writer.writerow((*OUR_COLUMNS, *named, "raw"))

    def write(self, path: Path, columns: Sequence[str], row: Row, refusal: BadCell) -> None:
        """One refused row: its cells under their names, or as it stands where it could not be taken apart."""
        cells = dict(zip(columns, row.cells, strict=False)) if row.fault is None else {}
        known = self._columns or ()
        as_it_stands = not cells or not known or set(known) != set(columns)
        self._writer.writerow(
            (
                path.name,
                row.number,
                row.line,
                refusal.column,
                refusal.reason,
                *(cells.get(name, "") for name in known),
                _raw(row) if as_it_stands else "",
            )
        )

    def close(self) -> None:
        self._file.close()


def _raw(row: Row) -> str:
    text = row.text if isinstance(row.text, str) else row.text[:raw_chars_max].decode("utf-8", "backslashreplace")
    return text[:raw_chars_max].rstrip("\r\n")
