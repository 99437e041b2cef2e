"""The mapping file, read and checked: which columns of an export make which fields of a canonical document."""

import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from contracts import DOCUMENT_TYPES
from contracts.base import Contract
from ops.ingest.layout import (
    DATE,
    DECIMAL,
    DURATION,
    FORMATS,
    INTEGER,
    LIST,
    READ_AS,
    REVISION_TYPES,
    TEXT,
    TIMESTAMP,
    Column,
    Condition,
    FieldType,
    InvalidMapping,
    MappingFile,
    MappingRules,
    Revision,
    check_zone,
    constant_text,
    factor_of,
    field_types,
    in_words,
    nearest,
)
from ops.ingest.translation import Translation
from ops.ingest.values import is_exact

_NUMBER_KEYS = ("decimal", "thousands", "factor", "scale")


def load_mapping(path: Path) -> MappingRules:
    """Read and check a mapping file.

    Raises:
      InvalidMapping: with one line that names the file, the key and what to write.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"), parse_float=Decimal)
    except OSError as error:
        raise InvalidMapping(f"{path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidMapping(f"{path}: not a TOML file: {error}") from None
    try:
        return _checked(path, content)
    except InvalidMapping as error:
        raise InvalidMapping(f"{path}: {error}") from None


def _checked(path: Path, content: dict[str, Any]) -> MappingRules:
    file = _convert(content, MappingFile, "")
    name, contract = _document_type(file.document_type)
    types = field_types(contract)
    for field in file.fields:
        if field == "id":
            raise InvalidMapping("fields.id: the id has its own key at the top: id = ...")
        if field not in types and field in MappingFile.__struct_fields__:
            raise InvalidMapping(f"fields.{field}: `{field}` is a key of the whole file; write it above [fields]")
        if field not in types:
            raise InvalidMapping(f"fields.{field}: {name} has no such field{nearest(field, types)}")
    fields = {field: _column(field, types[field], given) for field, given in file.fields.items()}
    if missing := [field for field, kind in types.items() if kind.required and field not in fields]:
        raise InvalidMapping(
            f"{name} needs {', '.join(missing)}: map it under [fields] to a column or to {{ constant = ... }}"
        )
    mapping = MappingRules(
        path=path,
        document_type=name,
        contract=contract,
        source=file.source,
        id=(file.id,) if isinstance(file.id, str) else tuple(file.id),
        revision=_revision(file.revision),
        conditions=tuple(_condition(column, given) for column, given in file.where.items()),
        fields=fields,
        file=file,
    )
    _check_settings(mapping)
    return mapping


def _convert(content: Any, kind: type[Any], where: str) -> Any:
    """Raises InvalidMapping with the key at fault, and a near name for an unknown one."""
    known = kind.__struct_fields__
    for key in content:
        if key not in known:
            raise InvalidMapping(f"{where}{key}: no such key{nearest(key, known)}")
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$")
        key = place.rstrip("`").lstrip(".")
        text = in_words(text)
        raise InvalidMapping(f"{where}{key}: {text}" if key else f"{where.rstrip('.')}: {text}".lstrip(": ")) from None


def _document_type(name: str) -> tuple[str, type[Contract]]:
    fits = [known for known in DOCUMENT_TYPES if name in (known, known.partition(".")[0])]
    if not fits:
        raise InvalidMapping(f"document_type: {name!r} is not one{nearest(name, DOCUMENT_TYPES)}")
    return fits[-1], DOCUMENT_TYPES[fits[-1]]


def _column(name: str, kind: FieldType, given: Any) -> Column:
    """One line of [fields], its type settled."""
    where = f"fields.{name}"
    if isinstance(given, str):
        given = {"column": given}
    if not isinstance(given, dict):
        raise InvalidMapping(f'{where}: expected a column name or a table; a fixed value is {{ constant = "..." }}')
    column: Column = _convert(given, Column, f"{where}.")
    if (column.column is None) == (column.constant is None):
        raise InvalidMapping(f"{where}: give either `column` or `constant`")
    allowed = READ_AS[kind.kind]
    if column.type is not None and column.type not in allowed:
        raise InvalidMapping(f"{where}.type: {column.type!r} does not fit; {name} is read as {' or '.join(allowed)}")
    settled = msgspec.structs.replace(column, type=column.type or allowed[0])
    _check_column(where, settled)
    return settled


def _check_column(where: str, column: Column) -> None:
    """The options of one field agree with its type and with each other."""
    options = {key: getattr(column, key) for key in (*_NUMBER_KEYS, "format", "timezone", "separator")}
    fitting: dict[str, tuple[str, ...]] = {
        DECIMAL: _NUMBER_KEYS,
        INTEGER: ("factor", "scale"),
        DURATION: ("factor", "scale"),
        DATE: ("format", "timezone"),
        TIMESTAMP: ("format", "timezone"),
        LIST: ("separator",),
    }
    for key, value in options.items():
        if value is not None and key not in fitting.get(column.type or TEXT, ()):
            raise InvalidMapping(f"{where}.{key}: means nothing for type {column.type!r}")
    if column.scale is not None and not 0 <= column.scale <= 12:
        raise InvalidMapping(f"{where}.scale: {column.scale} decimals; expected 0 to 12")
    if column.others not in ("reject", "keep"):
        raise InvalidMapping(f'{where}.others: {column.others!r}; expected "reject" or "keep"')
    if column.factor is not None and column.scale is None and not is_exact(factor_of(column.factor, where)):
        raise InvalidMapping(f"{where}.factor: {column.factor} gives endless decimals; add `scale` to round half up")
    check_zone(column.timezone, where)
    _check_formats(column.format, f"{where}.format")


def _check_formats(given: str | list[str] | None, key: str) -> None:
    """A format without a single code fits no date at all."""
    for form in [given] if isinstance(given, str) else given or []:
        if "%" not in form and form not in ("epoch", "epoch_ms"):
            raise InvalidMapping(f'{key}: {form!r} has no code; write a day as "%d.%m.%Y", seconds as "epoch"')


def _revision(given: str | Mapping[str, Any] | None) -> Revision | None:
    if given is None:
        return None
    revision: Revision = _convert({"column": given} if isinstance(given, str) else given, Revision, "revision.")
    if revision.type not in REVISION_TYPES:
        raise InvalidMapping(f"revision.type: {revision.type!r}; expected {' or '.join(REVISION_TYPES)}")
    if revision.type in (TEXT, INTEGER) and (revision.format or revision.timezone):
        raise InvalidMapping(f'revision: `format` and `timezone` need type "{TIMESTAMP}" or "{DATE}"')
    check_zone(revision.timezone, "revision")
    _check_formats(revision.format, "revision.format")
    return revision


def _condition(column: str, given: Any) -> Condition:
    where = f"where.{column}"
    if not isinstance(given, dict):
        return Condition(column=column, among=_texts(given, where))
    if given and set(given) <= {"not", "present"}:
        present = given.get("present")
        if present is not None and not isinstance(present, bool):
            raise InvalidMapping(f"{where}.present: expected true or false")
        return Condition(
            column=column, excluded=_texts(given["not"], where) if "not" in given else frozenset(), present=present
        )
    raise InvalidMapping(
        f"{where}: expected a value, a list of values, {{ not = ... }} or {{ present = true }}"
        "; a column name with dots or spaces is written in quotes"
    )


def _texts(given: Any, where: str) -> frozenset[str]:
    values = given if isinstance(given, list) else [given]
    if not values or any(isinstance(value, dict | list) for value in values):
        raise InvalidMapping(f"{where}: expected a value or a list of values")
    return frozenset(map(constant_text, values))


def _check_settings(mapping: MappingRules) -> None:
    """The settings of the whole file, and what only shows when everything is put together."""
    file = mapping.file
    if not 1 <= len(mapping.source) <= 100:
        raise InvalidMapping("source: expected a name of 1 to 100 characters")
    if not mapping.id or not all(mapping.id):
        raise InvalidMapping("id: expected a column, or a list of columns")
    if file.format not in (None, *FORMATS):
        raise InvalidMapping(f'format: {file.format!r}; expected "csv" or "jsonl"')
    for key, value in (("delimiter", file.delimiter), ("quote", file.quote), ("decimal", file.decimal)):
        if value is not None and (len(value) != 1 or value in "\r\n"):
            raise InvalidMapping(f"{key}: {value!r}; expected a single character")
    if file.delimiter == file.quote:
        raise InvalidMapping(f"quote: {file.quote!r} is the delimiter as well")
    if file.skip_lines < 0:
        raise InvalidMapping("skip_lines: expected 0 or more")
    if len(file.thousands) > 1 or file.thousands == file.decimal:
        raise InvalidMapping(f"thousands: {file.thousands!r}; expected one character, other than `decimal`")
    check_zone(file.timezone, "")
    _check_formats(file.date_format, "date_format")
    # The last check is to build what the rows will go through: constants and defaults are read as cells are.
    Translation(mapping, mapping.columns())
