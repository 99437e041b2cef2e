"""Message translator: from the cells of a row to a canonical document, exactly as the mapping says. Pure."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from contracts.base import Contract
from contracts.money import UnknownCurrency, minor_units
from ops.ingest.fields import Field, is_storable, revision_reader, text_length_max, text_of
from ops.ingest.layout import Condition, MappingRules, field_types, in_words
from ops.ingest.rows import Row, damage_in
from ops.ingest.values import BadValue, decimals, quoted, scaled

#: Amounts of money, with the field that names their currency: they may not have more decimals than the currency.
MONEY_FIELDS = {"amount": "currency", "tax": "currency", "original_amount": "original_currency"}
Cells = Sequence[Any]
_code_wanted = "expected three capital letters such as EUR; translate it with `values`"


class BadCell(ValueError):
    """The row can't be mapped: `column` is where, `reason` why and what to do.

    `partial` is what could be mapped, `further` what is wrong with other columns of the row.
    """

    def __init__(
        self,
        column: str,
        reason: str,
        partial: Mapping[str, Any] | None = None,
        further: "Sequence[BadCell]" = (),
    ) -> None:
        super().__init__(f"{column}: {reason}" if column else reason)
        self.column, self.reason, self.partial, self.further = column, reason, partial or {}, tuple(further)


class Mapped(msgspec.Struct, frozen=True, kw_only=True):
    """A row as canonical document. `revision` is None where the mapping names no revision column."""

    document: Contract
    subject: str
    revision: str | None


class Translation:
    """A mapping bound to the columns of one file.

    Raises:
      InvalidMapping: a constant, default or value map does not fit its field.
    """

    def __init__(self, mapping: MappingRules, columns: Sequence[str]) -> None:
        position = {name: index for index, name in enumerate(columns)}
        self._contract = mapping.contract
        self.filtered_by = frozenset(each.column for each in mapping.conditions)
        self._conditions = [(position[each.column], each) for each in mapping.conditions]
        self._nulls = frozenset(("", *mapping.file.null_words))
        self._ids = [(position[name], name) for name in mapping.id]
        self._revision = None
        if mapping.revision is not None:
            self._revision = (
                position[mapping.revision.column],
                mapping.revision.column,
                revision_reader(mapping),
            )
        types = field_types(mapping.contract)
        self._constants: dict[str, Any] = {}
        self._fields: list[Field] = []
        for name, column in mapping.fields.items():
            field = Field(name, column, mapping, needed=types[name].required or types[name].default not in (None, ()))
            if column.column is None:
                self._constants[name] = field.fixed(column.constant, "constant")
            else:
                field.position = position[column.column]
                self._fields.append(field)
        self._money = [(name, MONEY_FIELDS[name]) for name in mapping.fields if name in MONEY_FIELDS]
        self._origin = {name: column.column or "" for name, column in mapping.fields.items()}

    def wanted(self, cells: Cells) -> bool:
        """Whether the row passes every condition of `where`.

        Raises:
          BadCell: a cell it looks at is no text.
        """
        return all(self._holds(each, _text(cells, at, each.column)) for at, each in self._conditions)

    def _holds(self, condition: Condition, text: str) -> bool:
        if condition.among is not None:
            return text in condition.among
        if condition.present is not None and (text not in self._nulls) != condition.present:
            return False
        return text not in condition.excluded

    def translate(self, cells: Cells) -> Mapped:
        """The canonical document of a row.

        Raises:
          BadCell: the first column that can't be mapped; what else could be is in `partial`.
        """
        values = dict(self._constants)
        failed: list[BadCell] = []
        for field in self._fields:
            try:
                value = field.read(cells[field.position])
            except BadValue as error:
                failed.append(BadCell(field.column_name, str(error)))
                continue
            if value is not None:
                values[field.name] = value
        if not failed:
            try:
                return self._finished(values, cells)
            except BadCell as error:
                failed.append(error)
        raise BadCell(failed[0].column, failed[0].reason, values, failed[1:])

    def _finished(self, values: dict[str, Any], cells: Cells) -> Mapped:
        for name, currency in self._money:
            if isinstance(amount := values.get(name), Decimal):
                values[name] = self._money_amount(amount, values.get(currency), name)
        subject = values["id"] = self._subject(cells)
        try:
            document = msgspec.convert(values, self._contract)
        except msgspec.ValidationError as error:
            raise self._misfit(error, values) from None
        return Mapped(document=document, subject=subject, revision=self._revised(cells))

    def _money_amount(self, amount: Decimal, currency: str | None, name: str) -> Decimal:
        """The amount with exactly the currency's decimals; an unknown currency is for `validate` to judge."""
        try:
            units = minor_units(currency) if currency else 12
        except UnknownCurrency:
            return amount
        if decimals(amount) > units:
            raise BadCell(
                self._origin[name],
                f"{quoted(amount)} has {decimals(amount)} decimals, {currency} has {units}"
                f"; add `scale = {units}` to round half up",
            )
        return scaled(amount, None, units if currency else None)

    def _subject(self, cells: Cells) -> str:
        parts = []
        for at, name in self._ids:
            text = _text(cells, at, name)
            if text in self._nulls:
                raise BadCell(name, "empty, but it is (part of) the record's id")
            # Escaped, so that a/b + c and a + b/c stay two different ids.
            parts.append(text.replace("%", "%25").replace("/", "%2F") if len(self._ids) > 1 else text)
        subject = "/".join(parts)
        if len(subject) > text_length_max or not is_storable(subject):
            raise BadCell(self._ids[0][1], f"{quoted(subject)} is no id: over {text_length_max} or control characters")
        return subject

    def _revised(self, cells: Cells) -> str | None:
        if self._revision is None:
            return None
        at, name, read = self._revision
        text = _text(cells, at, name)
        if text in self._nulls:
            raise BadCell(name, "empty, but it tells the record's revisions apart")
        try:
            return read(text)
        except BadValue as error:
            raise BadCell(name, str(error)) from None

    def _misfit(self, error: msgspec.ValidationError, values: dict[str, Any]) -> BadCell:
        """The contract's own complaint, with the column the value came from."""
        text, _, path = str(error).partition(" - at `$.")
        field = path.rstrip("`").partition(".")[0].partition("[")[0]
        shown = f"{quoted(values[field])} does not fit {field}: " if field in values else ""
        reason = _code_wanted if "regex" in text and field.endswith("currency") else in_words(text)
        return BadCell(self._origin.get(field, ""), shown + reason)


def _text(cells: Cells, at: int, column: str) -> str:
    """Raises BadCell where the cell holds no text."""
    try:
        return text_of(cells[at])
    except BadValue as error:
        raise BadCell(column, str(error)) from None


def judge_row(row: Row, columns: Sequence[str], translation: Translation) -> Mapped | None:
    """The mapped row; None when the filter leaves it out.

    Raises:
      BadCell: the row is refused. A damaged row is refused unless the filter, on sound cells, leaves it out anyway.
    """
    if row.fault is not None:
        raise BadCell("", row.fault)
    damage = damage_in(row, columns) if row.damaged else {}
    for column in translation.filtered_by & damage.keys():
        raise BadCell(column, damage[column])
    if not translation.wanted(row.cells):
        return None
    if row.damaged:
        raise BadCell(*next(iter(damage.items()), ("", "contains bytes that are not text in the file's encoding")))
    return translation.translate(row.cells)
