"""What a Tryton target is sent of customers, workers and projects."""

from datetime import date
from typing import Any

import msgspec

from connectors.tryton import TrytonTranslator
from connectors.tryton.customers import waves
from contracts.channels import TargetDocument
from contracts.customer import Customer
from contracts.money import NOTHING
from contracts.project import Project, Task
from contracts.worker import Worker
from tests.conformance.tryton.masters import context, enriched


def translated(document: Any, **mappings: str) -> TargetDocument:
    return TrytonTranslator("erp").translate(enriched(document), "erp/x/1", context("erp", **mappings))


def body(document: Any, **mappings: str) -> dict[str, Any]:
    return dict(msgspec.json.decode(translated(document, **mappings).body))


def test_masters_are_worth_nothing_and_dated_from_when_they_hold():
    hired = translated(Worker(id="W-1", hired_on=date(2025, 1, 1), effective_from=date(2026, 4, 1)))
    begun = translated(Project(id="P-1", name="Bridge", valid_from=date(2026, 2, 1)))
    kinds = [(one.target, one.kind, one.amount, one.date, one.legal_entity) for one in (hired, begun)]
    assert kinds == [
        ("erp", "employee", NOTHING, date(2026, 4, 1), "DE"),
        ("erp", "project", NOTHING, date(2026, 2, 1), "DE"),
    ]


def test_a_customer_has_the_name_that_stands_on_invoices():
    assert body(Customer(id="C-1", name="Acme")) == {"customer": "C-1", "name": "Acme"}
    assert body(Customer(id="C-1", name="Acme", legal_name=" Acme\n GmbH ", email=" pay@acme.example ")) == {
        "customer": "C-1",
        "name": "Acme GmbH",
        "email": "pay@acme.example",
    }


def test_payment_terms_are_carried_where_somebody_has_mapped_them_for_this_target():
    customer = Customer(id="C-1", name="Acme", payment_terms="30 days")
    assert "payment_term" not in body(customer)
    assert body(customer, payment_term="Net 30")["payment_term"] == "Net 30"
    elsewhere = TrytonTranslator("other").translate(enriched(customer), "r", context("erp", payment_term="Net 30"))
    assert "payment_term" not in msgspec.json.decode(elsewhere.body)


def test_a_worker_without_a_name_goes_by_the_id():
    assert body(Worker(id="W-1"))["name"] == "W-1"
    assert body(Worker(id="W-1", given_name="Ada", family_name="Lovelace"))["name"] == "Ada Lovelace"


def test_a_project_carries_its_tasks_by_id_and_how_it_is_billed():
    tasks = (Task(id="T-1", name="Design"), Task(id="T-2", code="B"), Task(id="T-3"))
    sent = body(Project(id="P-1", name="Bridge", customer="C-1", tasks=tasks, valid_to=date(2026, 12, 31)))
    assert sent == {
        "project": "P-1",
        "name": "Bridge",
        "invoiced": "timesheet",
        "customer": "C-1",
        "valid_from": None,
        "valid_to": "2026-12-31",
        "tasks": {"T-1": "Design", "T-2": "B", "T-3": "T-3"},
    }
    assert body(Project(id="P-1", name="Bridge", billing_method="fixed_price"))["invoiced"] == "manual"


def test_revisions_of_one_record_are_written_one_after_the_other():
    assert list(waves({0: "a", 1: "b", 3: "a", 4: "a", 5: "c"})) == [[0, 1, 5], [3], [4]]
