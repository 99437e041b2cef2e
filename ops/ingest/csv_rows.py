"""CSV to rows. Whatever is wrong with a line becomes a faulty row, and never takes its neighbours along."""

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ops.ingest.layout import InvalidMapping, MappingFile, missing_columns
from ops.ingest.lines import Lines, UnreadableFile
from ops.ingest.rows import Row, record_bytes_max, record_lines_max

_DELIMITERS = ",;\t|"
_QUOTED = re.compile('"[^"]*"')
_BLANK = ""


class _TooLong(Exception):
    """The record goes on beyond every bound."""


class _Line(NamedTuple):
    """A decoded line. `damaged`: with bytes that do not belong there; `torn`: the file breaks off in it."""

    number: int
    text: str
    size: int
    damaged: bool
    torn: bool


class _Feed:
    """Gives csv.reader one decoded line at a time and remembers those of the record that is being read."""

    def __init__(self, lines: Lines) -> None:
        self._source = lines
        self._lines = iter(lines)
        self._again: deque[_Line] = deque()
        self._number = 0
        self._size = 0
        self.pulled: list[_Line] = []

    def __iter__(self) -> "_Feed":
        return self

    def begin(self) -> None:
        """A new record begins."""
        self.pulled = []
        self._size = 0

    def again(self, after: int) -> None:
        """Give the lines of this record once more, but for the first `after`: they may be rows of their own."""
        self._again.extendleft(reversed(self.pulled[after:]))
        del self.pulled[after:]

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._decoded(next(self._lines))
        self.pulled.append(line)
        self._size += line.size
        if self._size > record_bytes_max or len(self.pulled) > record_lines_max:
            raise _TooLong
        return line.text

    def _decoded(self, raw: bytes) -> _Line:
        """The line; bytes that do not belong there are kept as lone surrogates."""
        source = self._source
        self._number += 1
        try:
            text = raw.decode(source.encoding)
            damaged = "\0" in text or (source.replaces and "\ufffd" in text)
        except UnicodeDecodeError:
            text, damaged = raw.decode(source.encoding, "surrogateescape"), True
        return _Line(self._number, text, len(raw), damaged, source.torn)


