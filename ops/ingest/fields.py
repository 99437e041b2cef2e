"""One field from one cell: null words, value map, type, factor and scale, in this order. Pure."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec

from ops.ingest.layout import (
    BOOLEAN,
    DATE,
    DECIMAL,
    DURATION,
    INTEGER,
    LIST,
    TEXT,
    TIMESTAMP,
    Column,
    InvalidMapping,
    MappingRules,
    check_zone,
    constant_text,
    factor_of,
)
from ops.ingest.values import (
    BadValue,
    bounded,
    date_parser,
    parse_boolean,
    parse_decimal,
    parse_duration,
    parse_integer,
    quoted,
    scaled,
    timestamp_parser,
)

#: A duration without `scale` is kept to this many decimals of an hour.
duration_scale = 4
text_length_max = 200
Parse = Callable[[str], Any]


class Field:
    """Reads one field from its cell."""

    position = -1

    def __init__(self, name: str, column: Column, mapping: MappingRules, *, needed: bool) -> None:
        self.name, self.column_name = name, column.column or ""
        self._needed = needed
        nulls = mapping.file.null_words if column.null_words is None else column.null_words
        self._nulls = frozenset(("", *nulls))
        self._strip = tuple(column.strip)
        self._parse = _parser(name, column, mapping)
        self._type = column.type
        self._separator = column.separator
        self._keep_others = column.others == "keep"
        self._values = None
        if column.values is not None:
            self._values = {key: self.fixed(value, f'values."{key}"') for key, value in column.values.items()}
        self._default = None if column.default is None else self.fixed(column.default, "default")

    def fixed(self, value: Any, key: str) -> Any:
        """A value that stands in the mapping, read as a cell would be but in plain notation.

        Raises:
          InvalidMapping: it is not of the field's type.
        """
        if self._type == LIST:
            return value
        try:
            if self._type in (DECIMAL, INTEGER, DURATION):
                return parse_decimal(constant_text(value))
            if self._type == DATE:
                return date.fromisoformat(constant_text(value))
            if self._type == TIMESTAMP:
                return timestamp_parser((), None)(constant_text(value))
            return self._parse(constant_text(value))
        except ValueError as error:
            raise InvalidMapping(f"fields.{self.name}.{key}: {error}") from None

    def read(self, cell: Any) -> Any:
        """The value; None where there is none.

        Raises:
          BadValue: it can't be read.
        """
        if self._type == LIST and isinstance(cell, list):
            return [{"id": one} if isinstance(one, str) else one for one in cell] or None
        text = text_of(cell)
        for affix in self._strip:
            text = text.replace(affix, "")
        text = text.strip() if self._strip else text
        if text in self._nulls:
            return self._absent()
        if self._values is not None:
            if text in self._values:
                return self._values[text]
            if not self._keep_others:
                return self._unlisted(text)
        return self._parse(text)

    def _absent(self) -> Any:
        if self._default is None and self._needed:
            raise BadValue(f"empty, but {self.name} is needed; add a `default` if there is one")
        return self._default

    def _unlisted(self, text: str) -> Any:
        if self._default is not None:
            return self._default
        listed = ", ".join(map(repr, list(self._values or ())[:10]))
        raise BadValue(f'{quoted(text)} is not in `values` ({listed}); add it, or a `default`, or `others = "keep"`')


def text_of(cell: Any) -> str:
    """A cell as text, without white space around it; JSON's numbers and booleans as they are written.

    Raises:
      BadValue: an object or a list, or text that no database takes.
    """
    if isinstance(cell, str):
        if "\0" in cell:
            raise BadValue("contains a NUL character")
        return cell.strip()
    if cell is None:
        return ""
    if isinstance(cell, bool | int | Decimal):
        return constant_text(cell)
    raise BadValue("is an object or a list; name the key inside with a dot, as in `user.id`")


def is_storable(text: str) -> bool:
    return not any(character < " " or "\ud800" <= character <= "\udfff" for character in text)


def _parser(name: str, column: Column, mapping: MappingRules) -> Parse:
    """The parser of one field, with the mapping's settings where the field has none of its own."""
    formats = column.format if column.format is not None else []
    if column.type == DATE and column.format is None:
        formats = mapping.file.date_format or []
    zone = check_zone(column.timezone or mapping.file.timezone, f"fields.{name}")
    decimal = mapping.file.decimal if column.decimal is None else column.decimal
    thousands = mapping.file.thousands if column.thousands is None else column.thousands
    match column.type:
        case "decimal":
            return _scaling(column, lambda text: parse_decimal(text, decimal=decimal, thousands=thousands))
        case "integer":
            return _scaling(column, lambda text: bounded(Decimal(parse_integer(text)), text))
        case "duration":
            return _scaling(column, parse_duration, duration_scale)
        case "date":
            return date_parser(_listed(formats), zone)
        case "timestamp":
            return timestamp_parser(_listed(formats), zone)
    parsers: dict[str, Parse] = {TEXT: str, BOOLEAN: parse_boolean, LIST: _list_parser(column)}
    return parsers[column.type or TEXT]


def _listed(formats: str | list[str]) -> tuple[str, ...]:
    return (formats,) if isinstance(formats, str) else tuple(formats)


def _scaling(column: Column, parse: Callable[[str], Decimal], scale: int | None = None) -> Parse:
    factor = None if column.factor is None else factor_of(column.factor)
    scale = scale if column.scale is None else column.scale
    if factor is None and scale is None:
        return parse
    return lambda text: bounded(scaled(parse(text), factor, scale), text)


def _list_parser(column: Column) -> Parse:
    """Ids in one cell (`T1;T2`), or JSON text."""

    def parse(text: str) -> Any:
        if column.separator:
            return [{"id": part.strip()} for part in text.split(column.separator) if part.strip()]
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            raise BadValue(f"{quoted(text)} is not a JSON list; for ids in one cell give their `separator`") from None

    return parse


def revision_reader(mapping: MappingRules) -> Callable[[str], str]:
    """From the text of the revision column to the revision: one spelling for each moment or number."""
    revision = mapping.revision
    assert revision is not None
    formats = _listed(revision.format or [])
    zone = check_zone(revision.timezone or mapping.file.timezone, "revision")
    moment, day = timestamp_parser(formats, zone), date_parser(formats, zone)

    def read(text: str) -> str:
        if revision.type == TIMESTAMP:
            return moment(text).isoformat()
        if revision.type == DATE:
            return day(text).isoformat()
        if revision.type == INTEGER:
            if (number := parse_integer(text)) < 0:
                raise BadValue(f"{quoted(text)} is negative; revisions count upwards from 0")
            return str(number)
        if len(text) > text_length_max or not is_storable(text):
            raise BadValue(f"{quoted(text)} is no revision: over {text_length_max} or control characters")
        return text

    return read
