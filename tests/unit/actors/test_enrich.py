"""Enrich: identity, dependencies, legal entity and money."""

from datetime import timedelta
from decimal import Decimal

import pytest

from actors.enrich import enrich
from contracts.channels import Validated
from pipeline.errors import DependencyMissing, MappingMissing
from pipeline.reference import Mapping
from pipeline.rules import LegalEntity, Ownership, Rules
from tests.unit.actors.builders import (
    DAY,
    TWO_ENTITIES,
    a_card,
    a_context,
    a_customer,
    a_project,
    a_reference,
    a_worker,
    an_entry,
    an_expense,
    enriching,
    enriching_refused,
)


def test_a_time_entry_is_attributed_to_everything_its_targets_ask_for():
    masters = (a_worker(), a_project(legal_entity="CH01"), a_card(currency="CHF", cost_rate=Decimal(60)))
    found = enriching(an_entry(hours=Decimal("7.5")), *masters, rules=TWO_ENTITIES).attribution
    assert (found.legal_entity, found.tax_regime) == ("CH01", "CH")
    assert (found.worker, found.project, found.customer, found.cost_center) == ("W-1", "P-1", "C-1", "CC-7")
    assert (str(found.amount), str(found.entity_amount), str(found.cost)) == ("750.00 CHF", "750.00 CHF", "450.00 CHF")


def test_flags_travel_on():
    context = a_context(an_expense())
    assert enrich(Validated(document=an_expense(), flags=("F",)), context).flags == ("F",)


# Identity across systems


def test_ids_of_another_system_become_the_canonical_ones():
    reference = a_reference(
        a_worker(id="E-1001"),
        a_card(),
        mappings={
            "worker:psa": {"u401": "E-1001"},
            "project:psa": {"77": "P-1"},
            "customer:psa": {"c": "C-1"},
            "legal_entity:psa": {"2": "CH01"},
        },
    )
    rules = Rules(legal_entities={"CH01": LegalEntity(currency="EUR")}, default_legal_entity="CH01")
    found = enriching(
        an_entry(worker="u401", project="77", customer="c", legal_entity="2"), reference=reference, rules=rules
    )
    attribution, document = found.attribution, found.document
    assert (attribution.worker, attribution.project, attribution.customer) == ("E-1001", "P-1", "C-1")
    assert (document.worker, document.project, document.customer) == ("E-1001", "P-1", "C-1")
    assert (attribution.legal_entity, attribution.cost_center) == ("CH01", "CC-7")
    assert document.id == "T-1"


def test_a_mapping_of_another_source_changes_nothing():
    reference = a_reference(a_card(), mappings={"worker:crm": {"W-1": "E-1"}})
    assert enriching(an_entry(), reference=reference).attribution.worker == "W-1"


def test_the_mapping_in_force_on_the_documents_day_counts():
    rows = [
        Mapping(kind="worker:psa", key="u1", value="before", valid_to=DAY - timedelta(days=1)),
        Mapping(kind="worker:psa", key="u1", value="now", valid_from=DAY),
    ]
    found = enriching(an_entry(worker="u1"), reference=a_reference(a_card(), rows=rows))
    assert found.attribution.worker == "now"


def test_the_rules_fall_back_mappings_stand_below_the_cross_reference():
    rules = Rules(mappings={"worker:psa": {"u1": "from-rules", "u2": "from-rules"}})
    reference = a_reference(a_card(), mappings={"worker:psa": {"u1": "from-table"}})
    assert enriching(an_entry(worker="u1"), reference=reference, rules=rules).attribution.worker == "from-table"
    assert enriching(an_entry(worker="u2"), reference=reference, rules=rules).attribution.worker == "from-rules"


def test_an_id_that_must_be_translated_and_is_not_goes_to_its_owner():
    rules = Rules(identity_required={"worker": ("psa",)})
    error = enriching_refused(an_entry(), a_card(), rules=rules)
    assert isinstance(error, MappingMissing)
    assert (error.kind, error.key, error.owner, error.code.name) == ("worker:psa", "W-1", "hr", "MAPPING_MISSING")
    assert enriching(an_entry(), a_card(), rules=rules, source="crm")


def test_a_master_record_takes_its_canonical_id_and_refers_by_canonical_ids():
    reference = a_reference(
        mappings={"project:psa": {"77": "P-1"}, "worker:psa": {"u1": "W-1"}, "rate_card:psa": {"9": "R-9"}}
    )
    project = enriching(a_project(id="77"), reference=reference)
    assert (project.document.id, project.attribution.project) == ("P-1", "P-1")
    card = enriching(a_card(id="9", worker="u1", project="77"), reference=reference).document
    assert (card.id, card.worker, card.project) == ("R-9", "W-1", "P-1")


# Dependencies


@pytest.mark.parametrize(
    ("document", "kind", "key"),
    [
        (an_entry(), "worker", "worker.v1:W-1"),
        (an_entry(), "project", "project.v1:P-1"),
        (an_expense(project="P-1"), "project", "project.v1:P-1"),
        (an_entry(customer="C-1"), "customer", "customer.v1:C-1"),
        (a_project(), "customer", "customer.v1:C-1"),
        (a_card(worker="W-1"), "worker", "worker.v1:W-1"),
        (a_card(project="P-1"), "project", "project.v1:P-1"),
    ],
)
def test_a_required_record_that_has_not_arrived_is_waited_for(document, kind, key):
    with pytest.raises(DependencyMissing) as caught:
        enriching(document, a_card(id="R-2"), rules=Rules(references={kind: "required"}))
    assert caught.value.key == key


