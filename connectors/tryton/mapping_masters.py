"""Message translator for master data: customers, workers and projects as Tryton takes them.

| canonical | in Tryton | what is carried |
|---|---|---|
| customer | party | legal name (else the name), e-mail, the payment term that `payment_term:<target>` maps to |
| worker | employee and its party | name, e-mail, first and last day |
| project | project with its tasks | name, customer, first and last day for time, how it is invoiced, names of tasks |

Not carried, since Tryton would refuse or mistake it: tax ids (it checks them by a type that we don't know) and
countries (its list of them is empty until somebody imports it). A record that is closed at its source stays open in
Tryton: time and expenses of closed ones are refused before they get there, and late corrections have to get in.
"""

from datetime import date

import msgspec

from connectors.tryton.markers import one_line
from contracts.base import Contract
from contracts.channels import Enriched, TargetDocument
from contracts.customer import Customer
from contracts.money import NOTHING
from contracts.project import Project
from contracts.worker import Worker
from pipeline.stage import Context

PARTY, EMPLOYEE, PROJECT = "party", "employee", "project"
PAYMENT_TERM = "payment_term"
#: The only canonical way of billing that Tryton knows by itself; everything else is billed by hand there.
BY_TIME, BY_HAND = "timesheet", "manual"

_encoder = msgspec.json.Encoder()


class PartyBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A customer: `customer` is its canonical id, `payment_term` the name of one in Tryton."""

    customer: str
    name: str
    email: str | None = None
    payment_term: str | None = None


class EmployeeBody(msgspec.Struct, frozen=True, kw_only=True):
    """A worker: `worker` is the canonical id; both days inclusive."""

    worker: str
    name: str
    email: str | None = None
    hired_on: date | None = None
    left_on: date | None = None


class ProjectBody(msgspec.Struct, frozen=True, kw_only=True):
    """A project: `tasks` are names by id. Time may be booked from `valid_from` to `valid_to`, both included."""

    project: str
    name: str
    invoiced: str
    customer: str | None = None
    valid_from: date | None = None
    valid_to: date | None = None
    tasks: dict[str, str] = {}


MasterBody = PartyBody | EmployeeBody | ProjectBody


def master_document(
    target: str, document: Customer | Worker | Project, enriched: Enriched, reference: str, context: Context
) -> TargetDocument:
    """What `target` is sent of a master record; it is worth nothing, and dated on the day it holds from.

    Raises:
      PermanentError: the customer's payment term can't be looked up.
    """
    kind: str
    body: MasterBody
    starts: date | None = None
    match document:
        case Customer():
            kind, body = PARTY, customer_body(document, target, context)
        case Worker():
            kind, body, starts = EMPLOYEE, worker_body(document), document.effective_from or document.hired_on
        case Project():
            kind, body, starts = PROJECT, project_body(document), document.valid_from
    return TargetDocument(
        target=target,
        kind=kind,
        reference=reference,
        date=starts or context.today,
        legal_entity=enriched.attribution.legal_entity,
        amount=NOTHING,
        body=msgspec.Raw(_encoder.encode(body)),
    )


def customer_body(customer: Customer, target: str, context: Context) -> PartyBody:
    terms = customer.payment_terms
    return PartyBody(
        customer=customer.id,
        # The party's name is what stands on invoices.
        name=one_line(customer.legal_name or customer.name) or customer.id,
        email=_text(customer.email),
        payment_term=context.mapping(f"{PAYMENT_TERM}:{target}", terms, context.today) if terms else None,
    )


def worker_body(worker: Worker) -> EmployeeBody:
    names = (worker.given_name, worker.family_name)
    return EmployeeBody(
        worker=worker.id,
        name=one_line(" ".join(name for name in names if name)) or worker.id,
        email=_text(worker.work_email),
        hired_on=worker.hired_on,
        left_on=worker.left_on,
    )


def project_body(project: Project) -> ProjectBody:
    return ProjectBody(
        project=project.id,
        name=one_line(project.name) or project.id,
        customer=project.customer,
        valid_from=project.valid_from,
        valid_to=project.valid_to,
        invoiced=BY_TIME if project.billing_method == "time_and_materials" else BY_HAND,
        tasks={task.id: one_line(task.name or task.code or "") or task.id for task in project.tasks},
    )


def document_type_of(kind: type[Contract]) -> str:
    """`customer.v1`: the tag that references of this kind of record have."""
    return str(kind.__struct_config__.tag)


def _text(value: str | None) -> str | None:
    """What Tryton would read back: without blanks around it, and nothing where nothing is left."""
    return (value or "").strip() or None
