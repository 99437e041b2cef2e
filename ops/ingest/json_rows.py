"""JSON Lines to rows: one object per line, numbers exact, a key inside an object by its path."""

from collections.abc import Collection, Iterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from ops.ingest.layout import InvalidMapping, MappingFile, is_near, missing_columns
from ops.ingest.lines import Lines, UnreadableFile, line_bytes_max
from ops.ingest.rows import Row

_sniffed_objects = 100


class JsonRows:
    """The rows of a JSON Lines file; `columns` are the wanted ones, a key inside an object by its path (`user.id`)."""

    def __init__(self, lines: Lines, settings: MappingFile, wanted: Sequence[str], needed: Collection[str]) -> None:
        self.lines = lines
        self.columns = tuple(wanted)
        self._paths = [(name, name.split(".")) for name in wanted]
        self._decoder = msgspec.json.Decoder(float_hook=Decimal)
        self._numbered = enumerate(lines, 1)
        self._ahead: list[tuple[int, bytes]] = []
        self._check(settings.columns or (), needed)

    def _check(self, declared: Collection[str], needed: Collection[str]) -> None:
        """A column that none of the first objects has is an error if it is needed, or if they have one much like it."""
        known: dict[str, None] = {}
        found: set[str] = set()
        objects = 0
        while objects < _sniffed_objects and (line := next(self._numbered, None)):
            self._ahead.append(line)
            if line[1].lstrip()[:1] == b"[" and not objects:
                raise UnreadableFile(
                    f"{self.lines.path}: begins with [; expected one object per line (jq -c '.[]' makes them of a list)"
                )
            content, fault = self._decoded(line[1])
            if fault is None:
                objects += 1
                known.update(dict.fromkeys(_keys(content)))
                found.update(name for name, path in self._paths if _has(content, name, path))
        missing = [
            name
            for name in self.columns
            if name not in found and name not in declared and (name in needed or is_near(name, known))
        ]
        if objects and missing:
            first = f"the first {objects} objects have" if objects > 1 else "its first object has"
            raise InvalidMapping(f"{self.lines.path}: {first} no key {missing_columns(missing, tuple(known))}")
        if not self._ahead and self.lines.broken:
            raise UnreadableFile(f"{self.lines.path}: {self.lines.broken}, and nothing could be read")

    def __iter__(self) -> Iterator[Row]:
        number = 0
        while self._ahead:
            ahead, self._ahead = self._ahead, []
            for line in ahead:
                if row := self._row(number + 1, *line):
                    number += 1
                    yield row
        for line in self._numbered:
            if row := self._row(number + 1, *line):
                number += 1
                yield row

    def _row(self, number: int, line: int, raw: bytes) -> Row | None:
        if not raw.strip():
            return None
        content, fault = self._decoded(raw)
        if fault is not None:
            torn = self.lines.torn and not raw.endswith((b"\n", b"\r"))
            return Row(number, line, (), raw, "the file breaks off in this row" if torn else fault)
        return Row(number, line, [_value(content, name, path) for name, path in self._paths], raw)

    def _decoded(self, raw: bytes) -> tuple[dict[str, Any], str | None]:
        if len(raw) > line_bytes_max:
            return {}, f"longer than {line_bytes_max:,} bytes"
        try:
            content = self._decoder.decode(raw if self.lines.encoding == "utf-8" else raw.decode(self.lines.encoding))
        except UnicodeDecodeError as error:
            return {}, f"not {self.lines.encoding} (byte {error.object[error.start]:#04x}); see `encoding`"
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            return {}, f"not JSON: {error}"
        if not isinstance(content, dict):
            return {}, "not a JSON object"
        return content, None


def _has(content: dict[str, Any], name: str, path: list[str]) -> bool:
    if name in content:
        return True
    value: Any = content
    for key in path:
        if value is None:
            return True
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return True


def _value(content: dict[str, Any], name: str, path: list[str]) -> Any:
    """The value of a key, or of a key inside objects; None where it is not there."""
    if name in content or len(path) == 1:
        return content.get(name)
    value: Any = content
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def _keys(content: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in content.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")
