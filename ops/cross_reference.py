"""The cross-reference: many mappings read from a file, and the dead letters that wait for one."""

import csv
from datetime import date
from difflib import get_close_matches
from pathlib import Path

from pipeline.codes import MAPPING_MISSING
from pipeline.errors import MappingMissing
from pipeline.exchange import KIND, check_rate
from pipeline.reference import ANY_KEY, Mapping
from store.dead_letter_filter import DeadLetterFilter
from store.letter_rows import cause

#: What has an id of its own in every system: `worker:psa` maps the ids of the source `psa`.
IDENTITIES = ("worker", "project", "customer", "rate_card", "legal_entity")

REQUIRED = ("kind", "key", "value")
COLUMNS = (*REQUIRED, "valid_from", "valid_to")


class InvalidMappings(ValueError):
    """The file can't be used; the text names the file, the line and what was expected."""


def check_mapping(kind: str, key: str, value: str) -> None:
    """Refuse a mapping that could never be used, or that would make every record of its kind fail.

    Raises:
      InvalidMappings: an exchange rate that is none, or the identity of something that has none.
    """
    of, separator, _ = kind.partition(":")
    if separator and of not in IDENTITIES:
        nearest = get_close_matches(of, IDENTITIES, 1)
        meant = f"; did you mean {kind.replace(of, nearest[0], 1)}?" if nearest else ""
        raise InvalidMappings(f"{kind!r}: only {', '.join(IDENTITIES)} have identities in other systems{meant}")
    if kind == KIND and key != ANY_KEY:
        try:
            check_rate(key, value)
        except ValueError as error:
            raise InvalidMappings(str(error)) from None


def waiting_for_mapping(kind: str, key: str) -> DeadLetterFilter:
    """The open dead letters that lack this very mapping."""
    lacking = MappingMissing(kind, key, MAPPING_MISSING.owner)
    return DeadLetterFilter(cause=cause(MAPPING_MISSING.name, str(lacking)))


def read_mappings(path: Path) -> list[Mapping]:
    """Read a CSV file with the columns kind, key, value and, if wanted, valid_from and valid_to.

    Raises:
      InvalidMappings: nothing of the file is used.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            if missing := [name for name in REQUIRED if name not in columns]:
                raise InvalidMappings(f"{path}: no column {', '.join(missing)}; expected {', '.join(COLUMNS)}")
            return [_mapping(path, reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidMappings(f"{path}: not a CSV file in UTF-8: {error}") from None


def _mapping(path: Path, line: int, row: dict[str, str | None]) -> Mapping:
    values = {name: (row.get(name) or "").strip() for name in COLUMNS}
    if empty := [name for name in REQUIRED if not values[name]]:
        raise InvalidMappings(f"{path}, line {line}: {', '.join(empty)} is empty")
    try:
        check_mapping(values["kind"], values["key"], values["value"])
    except InvalidMappings as error:
        raise InvalidMappings(f"{path}, line {line}: {error}") from None
    return Mapping(
        kind=values["kind"],
        key=values["key"],
        value=values["value"],
        valid_from=_day(path, line, "valid_from", values["valid_from"]),
        valid_to=_day(path, line, "valid_to", values["valid_to"]),
    )


def _day(path: Path, line: int, column: str, text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise InvalidMappings(f"{path}, line {line}: {column} {text!r} is no date like 2026-03-01") from None
