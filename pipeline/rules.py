"""What the business decides, read from TOML: ownership, routing, requirements, tolerances. Never an `if` in a stage."""

from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Literal

import msgspec

from contracts import DOCUMENT_TYPES
from contracts.channels import MASTER_DATA, Document
from contracts.expense import Expense
from contracts.money import NO_CURRENCY, UnknownCurrency, minor_units
from contracts.time_entry import TimeEntry
from pipeline.codes import FINANCE, HR, PMO, ROLES
from pipeline.reference import ANY_KEY, in_force

#: Every source, every document type, every legal entity.
ANY = "*"

#: The target that keeps what the other stages look things up in; every master record goes there.
MASTERDATA = "masterdata"

#: Kinds of identity that a source may have ids of its own for.
IDENTITIES = ("worker", "project", "customer", "rate_card", "legal_entity")

Policy = Literal["auto", "required", "as_given"]

_DEFAULT_MAPPINGS = {"expense_account": {ANY_KEY: "6200"}}
_DEFAULT_MAPPING_OWNERS = {"worker": HR, "project": PMO, "customer": PMO, "rate_card": PMO}
_DEFAULT_HOURS_PER_UNIT = {"HUR": Decimal(1), "DAY": Decimal(8)}


class Ownership(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Only these sources may publish the document type, between these inclusive dates."""

    document_type: str
    sources: tuple[str, ...]
    valid_from: date | None = None
    valid_to: date | None = None


class Route(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Records of this type and legal entity go to these targets, by the record's own date (inclusive)."""

    document_type: str
    targets: tuple[str, ...]
    legal_entity: str = ANY
    valid_from: date | None = None
    valid_to: date | None = None


class LegalEntity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A company that keeps its own books, in its own currency."""

    currency: str
    name: str | None = None
    tax_regime: str | None = None


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rules in force; docs/rules.md explains every key. An empty file is a working set of rules.

    `ownership`: a document type that no row names may come from any source.
    `references`: per master document type `required` (unknown ids park the record), `as_given` (taken as they are), or
    `auto`: required from the moment any such record has arrived or the rules name its owner.
    `zero_amounts`: an expense of exactly 0 is a dead letter, or is posted like any other.
    `closed_states`: words for a worker or project that is over, looked at where it carries no end date.
    `hours_per_unit`: what a rate card's unit means in hours.
    `mappings`: fall-backs per kind and key below the cross-reference table; `*` answers for every key.
    `mapping_owners`: which role fills in a missing mapping of a kind (`worker` stands for `worker:<source>`).
    """

    default_legal_entity: str = "MAIN"
    default_currency: str = "EUR"
    hours_per_entry_max: int = 24
    hours_per_day_max: int = 24
    future_days_max: int = 1
    approved_states: tuple[str, ...] = ("approved", "invoiced", "paid")
    closed_states: tuple[str, ...] = ("inactive", "terminated", "closed", "completed", "cancelled", "archived")
    zero_amounts: Literal["dead_letter", "post"] = "dead_letter"
    legal_entities: dict[str, LegalEntity] = {}
    ownership: tuple[Ownership, ...] = ()
    routing: tuple[Route, ...] = (Route(document_type=ANY, targets=("ledger",)),)
    references: dict[str, Policy] = {}
    identity_required: dict[str, tuple[str, ...]] = {}
    required: dict[str, tuple[str, ...]] = {}
    hours_per_unit: dict[str, Decimal] = msgspec.field(default_factory=_DEFAULT_HOURS_PER_UNIT.copy)
    mappings: dict[str, dict[str, str]] = msgspec.field(default_factory=_DEFAULT_MAPPINGS.copy)
    mapping_owners: dict[str, str] = msgspec.field(default_factory=_DEFAULT_MAPPING_OWNERS.copy)

    def owners_of(self, document_type: str, on: date) -> tuple[str, ...]:
        """The sources that own the type on this day."""
        return tuple(
            source
            for row in self._ownership_of(document_type)
            if in_force(row.valid_from, row.valid_to, on)
            for source in row.sources
        )

    def names_owner(self, document_type: str) -> bool:
        """Whether the type is owned at all, on whatever day: if not, anyone may publish it."""
        return any(True for _ in self._ownership_of(document_type))

    def may_publish(self, source: str, document_type: str, on: date) -> bool:
        """Whether the source is a system of record for the type on this day."""
        owners = self.owners_of(document_type, on)
        return source in owners or ANY in owners or not self.names_owner(document_type)

    def _ownership_of(self, document_type: str) -> Iterator[Ownership]:
        return (row for row in self.ownership if same_type(row.document_type, document_type))

    def targets_of(self, document_type: str, legal_entity: str, on: date) -> tuple[str, ...]:
        """The targets of the first rule that fits, from top to bottom; none means that nobody has decided.

        Master data always goes to `masterdata` too, and elsewhere only where a rule names its type: `*` stands for
        what is booked.
        """
        is_master = _is_master(document_type)
        kept = (MASTERDATA,) if is_master else ()
        for route in self.routing:
            named = same_type(route.document_type, document_type) or (route.document_type == ANY and not is_master)
            fits = route.legal_entity in (ANY, legal_entity) and in_force(route.valid_from, route.valid_to, on)
            if named and fits:
                return tuple(dict.fromkeys((*kept, *route.targets)))
        return kept

    def entity(self, name: str) -> LegalEntity | None:
        """The legal entity; where the rules define none, every entity keeps its books in the default currency."""
        if not self.legal_entities:
            return LegalEntity(currency=self.default_currency)
        return self.legal_entities.get(name)

    def reference_policy(self, document_type: str) -> Policy:
        """What happens to a record that refers to an unknown record of this type."""
        return next((policy for name, policy in self.references.items() if same_type(name, document_type)), "auto")

    def required_of(self, document_type: str) -> tuple[str, ...]:
        """The attributes that records of this type must fill, beyond what the contract itself demands."""
        return tuple(
            field for name, fields in self.required.items() if same_type(name, document_type) for field in fields
        )

    def fallback(self, kind: str, key: str) -> str | None:
        """The value of `[mappings]` for a key, else the one of `*`."""
        values = self.mappings.get(kind, {})
        return values.get(key, values.get(ANY_KEY))

    def mapping_owner(self, kind: str) -> str:
        return self.mapping_owners.get(kind) or self.mapping_owners.get(kind.partition(":")[0], FINANCE)


class InvalidRules(ValueError):
    """The rules file can't be used; the text names the file, the place and what was expected."""


def same_type(name: str, document_type: str) -> bool:
    """`time_entry` in a rule means every version, `time_entry.v1` only that one."""
    return name in (document_type, document_type.partition(".")[0])


def business_date(document: Document, today: date) -> date:
    """The day whose rules hold for a document: its own; for master data, which has none, today."""
    return document.date if isinstance(document, TimeEntry | Expense) else today


def _is_master(document_type: str) -> bool:
    return DOCUMENT_TYPES.get(document_type) in MASTER_DATA


def load_rules(path: Path | None) -> Rules:
    """Read the rules file; without one, the defaults hold.

    `[mappings]`, `[mapping_owners]` and `[hours_per_unit]` add to the defaults kind by kind; everything else replaces.

    Raises:
      InvalidRules: the file is missing, is not TOML, or names something that does not exist.
    """
    if path is None:
        return Rules()
    try:
        rules = msgspec.toml.decode(path.read_bytes(), type=Rules)
    except FileNotFoundError:
        raise InvalidRules(f"{path}: no such rules file; correct TIEOUT_RULES") from None
    except (OSError, msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRules(f"{path}: {error}") from None
    if problem := next(_contradictions(rules), None):
        raise InvalidRules(f"{path}: {problem}")
    return msgspec.structs.replace(
        rules,
        mappings=_DEFAULT_MAPPINGS | rules.mappings,
        mapping_owners=_DEFAULT_MAPPING_OWNERS | rules.mapping_owners,
        hours_per_unit=_DEFAULT_HOURS_PER_UNIT | rules.hours_per_unit,
    )


def _contradictions(rules: Rules) -> Iterator[str]:
    """What the rules name that does not exist, one sentence each."""
    yield from _bad_bounds(rules)
    yield from _bad_names(rules)
    yield from _bad_rows(rules)


def _bad_bounds(rules: Rules) -> Iterator[str]:
    for name in ("hours_per_entry_max", "hours_per_day_max"):
        if getattr(rules, name) <= 0:
            yield f"{name} = {getattr(rules, name)}: expected a number above 0"
    if rules.future_days_max < 0:
        yield f"future_days_max = {rules.future_days_max}: expected 0 or more days"
    if not rules.approved_states:
        yield "approved_states names no state: nothing could ever pass"
    for unit, hours in rules.hours_per_unit.items():
        if not hours.is_finite() or hours <= 0:
            yield f"[hours_per_unit] {unit} = {hours}: expected a number of hours above 0"


def _bad_names(rules: Rules) -> Iterator[str]:
    entities = rules.legal_entities
    if entities and rules.default_legal_entity not in entities:
        yield f"default_legal_entity = {rules.default_legal_entity!r} is not one of [legal_entities]: {_list(entities)}"
    for where, currency in {
        "default_currency": rules.default_currency,
        **{f"[legal_entities.{name}] currency": entity.currency for name, entity in entities.items()},
    }.items():
        if not _is_currency(currency):
            yield f"{where} = {currency!r} is not an ISO 4217 currency"
    for name in rules.references:
        if not any(same_type(name, known) and _is_master(known) for known in DOCUMENT_TYPES):
            yield f"[references] {name}: expected a type of master data: {_list(filter(_is_master, DOCUMENT_TYPES))}"
    for name, fields in rules.required.items():
        contracts = [contract for known, contract in DOCUMENT_TYPES.items() if same_type(name, known)]
        if not contracts:
            yield f"[required] {name}: expected a document type: {_list(DOCUMENT_TYPES)}"
        for field in fields:
            if any(field not in contract.__struct_fields__ for contract in contracts):
                yield f"[required] {name}: no attribute {field!r}; see `tieout contracts show {name}`"
    for kind in rules.identity_required:
        if kind not in IDENTITIES:
            yield f"[identity_required] {kind}: expected one of {_list(IDENTITIES)}"
    for kind, role in rules.mapping_owners.items():
        if role not in ROLES:
            yield f"[mapping_owners] {kind} = {role!r}: expected one of {_list(ROLES)}"


def _bad_rows(rules: Rules) -> Iterator[str]:
    rows: tuple[tuple[str, int, Ownership | Route], ...] = (
        *(("ownership", number, row) for number, row in enumerate(rules.ownership, 1)),
        *(("routing", number, row) for number, row in enumerate(rules.routing, 1)),
    )
    for table, number, row in rows:
        where = f"[[{table}]] number {number}"
        star = (ANY,) if isinstance(row, Route) else ()
        if row.document_type not in star and not any(same_type(row.document_type, known) for known in DOCUMENT_TYPES):
            yield f"{where}: document_type = {row.document_type!r}: expected one of {_list((*star, *DOCUMENT_TYPES))}"
        if not (row.targets if isinstance(row, Route) else row.sources):
            yield f"{where}: {'targets' if isinstance(row, Route) else 'sources'} names nobody"
        if row.valid_from and row.valid_to and row.valid_from > row.valid_to:
            yield f"{where}: valid_from {row.valid_from} is after valid_to {row.valid_to}"
        entity = row.legal_entity if isinstance(row, Route) else ANY
        if entity != ANY and rules.legal_entities and entity not in rules.legal_entities:
            yield f"{where}: legal_entity = {entity!r} is not one of [legal_entities]: {_list(rules.legal_entities)}"


def _is_currency(code: str) -> bool:
    try:
        return minor_units(code) >= 0 and code != NO_CURRENCY
    except UnknownCurrency:
        return False


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