class CsvRows:
    """The rows of a CSV file; `columns` are the names its cells go by.

    A name that occurs more than once is `Name#1`, `Name#2`; a column without a name is `#3` by its position.
    """

    def __init__(self, lines: Lines, settings: MappingFile, wanted: Sequence[str]) -> None:
        self.lines = lines
        self._feed = _Feed(lines)
        self._skipped = settings.skip_lines
        for _ in range(settings.skip_lines):
            next(self._feed, None)
        self._delimiter, self._quote = settings.delimiter, settings.quote
        header = settings.columns if settings.columns is not None else self._header()
        self._delimiter = self._delimiter or ","
        self.columns = _addresses(header)
        self._width = len(self.columns)
        self._check(wanted)

    def _header(self) -> list[str]:
        """Read the header; the delimiter, if the mapping does not say, is the one it has most of."""
        path = self.lines.path
        for line in iter(self._next_line, None):
            text = line.text.strip("\r\n")
            if text.lower().startswith("sep=") and len(text) == 5:
                self._delimiter = self._delimiter or text[4]
                continue
            if not text.strip():
                continue
            if line.damaged:
                raise UnreadableFile(
                    f"{path}: its header is not {self.lines.encoding}; add `encoding` (cp1252, ...) to the mapping"
                )
            if text[:1] in "[{":
                raise UnreadableFile(f"{path}: looks like JSON (begins with {text[:1]}); see `format` in the mapping")
            if self._delimiter is None:
                self._delimiter = max(_DELIMITERS, key=_QUOTED.sub("", text).count)
            self._feed.again(0)
            return self._first_record(path)
        if self.lines.broken:
            raise UnreadableFile(f"{path}: {self.lines.broken}, and nothing could be read")
        if self._skipped:
            raise UnreadableFile(f"{path}: nothing is left below the {self._skipped} lines of `skip_lines`")
        raise UnreadableFile(f"{path}: the file is empty; expected a header with the column names")

    def _first_record(self, path: Path) -> list[str]:
        self._feed.begin()
        try:
            return next(self._parser())
        except (csv.Error, _TooLong, StopIteration):
            raise UnreadableFile(f"{path}: its header can't be read; is the delimiter or the quote another?") from None

    def _next_line(self) -> _Line | None:
        self._feed.begin()
        try:
            next(self._feed)
        except StopIteration:
            return None
        except _TooLong:
            raise UnreadableFile(
                f"{self.lines.path}: its first line is longer than {record_bytes_max:,} bytes"
            ) from None
        return self._feed.pulled[0]

    def _parser(self) -> Iterator[list[str]]:
        return csv.reader(self._feed, delimiter=self._delimiter or ",", quotechar=self._quote, strict=True)

    def _check(self, wanted: Sequence[str]) -> None:
        missing = [name for name in wanted if name not in self.columns]
        for name in missing:
            if f"{name}#1" in self.columns:
                raise InvalidMapping(
                    f"{self.lines.path}: column {name!r} occurs more than once"
                    f"; write {name}#1 or {name}#2 in the mapping"
                )
        if missing:
            hint = ""
            if len(self.columns) == 1 and any(mark in self.columns[0] for mark in _DELIMITERS):
                hint = f"; the header is a single cell: is the delimiter {self._delimiter!r}?"
            raise InvalidMapping(f"{self.lines.path}: no column {missing_columns(missing, self.columns)}{hint}")

    def __iter__(self) -> Iterator[Row]:
        feed, number, parser = self._feed, 0, self._parser()
        while True:
            feed.begin()
            cells: list[str] = []
            try:
                cells = next(parser)
                fault = self._misshape(cells)
            except StopIteration:
                return
            except csv.Error as error:
                fault = _csv_fault(str(error), self._quote)
            except _TooLong:
                fault = f"longer than {record_bytes_max:,} bytes or {record_lines_max} lines"
                if len(feed.pulled) > 1:
                    fault += f": a quote {self._quote} is opened and not closed"
            if fault is None and feed.pulled[-1].torn:
                fault = "the file breaks off in this row"
            elif fault is _BLANK:
                continue
            elif fault is not None:
                # The other lines of the record were perhaps swallowed by a stray quote.
                feed.again(1)
            number += 1
            first = feed.pulled[0]
            if len(feed.pulled) == 1:
                yield Row(number, first.number, cells, first.text, fault, first.damaged)
            else:
                text = "".join(line.text for line in feed.pulled)
                yield Row(number, first.number, cells, text, fault, any(line.damaged for line in feed.pulled))

    def _misshape(self, cells: list[str]) -> str | None:
        """What is wrong with the number of cells. Empty ones too many at the end do no harm."""
        if len(cells) == self._width:
            return None if any(cells) else _BLANK
        if not any(cell.strip() for cell in cells):
            return _BLANK
        if len(cells) > self._width and not any(cells[self._width :]):
            return None
        return f"{len(cells)} cells where the header has {self._width}"


def _csv_fault(message: str, quote: str) -> str:
    if "field larger" in message or "unexpected end" in message:
        return (
            f"a quote {quote} is opened and not closed, or a cell is longer than {csv.field_size_limit():,} characters"
        )
    return f"its quotes {quote} do not match: a quote inside a quoted cell is written twice"


def _addresses(header: Sequence[str]) -> tuple[str, ...]:
    """The name each column goes by."""
    names = [name.strip() for name in header]
    seen: dict[str, int] = {}
    addresses = []
    for position, name in enumerate(names, 1):
        if not name:
            addresses.append(f"#{position}")
        elif names.count(name) > 1:
            seen[name] = seen.get(name, 0) + 1
            addresses.append(f"{name}#{seen[name]}")
        else:
            addresses.append(name)
    return tuple(addresses)
