"""Physical lines of a file, plain or gzip: bounded in length, in constant memory, whatever the bytes are."""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from pipeline.errors import PipelineError

#: A longer line is handed on cut off at one byte more, so that its reader can tell.
line_bytes_max = 1 << 20
chunk_bytes = 1 << 17
_GZIP = b"\x1f\x8b"
_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class UnreadableFile(PipelineError):
    """The file can't be read as what it claims to be; the text names it and says what to do."""


class Lines:
    """Iterates over the lines of one file as bytes, line ends kept (LF, CRLF or CR).

    `encoding` is what to decode them with. UTF-16 and UTF-32 are handed on as UTF-8, since their line ends are not
    single bytes; `replaces` tells that damaged characters then show as U+FFFD. `broken` says, after the last line, why
    the file ended early (a truncated or damaged gzip), `torn` that its last line is only a part of one.

    Raises:
      UnreadableFile: there is no such file, or it may not be read, or the encoding has no such name.
    """

    def __init__(self, path: Path, encoding: str | None = None) -> None:
        self.path = path
        self.broken: str | None = None
        self.torn = False
        try:
            self._file = path.open("rb")
            self.bytes_total = path.stat().st_size
            head = self._file.read(2)
            self._file.seek(0)
        except OSError as error:
            raise UnreadableFile(f"{path}: {error.strerror or error}") from None
        self._gzip = head == _GZIP
        self._stream = cast(IO[bytes], gzip.GzipFile(fileobj=self._file)) if self._gzip else self._file
        self._first = self._read()
        self._choose_encoding(encoding)

    def _choose_encoding(self, named: str | None) -> None:
        marked = next(((mark, name) for mark, name in _BYTE_ORDER_MARKS if self._first.startswith(mark)), None)
        try:
            name = codecs.lookup(named or (marked[1] if marked else "utf-8")).name
            "".encode(name)
        except LookupError:
            self.close()
            raise UnreadableFile(
                f"{self.path}: {named!r} is not an encoding; usual ones: utf-8, cp1252, iso-8859-1"
            ) from None
        self._wide: codecs.IncrementalDecoder | None = None
        self.replaces = False
        self.encoding = "utf-8" if name == "utf-8-sig" else name
        if name.startswith(("utf-16", "utf-32")):
            self._wide = codecs.getincrementaldecoder(name)("replace")
            self.replaces = True
            self.encoding = "utf-8"
        elif marked and marked[0] == codecs.BOM_UTF8:
            self._first = self._first.removeprefix(codecs.BOM_UTF8)
            self.encoding = "utf-8"

    @property
    def bytes_read(self) -> int:
        """Bytes of the file itself (compressed, if it is) that have been read."""
        return self._file.tell()

    def first_bytes(self) -> bytes:
        """The beginning of the content, for a guess at what it is."""
        return self._first[:1000].lstrip(codecs.BOM_UTF16_LE + codecs.BOM_UTF16_BE).replace(b"\0", b"")

    def close(self) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[bytes]:
        tail, skipping = b"", False
        for chunk in self._chunks():
            lines = (tail + chunk).splitlines(keepends=True)
            # The last piece may go on in the next chunk, and a CR may be the first half of a CRLF.
            tail = lines.pop() if not lines[-1].endswith(b"\n") else b""
            for line in lines:
                if skipping:
                    skipping = False
                elif len(line) > line_bytes_max:
                    yield line[: line_bytes_max + 1]
                else:
                    yield line
            if len(tail) > line_bytes_max:
                if not skipping:
                    yield tail[: line_bytes_max + 1]
                skipping = True
                tail = tail[-1:] if tail.endswith(b"\r") else b" "
        if tail and not skipping:
            self.torn = self.broken is not None
            yield tail

    def _chunks(self) -> Iterator[bytes]:
        chunk = self._first
        self._first = b""
        while chunk:
            if self._wide is not None:
                chunk = self._wide.decode(chunk).encode("utf-8", "replace").removeprefix(codecs.BOM_UTF8)
            if chunk:
                yield chunk
            chunk = self._read()

    def _read(self) -> bytes:
        if self.broken:
            return b""
        try:
            return self._stream.read1(chunk_bytes) if self._gzip else self._stream.read(chunk_bytes)  # type: ignore[attr-defined]
        except EOFError:
            self.broken = "the gzip file is truncated: its end is missing"
        except (zlib.error, gzip.BadGzipFile) as error:
            self.broken = f"the gzip file is damaged ({error})"
        except OSError as error:
            self.broken = f"it could not be read any further ({error.strerror or error})"
        return b""