def test_the_key_waited_for_is_the_canonical_one():
    reference = a_reference(mappings={"project:psa": {"77": "P-1"}})
    with pytest.raises(DependencyMissing) as caught:
        enriching(an_entry(project="77"), reference=reference, rules=Rules(references={"project.v1": "required"}))
    assert caught.value.key == "project.v1:P-1"


def test_by_default_references_are_checked_once_any_such_record_has_arrived():
    assert enriching(an_entry(), a_card())
    with pytest.raises(DependencyMissing):
        enriching(an_entry(), a_card(), a_project(id="P-2"))


def test_by_default_references_are_checked_when_the_rules_say_who_will_send_them():
    rules = Rules(ownership=(Ownership(document_type="project", sources=("crm",)),))
    with pytest.raises(DependencyMissing):
        enriching(an_entry(), a_card(), rules=rules)


def test_ids_are_taken_as_given_where_the_rules_say_so():
    rules = Rules(references={"project": "as_given", "worker": "as_given"})
    found = enriching(an_entry(), a_card(), a_project(id="P-2"), a_worker(id="W-2"), rules=rules)
    assert found.attribution.project == "P-1"


def test_master_data_does_not_wait_for_others_by_default():
    assert enriching(a_project(), a_customer(id="C-2")).attribution.customer == "C-1"
    assert enriching(a_card(worker="W-1"), a_worker(id="W-2"))


# Worker and project on the day


@pytest.mark.parametrize(
    ("changes", "active"),
    [
        ({"hired_on": DAY}, True),
        ({"hired_on": DAY + timedelta(days=1)}, False),
        ({"left_on": DAY}, True),
        ({"left_on": DAY - timedelta(days=1)}, False),
        ({"status": "Terminated"}, False),
        ({"status": "terminated", "left_on": DAY}, True),
        ({"status": "on_leave"}, True),
    ],
)
def test_the_worker_was_employed_on_the_day(changes, active):
    worker = a_worker(**changes)
    if active:
        assert enriching(an_entry(), worker, a_card())
    else:
        error = enriching_refused(an_entry(), worker, a_card())
        assert (error.code.name, error.owner) == ("WORKER_INACTIVE", "hr")


@pytest.mark.parametrize(
    ("changes", "is_open"),
    [
        ({"valid_from": DAY, "valid_to": DAY}, True),
        ({"valid_from": DAY + timedelta(days=1)}, False),
        ({"valid_to": DAY - timedelta(days=1)}, False),
        ({"status": "closed"}, False),
        ({"status": "closed", "valid_to": DAY}, True),
    ],
)
def test_the_project_is_open_on_the_day(changes, is_open):
    project = a_project(**changes)
    if is_open:
        assert enriching(an_expense(project="P-1"), project)
    else:
        error = enriching_refused(an_expense(project="P-1"), project)
        assert (error.code.name, error.owner) == ("PROJECT_CLOSED", "pmo")


# Legal entity and period


@pytest.mark.parametrize(
    ("own", "projects", "workers", "expected"),
    [
        ("DE01", "CH01", "CH01", "DE01"),
        (None, "CH01", "DE01", "CH01"),
        (None, None, "CH01", "CH01"),
        (None, None, None, "DE01"),
    ],
)
def test_the_legal_entity_is_the_documents_else_the_projects_else_the_workers_else_the_default(
    own, projects, workers, expected
):
    masters = (a_project(legal_entity=projects), a_worker(legal_entity=workers))
    reference = a_reference(*masters, mappings={"exchange_rate": {"EUR/CHF": "0.95"}})
    expense = an_expense(project="P-1", legal_entity=own)
    assert enriching(expense, reference=reference, rules=TWO_ENTITIES).attribution.legal_entity == expected


def test_a_legal_entity_that_nobody_defined_is_refused():
    for document, masters in (
        (an_expense(legal_entity="XX01"), ()),
        (an_expense(project="P-1"), (a_project(legal_entity="XX01"),)),
        (a_worker(legal_entity="XX01"), ()),
    ):
        error = enriching_refused(document, *masters, rules=TWO_ENTITIES)
        assert (error.code.name, "'XX01'" in str(error)) == ("UNKNOWN_LEGAL_ENTITY", True)


def test_the_period_is_looked_at_again_when_the_legal_entity_is_known():
    reference = a_reference(a_project(legal_entity="CH01"), closed=[("CH01", "2026-03")])
    error = enriching_refused(an_expense(project="P-1"), reference=reference, rules=TWO_ENTITIES)
    assert (error.code.name, "CH01" in str(error)) == ("PERIOD_CLOSED", True)
    assert enriching(an_expense(), reference=reference, rules=TWO_ENTITIES)


def test_what_fails_once_the_legal_entity_is_known_names_it():
    reference = a_reference(a_project(legal_entity="CH01"), a_worker(), a_customer(), closed=[("CH01", "2026-03")])
    refusal = enriching_refused(an_entry(rate=Decimal(100)), reference=reference, rules=TWO_ENTITIES)
    assert (refusal.code.name, refusal.legal_entity) == ("PERIOD_CLOSED", "CH01")
