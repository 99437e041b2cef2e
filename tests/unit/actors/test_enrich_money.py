"""Enrich, money: rates, costs, rounding and exchange."""

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.money import NOTHING
from contracts.project import Task
from contracts.rate_card import RateCard
from pipeline.reference import Mapping, Reference
from pipeline.rules import Rules
from tests.unit.actors.builders import (
    DAY,
    TWO_ENTITIES,
    a_card,
    a_customer,
    a_project,
    a_reference,
    a_worker,
    an_entry,
    an_expense,
    enriching,
    enriching_refused,
    eur,
)


def test_the_entrys_own_rate_beats_the_rate_card():
    entry = an_entry(rate=Decimal(120), cost_rate=Decimal(70), currency="EUR")
    found = enriching(entry, a_card(cost_rate=Decimal(1))).attribution
    assert (found.amount, found.cost) == (eur("960.00"), eur("560.00"))


def test_a_rate_without_a_currency_is_in_the_projects_else_the_legal_entitys():
    entry = an_entry(rate=Decimal(10))
    reference = a_reference(a_project(currency="CHF"), mappings={"exchange_rate": {"CHF/EUR": "1"}})
    assert enriching(entry, reference=reference).attribution.amount.currency == "CHF"
    assert enriching(entry).attribution.amount.currency == "EUR"


def test_without_a_rate_in_force_the_pmo_is_asked():
    error = enriching_refused(an_entry(), a_worker(), a_card(valid_to=DAY - timedelta(days=1)))
    assert (error.code.name, error.owner) == ("RATE_MISSING", "pmo")
    assert all(word in str(error) for word in ("W-1", "engineer", "P-1", "2026-03-04"))


def test_the_role_of_the_worker_finds_the_rate_card():
    cards = (a_card(id="R-1", role="engineer", rate=Decimal(10)), a_card(id="R-2", role="manager", rate=Decimal(20)))
    assert enriching(an_entry(), a_worker(), *cards).attribution.amount == eur("80.00")


def test_the_rate_in_force_on_the_day_counts():
    cards = (
        a_card(id="R-1", rate=Decimal(10), valid_to=DAY - timedelta(days=1)),
        a_card(id="R-2", rate=Decimal(20), valid_from=DAY, valid_to=DAY),
        a_card(id="R-3", rate=Decimal(30), valid_from=DAY + timedelta(days=1)),
    )
    assert enriching(an_entry(), *cards).attribution.amount == eur("160.00")


def test_what_hours_cost_may_stand_on_a_card_of_its_own():
    cards = (
        a_card(id="R-1", project="P-1", rate=Decimal(100)),
        a_card(id="R-2", worker="W-2", rate=Decimal(0), cost_rate=Decimal(1)),
        a_card(id="R-3", rate=Decimal(50), cost_rate=Decimal(60)),
    )
    found = enriching(an_entry(), *cards).attribution
    assert (found.amount, found.cost) == (eur("800.00"), eur("480.00"))


def test_a_rate_per_day_is_spread_over_its_hours():
    card = a_card(rate=Decimal(1000), unit="DAY", cost_rate=Decimal(400))
    found = enriching(an_entry(hours=Decimal(2)), card).attribution
    assert (found.amount, found.cost) == (eur("250.00"), eur("100.00"))


def test_amounts_are_rounded_half_up_in_their_currency():
    entry = an_entry(hours=Decimal("0.25"), rate=Decimal("12.50"), currency="EUR")
    assert enriching(entry).attribution.amount == eur("3.13")
    yen = Rules(default_currency="JPY")
    assert str(enriching(an_entry(hours=Decimal("0.5"), rate=Decimal(333)), rules=yen).attribution.amount) == "167 JPY"


def test_time_that_is_not_billed_is_worth_what_it_costs():
    found = enriching(an_entry(billable=False), a_card(cost_rate=Decimal(60))).attribution
    assert (found.amount, found.cost) == (eur("480.00"), eur("480.00"))


def test_time_that_is_not_billed_and_has_no_cost_is_worth_nothing_and_passes():
    found = enriching(an_entry(billable=False)).attribution
    assert (found.amount, found.cost) == (eur("0"), None)


def test_an_expense_is_worth_its_amount():
    found = enriching(an_expense(cost_center="CC-1")).attribution
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
    found = enriching(expense, reference=a_reference(mappings={"exchange_rate": mappings})).attribution
    assert (str(found.amount), found.entity_amount) == ("100.00 CHF", eur(expected))
    by_rules = enriching(expense, rules=Rules(mappings={"exchange_rate": mappings})).attribution
    assert by_rules.entity_amount == eur(expected)


def test_an_exchange_rate_that_nobody_gave_or_that_is_none_is_for_finance():
    expense = an_expense(currency="CHF")
    expired = [Mapping(kind="exchange_rate", key="CHF/EUR", value="1", valid_to=DAY - timedelta(days=1))]
    assert enriching_refused(expense, reference=a_reference(rows=expired)).code.name == "EXCHANGE_RATE_MISSING"
    for value in ("abc", "0", "-1", "NaN", "1E-999999"):
        error = enriching_refused(expense, rules=Rules(mappings={"exchange_rate": {"CHF/EUR": value}}))
        assert (error.code.name, error.owner, value in str(error)) == ("EXCHANGE_RATE_MISSING", "finance", True)


def test_master_data_is_worth_nothing_by_itself():
    for document in (a_worker(legal_entity="CH01"), a_project(), a_customer(), a_card()):
        found = enriching(document, rules=TWO_ENTITIES).attribution
        assert (found.amount, found.entity_amount) == (NOTHING, NOTHING)
    assert enriching(a_worker(legal_entity="CH01"), rules=TWO_ENTITIES).attribution.legal_entity == "CH01"
    assert enriching(a_customer(), rules=TWO_ENTITIES).attribution.legal_entity == "DE01"


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


def test_time_on_a_task_that_is_not_billable_is_worth_its_cost():
    project = a_project(tasks=(Task(id="T-1", billable=False), Task(id="T-2")))
    reference = a_reference(project, a_card(rate=Decimal(100), cost_rate=Decimal(40)))
    unbilled, billed = (enriching(an_entry(task=task), reference=reference) for task in ("T-1", "T-2"))
    assert (unbilled.document.billable, unbilled.attribution.amount) == (False, eur("320.00"))
    assert (billed.document.billable, billed.attribution.amount) == (True, eur("800.00"))
