"""Reference data: what holds on which day."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.customer import Customer
from contracts.project import Project
from contracts.worker import Worker
from pipeline.errors import dependency_key
from pipeline.reference import Mapping, Period, Reference, in_force

DAY = date(2026, 3, 4)
DAYS = st.dates(date(2026, 1, 1), date(2026, 12, 31))


def a_mapping(value: str, valid_from: date | None = None, valid_to: date | None = None) -> Mapping:
    return Mapping(kind="account", key="Travel", value=value, valid_from=valid_from, valid_to=valid_to)


def a_reference(*rows: Mapping) -> Reference:
    reference = Reference()
    reference.put_mappings("account", "Travel", rows)
    return reference


@pytest.mark.parametrize(
    ("valid_from", "valid_to", "holds"),
    [
        (None, None, True),
        (DAY, DAY, True),
        (DAY + timedelta(days=1), None, False),
        (None, DAY - timedelta(days=1), False),
    ],
)
def test_dates_from_and_to_are_inclusive(valid_from, valid_to, holds):
    assert in_force(valid_from, valid_to, DAY) is holds


def test_a_master_record_is_found_by_its_canonical_id_and_type():
    reference = Reference()
    reference.put_master("P-1", Project(id="P-1", name="Bridge"))
    found = reference.find(Project, "P-1")
    assert found is not None
    assert found.name == "Bridge"
    assert reference.find(Worker, "P-1") is None
    assert (reference.knows_any(Project), reference.knows_any(Customer)) == (True, False)


def test_a_dependency_is_there_once_its_record_is():
    reference = Reference()
    key = dependency_key("project.v1", "P:1")
    assert not reference.has(key)
    reference.put_master("P:1", Project(id="P:1", name="Bridge"))
    assert reference.has(key)
    assert not reference.has(dependency_key("worker.v1", "P:1"))
    assert not reference.has(dependency_key("nonsense.v1", "P:1"))


def test_a_key_of_its_own_beats_the_star():
    reference = a_reference(a_mapping("6210"))
    reference.put_mappings("account", "*", [Mapping(kind="account", key="*", value="6200")])
    assert reference.mapping("account", "Travel", DAY) == "6210"
    assert reference.mapping("account", "Hotel", DAY) == "6200"
    assert reference.mapping("other", "Travel", DAY) is None


def test_the_star_answers_again_when_the_key_itself_is_no_longer_in_force():
    reference = a_reference(a_mapping("6210", valid_to=DAY - timedelta(days=1)))
    reference.put_mappings("account", "*", [Mapping(kind="account", key="*", value="6200")])
    assert reference.mapping("account", "Travel", DAY) == "6200"


def test_a_mapping_without_rows_is_removed():
    reference = a_reference(a_mapping("6210"))
    reference.put_mappings("account", "Travel", [])
    assert reference.mapping("account", "Travel", DAY) is None


@given(st.lists(st.tuples(st.none() | DAYS, st.none() | DAYS), max_size=6), DAYS)
def test_of_the_rows_in_force_the_last_to_have_started_counts(spans, on):
    rows = [a_mapping(str(number), *span) for number, span in enumerate(spans)]
    found = a_reference(*rows).mapping("account", "Travel", on)
    holding = [row for row in rows if (row.valid_from or on) <= on <= (row.valid_to or on)]
    if not holding:
        assert found is None
    else:
        latest = max(row.valid_from or date.min for row in holding)
        assert found in {row.value for row in holding if (row.valid_from or date.min) == latest}


def test_a_month_is_open_until_somebody_closes_it():
    reference = Reference()
    assert not reference.period_closed("DE01", DAY)
    reference.put_period(Period(legal_entity="DE01", name="2026-03", closed=True))
    assert reference.period_closed("DE01", DAY)
    assert not reference.period_closed("CH01", DAY)
    assert not reference.period_closed("DE01", date(2026, 4, 1))
    reference.put_period(Period(legal_entity="DE01", name="2026-03", closed=False))
    assert not reference.period_closed("DE01", DAY)


def test_a_month_closed_for_all_is_closed_for_each():
    reference = Reference()
    reference.put_period(Period(legal_entity="*", name="2026-03", closed=True))
    assert reference.period_closed("DE01", DAY)
