"""Enrich: find out where a document belongs and what it is worth (content enricher)."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from contracts import DOCUMENT_TYPES
from contracts.channels import Attribution, Document, Enriched, MasterDocument, Validated
from contracts.customer import Customer
from contracts.expense import Expense
from contracts.money import NOTHING, Money
from contracts.project import Project
from contracts.rate_card import RateCard
from contracts.time_entry import TimeEntry
from contracts.worker import Worker
from pipeline.codes import (
    PERIOD_CLOSED,
    PROJECT_CLOSED,
    RATE_MISSING,
    UNKNOWN_LEGAL_ENTITY,
    WORKER_INACTIVE,
)
from pipeline.errors import DependencyMissing, MappingMissing, PermanentError, dependency_key
from pipeline.reference import Master, in_force
from pipeline.rules import LegalEntity, business_date
from pipeline.stage import Context, stage

#: Which attributes hold somebody else's id, and the kind of identity it is.
REFERENCES = {"worker": "worker", "project": "project", "customer": "customer", "legal_entity": "legal_entity"}

#: What a master record's own id identifies.
OWN_IDENTITY: dict[type, str] = {Customer: "customer", Project: "project", Worker: "worker", RateCard: "rate_card"}

DOCUMENT_TYPE: dict[type, str] = {kind: name for name, kind in DOCUMENT_TYPES.items() if kind in OWN_IDENTITY}


@stage
def enrich(validated: Validated, context: Context) -> Enriched:
    """Translate ids to canonical ones, then attribute the document: legal entity, dimensions, money.

    The document that leaves has canonical ids; what was found out stands in the attribution.

    Raises:
      DependencyMissing: a record it refers to has not arrived: parked until it does.
      MappingMissing: the cross-reference has no entry where the rules demand one.
      PermanentError: a rule is broken; the code says which.
    """
    document = as_its_task_says(with_canonical_ids(validated.document, context), context)
    match document:
        case TimeEntry() | Expense():
            attribution = attribute(document, context)
        case _:
            attribution = attribute_master(document, context)
    return Enriched(document=document, attribution=attribution, flags=validated.flags)


def as_its_task_says(document: Document, context: Context) -> Document:
    """Time on a task that is not billable is not billable, whatever the entry says."""
    if not isinstance(document, TimeEntry) or not document.billable or not (document.project and document.task):
        return document
    project = context.reference.find(Project, document.project)
    unbilled = {task.id for task in project.tasks if not task.billable} if project else set()
    return replace(document, billable=False) if document.task in unbilled else document


def attribute(document: TimeEntry | Expense, context: Context) -> Attribution:
    """Look up whom and what the document refers to, and value it in its own and in the legal entity's currency."""
    worker = referenced(Worker, document.worker, context)
    project = referenced(Project, document.project, context)
    referenced(Customer, document.customer, context)
    check_employed(worker, document, context)
    check_open(project, document, context)
    name, entity = legal_entity_of(document, project, worker, context)
    with in_the_books_of(name):
        if context.reference.period_closed(name, document.date):
            raise PermanentError(PERIOD_CLOSED, f"period {document.date:%Y-%m} is closed for {name}")
        amount, cost = value_of(document, worker, project, entity, context)
        rate = context.exchange_rate(amount.currency, entity.currency, document.date)
    return Attribution(
        legal_entity=name,
        amount=amount,
        entity_amount=Money(amount=amount.amount * rate, currency=entity.currency).rounded(),
        exchange_rate=rate,
        cost=cost,
        worker=document.worker,
        project=document.project,
        customer=document.customer or (project.customer if project else None),
        cost_center=document.cost_center or (worker.cost_center if worker else None),
        tax_regime=entity.tax_regime,
    )


@contextmanager
def in_the_books_of(legal_entity: str) -> Iterator[None]:
    """What fails in here fails for this legal entity: its people look for it by that name."""
    try:
        yield
    except PermanentError as error:
        error.legal_entity = legal_entity
        raise


def attribute_master(document: MasterDocument, context: Context) -> Attribution:
    """Master data is worth nothing by itself, and waits for others only where the rules say `required`."""
    match document:
        case Project():
            referenced(Customer, document.customer, context, strictly=False)
        case RateCard():
            referenced(Worker, document.worker, context, strictly=False)
            referenced(Project, document.project, context, strictly=False)
    named: str | None = getattr(document, "legal_entity", None)
    entity = known_entity(named, "the record", context) if named else None
    return Attribution(
        legal_entity=named or context.rules.default_legal_entity,
        amount=NOTHING,
        entity_amount=NOTHING,
        worker=document.id if isinstance(document, Worker) else getattr(document, "worker", None),
        project=document.id if isinstance(document, Project) else getattr(document, "project", None),
        customer=document.id if isinstance(document, Customer) else getattr(document, "customer", None),
        cost_center=getattr(document, "cost_center", None),
        tax_regime=entity.tax_regime if entity else None,
    )


def with_canonical_ids(document: Document, context: Context) -> Document:
    """The document with the cross-reference applied, on its own day, to every id that another system gave."""
    on = business_date(document, context.today)
    changes: dict[str, Any] = {
        field: canonical_id(kind, getattr(document, field), on, context)
        for field, kind in REFERENCES.items()
        if getattr(document, field, None) is not None
    }
    if type(document) in OWN_IDENTITY:
        changes["id"] = canonical_id(OWN_IDENTITY[type(document)], document.id, on, context)
    return replace(document, **changes) if changes else document


def canonical_id(kind: str, given: str, on: date, context: Context) -> str:
    """The id that all systems understand: mapped for this source, or as given where the rules allow that."""
    source = context.envelope.source
    mapping_kind = f"{kind}:{source}"
    canonical = context.mapping(mapping_kind, given, on)
    if canonical is None and source in context.rules.identity_required.get(kind, ()):
        raise MappingMissing(mapping_kind, given, context.rules.mapping_owner(mapping_kind))
    return given if canonical is None else canonical


