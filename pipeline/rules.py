"""What the business decides, read from TOML: ownership, routing, requirements, tolerances. Never an `if` in a stage."""

from datetime import date
from pathlib import Path

import msgspec

from pipeline.codes import FINANCE, HR, PMO
from pipeline.reference import ANY_KEY, in_force

#: Every source, every document type, every legal entity.
ANY = "*"


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
    """The rules in force. Everything has a default, so an empty file is a working set of rules.

    `ownership`: a document type that no row names may come from any source.
    `references`: per master document type `required` (unknown ids park the record), `as_given` (taken as they are), or
    `auto`: required from the moment any such record has arrived or the rules name its owner.
    `mappings`: fall-backs per kind and key below the cross-reference table; `*` answers for every key.
    `mapping_owners`: which role fills in a missing mapping of a kind (`worker` stands for `worker:<source>`).
    """

    default_legal_entity: str = "MAIN"
    default_currency: str = "EUR"
    hours_per_entry_max: int = 24
    hours_per_day_max: int = 24
    future_days_max: int = 1
    approved_states: tuple[str, ...] = ("approved", "invoiced", "paid")
    zero_amounts: str = "dead_letter"
    legal_entities: dict[str, LegalEntity] = {}
    ownership: tuple[Ownership, ...] = ()
    routing: tuple[Route, ...] = (
        Route(document_type="customer.v1", targets=("masterdata",)),
        Route(document_type="project.v1", targets=("masterdata",)),
        Route(document_type="worker.v1", targets=("masterdata",)),
        Route(document_type="rate_card.v1", targets=("masterdata",)),
        Route(document_type=ANY, targets=("ledger",)),
    )
    references: dict[str, str] = {}
    identity_required: dict[str, tuple[str, ...]] = {}
    required: dict[str, tuple[str, ...]] = {}
    mappings: dict[str, dict[str, str]] = msgspec.field(default_factory=lambda: {"expense_account": {ANY_KEY: "6200"}})
    mapping_owners: dict[str, str] = msgspec.field(
        default_factory=lambda: {"worker": HR, "project": PMO, "customer": PMO}
    )

    def owners_of(self, document_type: str, on: date) -> tuple[str, ...]:
        """The sources that own the type on this day; none named: anyone may publish it."""
        return tuple(
            source
            for row in self.ownership
            if same_type(row.document_type, document_type) and in_force(row.valid_from, row.valid_to, on)
            for source in row.sources
        )

    def targets_of(self, document_type: str, legal_entity: str, on: date) -> tuple[str, ...]:
        """The targets of the first rule that fits: rules are read from top to bottom."""
        for route in self.routing:
            if (
                (route.document_type == ANY or same_type(route.document_type, document_type))
                and route.legal_entity in (ANY, legal_entity)
                and in_force(route.valid_from, route.valid_to, on)
            ):
                return route.targets
        return ()

    def entity(self, name: str) -> LegalEntity | None:
        """The legal entity; where the rules define none, every entity keeps its books in the default currency."""
        if not self.legal_entities:
            return LegalEntity(currency=self.default_currency)
        return self.legal_entities.get(name)

    def mapping_owner(self, kind: str) -> str:
        return self.mapping_owners.get(kind) or self.mapping_owners.get(kind.partition(":")[0], FINANCE)


class InvalidRules(ValueError):
    """The rules file can't be used; the text names the file, the place and what was expected."""


def same_type(name: str, document_type: str) -> bool:
    """`time_entry` in a rule means every version, `time_entry.v1` only that one."""
    return name in (document_type, document_type.partition(".")[0])


def load_rules(path: Path | None) -> Rules:
    """Read the rules file; without one, the defaults hold.

    Raises:
      InvalidRules: the file is missing, is not TOML, or names something that does not exist.
    """
    if path is None:
        return Rules()
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Rules)
    except FileNotFoundError:
        raise InvalidRules(f"{path}: no such rules file; correct TIEOUT_RULES or --rules") from None
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRules(f"{path}: {error}") from None
