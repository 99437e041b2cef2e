"""What a mapping says: its words as values, and what the contracts allow it to say."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import inspect

from contracts.base import Contract
from pipeline.errors import PipelineError

CSV, JSONL = "csv", "jsonl"
FORMATS = (CSV, JSONL)
TEXT, DECIMAL, INTEGER, BOOLEAN, DATE, TIMESTAMP, DURATION, LIST = (
    "text",
    "decimal",
    "integer",
    "boolean",
    "date",
    "timestamp",
    "duration",
    "list",
)
#: The types a column may be read as, by the type the contract's field has; the first is the default.
READ_AS: dict[str, tuple[str, ...]] = {
    TEXT: (TEXT,),
    DECIMAL: (DECIMAL, INTEGER, DURATION),
    BOOLEAN: (BOOLEAN,),
    DATE: (DATE,),
    TIMESTAMP: (TIMESTAMP,),
    LIST: (LIST,),
}
REVISION_TYPES = (TEXT, INTEGER, DATE, TIMESTAMP)
_KIND_OF = {
    inspect.StrType: TEXT,
    inspect.DecimalType: DECIMAL,
    inspect.BoolType: BOOLEAN,
    inspect.DateType: DATE,
    inspect.DateTimeType: TIMESTAMP,
    inspect.VarTupleType: LIST,
}


class InvalidMapping(PipelineError):
    """The mapping file can't be used; the text names the file, the key, and what to write instead."""


class Column(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where one field comes from. What is None falls back on the mapping's own setting, or on the contract."""

    column: str | None = None
    constant: Any = None
    type: str | None = None
    format: str | list[str] | None = None
    timezone: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    factor: Any = None
    scale: int | None = None
    strip: list[str] = []
    values: dict[str, Any] | None = None
    others: str = "reject"
    default: Any = None
    null_words: list[str] | None = None
    separator: str | None = None


class Revision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which column tells the revisions of one record apart, and how they are ordered."""

    column: str
    type: str = TEXT
    format: str | list[str] | None = None
    timezone: str | None = None


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """A row passes when the text is one of `among`, none of `excluded`, and there (or not) as `present` says."""

    column: str
    among: frozenset[str] | None = None
    excluded: frozenset[str] = frozenset()
    present: bool | None = None


class MappingFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of the file, as they stand there."""

    document_type: str
    source: str
    id: str | list[str]
    fields: dict[str, Any]
    format: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quote: str = '"'
    skip_lines: int = 0
    columns: list[str] | None = None
    revision: str | dict[str, Any] | None = None
    where: dict[str, Any] = {}
    null_words: list[str] = []
    decimal: str = "."
    thousands: str = ""
    timezone: str | None = None
    date_format: str | list[str] | None = None


class FieldType(msgspec.Struct, frozen=True):
    """What the contract says of a field: its kind, whether it must be there, and what it is when it is not."""

    kind: str
    required: bool
    default: Any


class MappingRules(msgspec.Struct, frozen=True, kw_only=True):
    """A mapping that has been checked: every field exists, every type fits, every required field has an origin."""

    path: Path
    document_type: str
    contract: type[Contract]
    source: str
    id: tuple[str, ...]
    revision: Revision | None
    conditions: tuple[Condition, ...]
    fields: dict[str, Column]
    file: MappingFile

    def columns(self) -> tuple[str, ...]:
        """Every column the mapping reads, each once, in the order of the file."""
        named = [*self.id, *([self.revision.column] if self.revision else [])]
        named += [condition.column for condition in self.conditions]
        named += [field.column for field in self.fields.values() if field.column is not None]
        return tuple(dict.fromkeys(named))

    def needed_columns(self) -> frozenset[str]:
        """The columns that no row can do without."""
        types = field_types(self.contract)
        needed = {*self.id, *(condition.column for condition in self.conditions)}
        needed |= {self.revision.column} if self.revision else set()
        for name, field in self.fields.items():
            if field.column is not None and types[name].required and field.default is None:
                needed.add(field.column)
        return frozenset(needed)


def field_types(contract: type[Contract]) -> dict[str, FieldType]:
    """The fields of a contract that a mapping may fill; `id` is left out, it has a key of its own."""
    described = inspect.type_info(contract)
    assert isinstance(described, inspect.StructType)
    return {
        field.name: FieldType(_kind(field.type), field.required, None if field.required else field.default)
        for field in described.fields
        if field.name != "id"
    }


def in_words(complaint: str) -> str:
    """A complaint of the decoder in the words of a mapping file."""
    words = {"object": "table", "array": "list", "str": "text", "int": "whole number", "bool": "true or false"}
    for kind, word in words.items():
        complaint = complaint.replace(f"`{kind}`", f"a {word}" if kind != "str" and kind != "bool" else word)
    return complaint[:1].lower() + complaint[1:]


def missing_columns(missing: Sequence[str], known: Sequence[str]) -> str:
    """`no column 'a', 'b'`, with the nearest names there are."""
    told = [f"{name!r}{nearest(name, known)}" for name in missing if is_near(name, known)]
    rest = [name for name in missing if not is_near(name, known)]
    if rest:
        there = f"; there are: {', '.join(list(known)[:40])}" if known else ""
        told.append(f"{', '.join(map(repr, rest))}{there}")
    return " and ".join(told)


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` for a name that does not exist, or which there are."""
    by_folded = {other.casefold(): other for other in known}
    close = get_close_matches(name.casefold(), by_folded, n=3, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(repr(by_folded[other]) for other in close)}?"
    return f"; there are: {', '.join(list(by_folded.values())[:40])}" if by_folded else ""


def _kind(described: inspect.Type) -> str:
    while isinstance(described, inspect.Metadata):
        described = described.type
    if isinstance(described, inspect.UnionType):
        (described,) = [choice for choice in described.types if not isinstance(choice, inspect.NoneType)]
        return _kind(described)
    return _KIND_OF[type(described)]


def factor_of(given: Any, where: str = "factor") -> Fraction:
    """A number or a fraction such as `1/60`.

    Raises:
      InvalidMapping: neither, or zero.
    """
    try:
        factor = Fraction(str(given))
    except (ValueError, ZeroDivisionError):
        factor = Fraction(0)
    if factor == 0 or max(abs(factor.numerator), factor.denominator) > 10**12:
        raise InvalidMapping(f'{where}.factor: {given!r}; expected a number or a fraction such as "1/60"')
    return factor


def is_near(name: str, known: Iterable[str]) -> bool:
    """Whether one of these is so much like the name that it is most likely meant."""
    return bool(get_close_matches(name.casefold(), [other.casefold() for other in known], n=1, cutoff=0.8))


def check_zone(name: str | None, where: str) -> ZoneInfo | None:
    """Raises InvalidMapping unless it is a name of the IANA time zone database (or None)."""
    try:
        return ZoneInfo(name) if name is not None else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        key = f"{where}.timezone".lstrip(".")
        raise InvalidMapping(f"{key}: no time zone {name!r}; expected one such as Europe/Berlin") from None


def constant_text(value: Any) -> str:
    """A TOML value as a cell of an export would say it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, date | datetime) else str(value)
