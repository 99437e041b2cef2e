"""What travels between the stages: a document, and what each stage has found out about it."""

from datetime import date, datetime
from decimal import Decimal
from typing import get_args

import msgspec

from contracts.base import Contract
from contracts.customer import Customer
from contracts.expense import Expense
from contracts.money import Money
from contracts.project import Project
from contracts.rate_card import RateCard
from contracts.time_entry import TimeEntry
from contracts.worker import Worker

MasterDocument = Customer | Project | Worker | RateCard
Document = MasterDocument | TimeEntry | Expense
MASTER_DATA: tuple[type[Contract], ...] = get_args(MasterDocument)


class Validated(Contract, frozen=True, kw_only=True):
    """A document that satisfies every rule; `flags` are remarks that hold nothing up (`POSSIBLE_DUPLICATE`)."""

    document: Document
    flags: tuple[str, ...] = ()


class Attribution(Contract, frozen=True, kw_only=True):
    """Where a document belongs in the accounts and what it is worth.

    `amount` is in the document's currency, `entity_amount` the same in the legal entity's own; `cost` is what the
    hours cost the firm. Ids are canonical: the cross-reference has been applied.
    """

    legal_entity: str
    amount: Money
    entity_amount: Money
    exchange_rate: Decimal = Decimal(1)
    cost: Money | None = None
    worker: str | None = None
    project: str | None = None
    customer: str | None = None
    cost_center: str | None = None
    tax_regime: str | None = None


class Enriched(Contract, frozen=True, kw_only=True):
    """A validated document with everything its targets will ask for."""

    document: Document
    attribution: Attribution
    flags: tuple[str, ...] = ()


class TargetDocument(Contract, frozen=True, kw_only=True):
    """A document as one target takes it.

    `reference` is the posting key, written into the target as our external reference; `kind` is the target's own
    word (`journal_entry`), `body` the target's own fields; `amount` is what ties out.
    """

    target: str
    kind: str
    reference: str
    date: date
    legal_entity: str
    amount: Money
    body: msgspec.Raw
    replaces: str | None = None


class Receipt(Contract, frozen=True, kw_only=True):
    """The target's answer. `state` is `posted` (for good) or `submitted` (a draft, a staging table)."""

    target_id: str
    state: str
    at: datetime


class Posted(Contract, frozen=True, kw_only=True):
    """A document that is in its target."""

    document: TargetDocument
    receipt: Receipt


class Reconciled(Contract, frozen=True, kw_only=True):
    """A document read back from its target and found equal."""

    target: str
    target_id: str
    amount: Money
