"""Enrich: identity, dependencies, legal entity and money."""

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.enrich import enrich
from contracts.channels import Document, Enriched, Validated
from contracts.money import NOTHING
from contracts.rate_card import RateCard
from pipeline.errors import DependencyMissing, MappingMissing, PermanentError
from pipeline.reference import Mapping, Reference
from pipeline.rules import LegalEntity, Ownership, Rules
from tests.unit.actors.builders import (
    DAY,
    a_card,
    a_context,
    a_customer,
    a_project,
    a_reference,
    a_worker,
    an_entry,
    an_expense,
    eur,
    validated,
)

ENTITIES = {
    "DE01": LegalEntity(currency="EUR", tax_regime="DE"),
    "CH01": LegalEntity(currency="CHF", tax_regime="CH"),
}
TWO_ENTITIES = Rules(legal_entities=ENTITIES, default_legal_entity="DE01")


def enriched(document: Document, *masters: Document, **parts: object) -> Enriched:
    parts.setdefault("reference", a_reference(*masters))
    return enrich(validated(document), a_context(document, **parts))


def refusal(document: Document, *masters: Document, **parts: object) -> PermanentError:
    with pytest.raises(PermanentError) as caught:
        enriched(document, *masters, **parts)
    return caught.value


def test_a_time_entry_is_attributed_to_everything_its_targets_ask_for():
    masters = (a_worker(), a_project(legal_entity="CH01"), a_card(currency="CHF", cost_rate=Decimal(60)))
    found = enriched(an_entry(hours=Decimal("7.5")), *masters, rules=TWO_ENTITIES).attribution
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
    found = enriched(
        an_entry(worker="u401", project="77", customer="c", legal_entity="2"), reference=reference, rules=rules
    )
    attribution, document = found.attribution, found.document
    assert (attribution.worker, attribution.project, attribution.customer) == ("E-1001", "P-1", "C-1")
    assert (document.worker, document.project, document.customer) == ("E-1001", "P-1", "C-1")
    assert (attribution.legal_entity, attribution.cost_center) == ("CH01", "CC-7")
    assert document.id == "T-1"


def test_a_mapping_of_another_source_changes_nothing():
    reference = a_reference(a_card(), mappings={"worker:crm": {"W-1": "E-1"}})
    assert enriched(an_entry(), reference=reference).attribution.worker == "W-1"


def test_the_mapping_in_force_on_the_documents_day_counts():
    rows = [
        Mapping(kind="worker:psa", key="u1", value="before", valid_to=DAY - timedelta(days=1)),
        Mapping(kind="worker:psa", key="u1", value="now", valid_from=DAY),
    ]
    found = enriched(an_entry(worker="u1"), reference=a_reference(a_card(), rows=rows))
    assert found.attribution.worker == "now"


def test_the_rules_fall_back_mappings_stand_below_the_cross_reference():
    rules = Rules(mappings={"worker:psa": {"u1": "from-rules", "u2": "from-rules"}})
    reference = a_reference(a_card(), mappings={"worker:psa": {"u1": "from-table"}})
    assert enriched(an_entry(worker="u1"), reference=reference, rules=rules).attribution.worker == "from-table"
    assert enriched(an_entry(worker="u2"), reference=reference, rules=rules).attribution.worker == "from-rules"


def test_an_id_that_must_be_translated_and_is_not_goes_to_its_owner():
    rules = Rules(identity_required={"worker": ("psa",)})
    error = refusal(an_entry(), a_card(), rules=rules)
    assert isinstance(error, MappingMissing)
    assert (error.kind, error.key, error.owner, error.code.name) == ("worker:psa", "W-1", "hr", "MAPPING_MISSING")
    assert enriched(an_entry(), a_card(), rules=rules, source="crm")


def test_a_master_record_takes_its_canonical_id_and_refers_by_canonical_ids():
    reference = a_reference(
        mappings={"project:psa": {"77": "P-1"}, "worker:psa": {"u1": "W-1"}, "rate_card:psa": {"9": "R-9"}}
    )
    project = enriched(a_project(id="77"), reference=reference)
    assert (project.document.id, project.attribution.project) == ("P-1", "P-1")
    card = enriched(a_card(id="9", worker="u1", project="77"), reference=reference).document
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
        enriched(document, a_card(id="R-2"), rules=Rules(references={kind: "required"}))
    assert caught.value.key == key


def test_the_key_waited_for_is_the_canonical_one():
    reference = a_reference(mappings={"project:psa": {"77": "P-1"}})
    with pytest.raises(DependencyMissing) as caught:
        enriched(an_entry(project="77"), reference=reference, rules=Rules(references={"project.v1": "required"}))
    assert caught.value.key == "project.v1:P-1"


def test_by_default_references_are_checked_once_any_such_record_has_arrived():
    assert enriched(an_entry(), a_card())
    with pytest.raises(DependencyMissing):
        enriched(an_entry(), a_card(), a_project(id="P-2"))


def test_by_default_references_are_checked_when_the_rules_say_who_will_send_them():
    rules = Rules(ownership=(Ownership(document_type="project", sources=("crm",)),))
    with pytest.raises(DependencyMissing):
        enriched(an_entry(), a_card(), rules=rules)


