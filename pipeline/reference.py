"""Reference data at one moment: master data, mappings, rates and periods, looked up by canonical id and date.

A value, kept in memory and brought up to date by the store; stages only read it, so a dry run judges exactly as a
real one does.
"""

from collections.abc import Iterable
from datetime import date
from itertools import product
from typing import TypeVar

import msgspec

from contracts import DOCUMENT_TYPES
from contracts.base import Contract
from contracts.channels import MASTER_DATA
from contracts.rate_card import RateCard

Master = TypeVar("Master", bound=Contract)

#: Matches every key of its kind that has no entry of its own.
ANY_KEY = "*"


class Mapping(msgspec.Struct, frozen=True, kw_only=True):
    """One effective-dated row of the cross-reference: `kind` and `key` become `value`; both dates are inclusive.

    Kinds used by the stages: `worker:<source>`, `project:<source>`, `customer:<source>`, `rate_card:<source>`,
    `legal_entity:<source>` (identity across systems), `exchange_rate` (key `CHF/EUR`), and whatever a target asks for
    (`expense_account`).
    """

    kind: str
    key: str
    value: str
    valid_from: date | None = None
    valid_to: date | None = None


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """An accounting period of one legal entity (`*`: of all): `name` is `2026-03`."""

    legal_entity: str
    name: str
    closed: bool


def in_force(valid_from: date | None, valid_to: date | None, on: date) -> bool:
    """Whether a row with inclusive dates holds on this day."""
    return (valid_from is None or valid_from <= on) and (valid_to is None or on <= valid_to)


#: Whom a rate card is for: worker, project, role; None is anyone.
Scope = tuple[str | None, str | None, str | None]


class Reference:
    """The reference data as of `version`. Only the store's refresher calls the `put_*` methods."""

    def __init__(self) -> None:
        self.version = 0
        self._masters: dict[type, dict[str, object]] = {kind: {} for kind in MASTER_DATA}
        self._rate_cards: dict[Scope, tuple[RateCard, ...]] = {}
        self._mappings: dict[tuple[str, str], list[Mapping]] = {}
        self._periods: dict[tuple[str, str], Period] = {}

    def find(self, kind: type[Master], canonical_id: str) -> Master | None:
        """The master record, or None when it has not arrived."""
        return self._masters[kind].get(canonical_id)  # type: ignore[return-value]

    def has(self, dependency: str) -> bool:
        """Whether the record behind a dependency key (`project.v1:P-100`) has arrived."""
        document_type, _, canonical_id = dependency.partition(":")
        return canonical_id in self._masters.get(DOCUMENT_TYPES.get(document_type, Reference), {})

    def knows_any(self, kind: type[Master]) -> bool:
        """Whether any record of this kind has arrived: from then on references to it are checked."""
        return bool(self._masters[kind])

    def mapping(self, kind: str, key: str, on: date) -> str | None:
        """The value in force for a key, else the one of `*`, else None. The latest `valid_from` wins."""
        for candidate in (key, ANY_KEY):
            rows = [
                row for row in self._mappings.get((kind, candidate), ()) if in_force(row.valid_from, row.valid_to, on)
            ]
            if rows:
                return max(rows, key=lambda row: row.valid_from or date.min).value
        return None

    def rate_card(
        self, on: date, worker: str | None, role: str | None, project: str | None, *, with_cost: bool = False
    ) -> RateCard | None:
        """The most specific rate card in force, worker before project before role; of equals, the last to have started.

        `with_cost` leaves out cards that state no cost rate: what hours cost is often kept on cards of its own.
        """
        for scope in product((worker, None), (project, None), (role, None)):
            cards = [
                card
                for card in self._rate_cards.get(scope, ())
                if in_force(card.valid_from, card.valid_to, on) and (card.cost_rate is not None or not with_cost)
            ]
            if cards:
                return max(cards, key=lambda card: (card.valid_from or date.min, card.id))
        return None

    def period_closed(self, legal_entity: str, on: date) -> bool:
        """Whether the month of this day is closed for the entity, or for all of them."""
        name = f"{on:%Y-%m}"
        return any(
            period.closed
            for entity in (legal_entity, ANY_KEY)
            if (period := self._periods.get((entity, name))) is not None
        )

    def copy(self) -> "Reference":
        """An equal value of its own: putting something into it leaves this one as it is."""
        copied = Reference()
        copied.version = self.version
        copied._masters = {kind: dict(documents) for kind, documents in self._masters.items()}
        copied._rate_cards = dict(self._rate_cards)
        copied._mappings = dict(self._mappings)
        copied._periods = dict(self._periods)
        return copied

    def put_master(self, canonical_id: str, document: Contract) -> None:
        before = self._masters[type(document)].get(canonical_id)
        self._masters[type(document)][canonical_id] = document
        if isinstance(before, RateCard):
            others = tuple(card for card in self._rate_cards[_scope(before)] if card is not before)
            self._rate_cards[_scope(before)] = others
        if isinstance(document, RateCard):
            self._rate_cards[_scope(document)] = (*self._rate_cards.get(_scope(document), ()), document)

    def put_mappings(self, kind: str, key: str, rows: Iterable[Mapping]) -> None:
        """Replace all rows of one kind and key; none removes it."""
        self._mappings[kind, key] = list(rows)

    def put_period(self, period: Period) -> None:
        self._periods[period.legal_entity, period.name] = period


def _scope(card: RateCard) -> Scope:
    return (card.worker, card.project, card.role)