def referenced(kind: type[Master], canonical: str | None, context: Context, *, strictly: bool = True) -> Master | None:
    """The master record behind an id, None where nobody insists on it.

    Not `strictly`: only the policy `required` insists; else `auto` does as well, once any such record has arrived or
    the rules name who will send them.
    """
    if canonical is None or (found := context.reference.find(kind, canonical)) is not None:
        return None if canonical is None else found
    document_type = DOCUMENT_TYPE[kind]
    policy = context.rules.reference_policy(document_type)
    expected = context.reference.knows_any(kind) or context.rules.names_owner(document_type)
    if policy == "required" or (policy == "auto" and strictly and expected):
        raise DependencyMissing(dependency_key(document_type, canonical))
    return None


def check_employed(worker: Worker | None, document: TimeEntry | Expense, context: Context) -> None:
    """Employed on the day; without a leave date, the status tells whether the employment is over."""
    if worker is None:
        return
    if not in_force(worker.hired_on, worker.left_on, document.date):
        raise PermanentError(
            WORKER_INACTIVE,
            f"worker {worker.id!r} was employed {span(worker.hired_on, worker.left_on)}, not on {document.date}",
        )
    if worker.left_on is None and is_closed(worker.status, context):
        raise PermanentError(WORKER_INACTIVE, f"worker {worker.id!r} is {worker.status!r} and has no leave date")


def check_open(project: Project | None, document: TimeEntry | Expense, context: Context) -> None:
    """Open on the day; without an end date, the status tells whether the project is over."""
    if project is None:
        return
    if not in_force(project.valid_from, project.valid_to, document.date):
        raise PermanentError(
            PROJECT_CLOSED,
            f"project {project.id!r} is open {span(project.valid_from, project.valid_to)}, not on {document.date}",
        )
    if project.valid_to is None and is_closed(project.status, context):
        raise PermanentError(PROJECT_CLOSED, f"project {project.id!r} is {project.status!r} and has no end date")


def is_closed(status: str, context: Context) -> bool:
    return status.casefold() in (state.casefold() for state in context.rules.closed_states)


def span(first: date | None, last: date | None) -> str:
    return " ".join(f"{word} {day}" for word, day in (("from", first), ("to", last)) if day)


def legal_entity_of(
    document: TimeEntry | Expense, project: Project | None, worker: Worker | None, context: Context
) -> tuple[str, LegalEntity]:
    """The document's own legal entity, else the project's, else the worker's, else the default one."""
    for named, whose in (
        (document.legal_entity, "the record"),
        (project.legal_entity if project else None, f"project {document.project!r}"),
        (worker.legal_entity if worker else None, f"worker {document.worker!r}"),
        (context.rules.default_legal_entity, "default_legal_entity"),
    ):
        if named:
            return named, known_entity(named, whose, context)
    raise PermanentError(UNKNOWN_LEGAL_ENTITY, "no legal entity: neither the record nor default_legal_entity names one")


def known_entity(name: str, whose: str, context: Context) -> LegalEntity:
    entity = context.rules.entity(name)
    if entity is None:
        raise PermanentError(UNKNOWN_LEGAL_ENTITY, f"legal entity {name!r} of {whose} is not under [legal_entities]")
    return entity


def value_of(
    document: TimeEntry | Expense,
    worker: Worker | None,
    project: Project | None,
    entity: LegalEntity,
    context: Context,
) -> tuple[Money, Money | None]:
    """What the document is worth, and what the hours cost the firm where somebody has said.

    Time that is not billed is worth what it costs; where nobody has said what it costs, it is worth 0 and still posted.
    """
    if isinstance(document, Expense):
        return Money(amount=document.amount, currency=document.currency).rounded(), None
    own_currency = document.currency or (project.currency if project else None) or entity.currency
    role = worker.role if worker else None
    cost = cost_of(document, role, own_currency, context)
    if document.billable:
        return bill_of(document, role, own_currency, context), cost
    return cost or Money(amount=Decimal(0), currency=entity.currency), cost


def bill_of(entry: TimeEntry, role: str | None, own_currency: str, context: Context) -> Money:
    """The entry's own rate, else the most specific rate card's."""
    if entry.rate is not None:
        return Money(amount=entry.hours * entry.rate, currency=own_currency).rounded()
    card = context.reference.rate_card(entry.date, entry.worker, role, entry.project)
    if card is None:
        whom = f"worker {entry.worker!r}, role {role!r}, project {entry.project!r}"
        raise PermanentError(RATE_MISSING, f"no rate card is in force for {whom} on {entry.date}")
    return Money(amount=entry.hours * card.rate / hours_per_unit(card, context), currency=card.currency).rounded()


def cost_of(entry: TimeEntry, role: str | None, own_currency: str, context: Context) -> Money | None:
    """The entry's own cost rate, else that of the most specific rate card that states one."""
    if entry.cost_rate is not None:
        return Money(amount=entry.hours * entry.cost_rate, currency=own_currency).rounded()
    card = context.reference.rate_card(entry.date, entry.worker, role, entry.project, with_cost=True)
    if card is None or card.cost_rate is None:
        return None
    return Money(amount=entry.hours * card.cost_rate / hours_per_unit(card, context), currency=card.currency).rounded()


def hours_per_unit(card: RateCard, context: Context) -> Decimal:
    hours = context.rules.hours_per_unit.get(card.unit)
    if hours is None:
        raise PermanentError(RATE_MISSING, f"rate card {card.id!r} is per {card.unit!r}: not under [hours_per_unit]")
    return hours