def test_ids_are_taken_as_given_where_the_rules_say_so():
    rules = Rules(references={"project": "as_given", "worker": "as_given"})
    found = enriched(an_entry(), a_card(), a_project(id="P-2"), a_worker(id="W-2"), rules=rules)
    assert found.attribution.project == "P-1"


def test_master_data_does_not_wait_for_others_by_default():
    assert enriched(a_project(), a_customer(id="C-2")).attribution.customer == "C-1"
    assert enriched(a_card(worker="W-1"), a_worker(id="W-2"))


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
        assert enriched(an_entry(), worker, a_card())
    else:
        error = refusal(an_entry(), worker, a_card())
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
        assert enriched(an_expense(project="P-1"), project)
    else:
        error = refusal(an_expense(project="P-1"), project)
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
    assert enriched(expense, reference=reference, rules=TWO_ENTITIES).attribution.legal_entity == expected


def test_a_legal_entity_that_nobody_defined_is_refused():
    for document, masters in (
        (an_expense(legal_entity="XX01"), ()),
        (an_expense(project="P-1"), (a_project(legal_entity="XX01"),)),
        (a_worker(legal_entity="XX01"), ()),
    ):
        error = refusal(document, *masters, rules=TWO_ENTITIES)
        assert (error.code.name, "'XX01'" in str(error)) == ("UNKNOWN_LEGAL_ENTITY", True)


def test_the_period_is_looked_at_again_when_the_legal_entity_is_known():
    reference = a_reference(a_project(legal_entity="CH01"), closed=[("CH01", "2026-03")])
    error = refusal(an_expense(project="P-1"), reference=reference, rules=TWO_ENTITIES)
    assert (error.code.name, "CH01" in str(error)) == ("PERIOD_CLOSED", True)
    assert enriched(an_expense(), reference=reference, rules=TWO_ENTITIES)


# Money


def test_the_entrys_own_rate_beats_the_rate_card():
    entry = an_entry(rate=Decimal(120), cost_rate=Decimal(70), currency="EUR")
    found = enriched(entry, a_card(cost_rate=Decimal(1))).attribution
    assert (found.amount, found.cost) == (eur("960.00"), eur("560.00"))


def test_a_rate_without_a_currency_is_in_the_projects_else_the_legal_entitys():
    entry = an_entry(rate=Decimal(10))
    reference = a_reference(a_project(currency="CHF"), mappings={"exchange_rate": {"CHF/EUR": "1"}})
    assert enriched(entry, reference=reference).attribution.amount.currency == "CHF"
    assert enriched(entry).attribution.amount.currency == "EUR"


def test_without_a_rate_in_force_the_pmo_is_asked():
    error = refusal(an_entry(), a_worker(), a_card(valid_to=DAY - timedelta(days=1)))
    assert (error.code.name, error.owner) == ("RATE_MISSING", "pmo")
    assert all(word in str(error) for word in ("W-1", "engineer", "P-1", "2026-03-04"))


def test_the_role_of_the_worker_finds_the_rate_card():
    cards = (a_card(id="R-1", role="engineer", rate=Decimal(10)), a_card(id="R-2", role="manager", rate=Decimal(20)))
    assert enriched(an_entry(), a_worker(), *cards).attribution.amount == eur("80.00")


def test_the_rate_in_force_on_the_day_counts():
    cards = (
        a_card(id="R-1", rate=Decimal(10), valid_to=DAY - timedelta(days=1)),
        a_card(id="R-2", rate=Decimal(20), valid_from=DAY, valid_to=DAY),
        a_card(id="R-3", rate=Decimal(30), valid_from=DAY + timedelta(days=1)),
    )
    assert enriched(an_entry(), *cards).attribution.amount == eur("160.00")


def test_what_hours_cost_may_stand_on_a_card_of_its_own():
    cards = (
        a_card(id="R-1", project="P-1", rate=Decimal(100)),
        a_card(id="R-2", worker="W-2", rate=Decimal(0), cost_rate=Decimal(1)),
        a_card(id="R-3", rate=Decimal(50), cost_rate=Decimal(60)),
    )
    found = enriched(an_entry(), *cards).attribution
    assert (found.amount, found.cost) == (eur("800.00"), eur("480.00"))


def test_a_rate_per_day_is_spread_over_its_hours():
    card = a_card(rate=Decimal(1000), unit="DAY", cost_rate=Decimal(400))
    found = enriched(an_entry(hours=Decimal(2)), card).attribution
    assert (found.amount, found.cost) == (eur("250.00"), eur("100.00"))


def test_amounts_are_rounded_half_up_in_their_currency():
    entry = an_entry(hours=Decimal("0.25"), rate=Decimal("12.50"), currency="EUR")
    assert enriched(entry).attribution.amount == eur("3.13")
    yen = Rules(default_currency="JPY")
    assert str(enriched(an_entry(hours=Decimal("0.5"), rate=Decimal(333)), rules=yen).attribution.amount) == "167 JPY"


def test_time_that_is_not_billed_is_worth_what_it_costs():
    found = enriched(an_entry(billable=False), a_card(cost_rate=Decimal(60))).attribution
    assert (found.amount, found.cost) == (eur("480.00"), eur("480.00"))


def test_time_that_is_not_billed_and_has_no_cost_is_worth_nothing_and_passes():
    found = enriched(an_entry(billable=False)).attribution
    assert (found.amount, found.cost) == (eur("0"), None)


def test_an_expense_is_worth_its_amount():
    found = enriched(an_expense(cost_center="CC-1")).attribution
    assert (found.amount, found.entity_amount, found.cost) == (eur("12.30"), eur("12.30"), None)
    assert (found.cost_center, found.legal_entity) == ("CC-1", "MAIN")


@pytest.mark.parametrize(
    ("mappings", "expected"),
    [
        ({"CHF/EUR": "1.0650"}, "106.50"),
        ({"EUR/CHF": "0.80"}, "125.00"),
        ({"CHF/EUR": "1.0650", "EUR/CHF": "0.80"}, "106.50"),
    ],
)
def test_the_exchange_rate_of_either_direction_takes_the_amount_to_the_entitys_currency(mappings, expected):
    expense = an_expense(amount=Decimal(100), currency="CHF")
    found = enriched(expense, reference=a_reference(mappings={"exchange_rate": mappings})).attribution
    assert (str(found.amount), found.entity_amount) == ("100.00 CHF", eur(expected))
    by_rules = enriched(expense, rules=Rules(mappings={"exchange_rate": mappings})).attribution
    assert by_rules.entity_amount == eur(expected)


def test_an_exchange_rate_that_nobody_gave_or_that_is_none_is_for_finance():
    expense = an_expense(currency="CHF")
    expired = [Mapping(kind="exchange_rate", key="CHF/EUR", value="1", valid_to=DAY - timedelta(days=1))]
    assert refusal(expense, reference=a_reference(rows=expired)).code.name == "EXCHANGE_RATE_MISSING"
    for value in ("abc", "0", "-1", "NaN", "1E-999999"):
        error = refusal(expense, rules=Rules(mappings={"exchange_rate": {"CHF/EUR": value}}))
        assert (error.code.name, error.owner, value in str(error)) == ("EXCHANGE_RATE_MISSING", "finance", True)


def test_master_data_is_worth_nothing_by_itself():
    for document in (a_worker(legal_entity="CH01"), a_project(), a_customer(), a_card()):
        found = enriched(document, rules=TWO_ENTITIES).attribution
        assert (found.amount, found.entity_amount) == (NOTHING, NOTHING)
    assert enriched(a_worker(legal_entity="CH01"), rules=TWO_ENTITIES).attribution.legal_entity == "CH01"
    assert enriched(a_customer(), rules=TWO_ENTITIES).attribution.legal_entity == "DE01"


# Which rate card wins

WORKERS, PROJECTS, ROLES = (None, "W-1", "W-2"), (None, "P-1", "P-2"), (None, "engineer", "manager")
DAYS = (None, DAY - timedelta(days=1), DAY, DAY + timedelta(days=1))


@st.composite
def rate_cards(draw: st.DrawFn) -> list[RateCard]:
    return [
        a_card(
            id=f"R-{number}",
            worker=draw(st.sampled_from(WORKERS)),
            project=draw(st.sampled_from(PROJECTS)),
            role=draw(st.sampled_from(ROLES)),
            cost_rate=draw(st.sampled_from((None, Decimal(1)))),
            valid_from=draw(st.sampled_from(DAYS)),
            valid_to=draw(st.sampled_from(DAYS)),
        )
        for number in range(draw(st.integers(0, 8)))
    ]


def fits(card: RateCard) -> bool:
    """Written down a second time, as a person would check it."""
    return (
        card.worker in (None, "W-1")
        and card.project in (None, "P-1")
        and card.role in (None, "engineer")
        and (card.valid_from or DAY) <= DAY <= (card.valid_to or DAY)
    )


def rank(card: RateCard) -> tuple[bool, bool, bool, date, str]:
    named = (card.worker is not None, card.project is not None, card.role is not None)
    return (*named, card.valid_from or date.min, card.id)


@given(rate_cards(), st.booleans())
def test_the_most_specific_card_in_force_wins_and_of_equals_the_last_to_have_started(cards, with_cost):
    reference = a_reference(*cards)
    candidates = [card for card in cards if fits(card) and (card.cost_rate is not None or not with_cost)]
    expected = max(candidates, key=rank, default=None)
    assert reference.rate_card(DAY, "W-1", "engineer", "P-1", with_cost=with_cost) == expected


def test_a_rate_card_that_was_corrected_leaves_nothing_of_its_former_self_behind():
    reference = Reference()
    reference.put_master("R-1", a_card(worker="W-1", rate=Decimal(1)))
    reference.put_master("R-1", a_card(project="P-1", rate=Decimal(2)))
    assert reference.rate_card(DAY, "W-1", None, None) is None
    found = reference.rate_card(DAY, "W-1", None, "P-1")
    assert found is not None
    assert found.rate == 2
