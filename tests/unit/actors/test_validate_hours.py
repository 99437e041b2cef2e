"""Validate, hours: one entry, and the worker's day."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from actors.validate import hours_before, validate
from pipeline.errors import PermanentError
from pipeline.history import DayEntry, History
from pipeline.rules import Rules
from tests.unit.actors.builders import (
    MINE,
    a_context,
    an_entry,
    revisions,
    validating_refused,
)


@pytest.mark.parametrize("hours", ["0", "-1", "24.01"])
def test_hours_lie_above_zero_and_at_most_at_the_bound(hours):
    assert validating_refused(an_entry(hours=Decimal(hours))).code.name == "HOURS_OUT_OF_RANGE"


def test_a_whole_day_is_the_most_that_one_entry_can_have():
    entry = an_entry(hours=Decimal(24))
    assert validate(entry, a_context(entry))
    assert validating_refused(entry, rules=Rules(hours_per_entry_max=12)).code.name == "HOURS_OUT_OF_RANGE"


def test_hours_are_counted_in_hours():
    assert validating_refused(an_entry(unit="DAY")).code.name == "INVALID_DOCUMENT"


def a_day(*hours: str, mine: int) -> History:
    """The worker's day: entries in the order they were accepted, number `mine` is the one judged."""
    return History(
        record_id=MINE,
        same_day=tuple(
            DayEntry(record_id=MINE if number == mine else f"r-{number}", accepted_number=number, hours=Decimal(one))
            for number, one in enumerate(hours, 1)
        ),
    )


def test_the_entry_that_crosses_the_day_fails_and_the_earlier_ones_pass():
    hours = ("10", "10", "5")
    for number in (1, 2):
        entry = an_entry(hours=Decimal(hours[number - 1]))
        assert validate(entry, a_context(entry, history=a_day(*hours, mine=number)))
    error = validating_refused(an_entry(hours=Decimal(5)), history=a_day(*hours, mine=3))
    assert error.code.name == "DAY_OVERBOOKED"
    assert "25" in str(error)


def test_the_limit_itself_is_no_crossing():
    entry = an_entry(hours=Decimal(4))
    assert validate(entry, a_context(entry, history=a_day("10", "10", "4", mine=3)))


def test_an_entry_that_did_not_fit_leaves_its_room_to_later_ones():
    entry = an_entry(hours=Decimal(4))
    assert validate(entry, a_context(entry, history=a_day("10", "20", "4", mine=3)))


def test_the_older_revision_of_an_entry_does_not_count_beside_the_newer_one():
    history = replace(a_day("16", "12", mine=2), revisions=revisions("posted", "in_flight", mine=2).revisions)
    entry = an_entry(hours=Decimal(12))
    assert validate(entry, a_context(entry, history=history))


HOURS = st.lists(st.decimals("-2", "30", places=2), min_size=1, max_size=12)


@given(HOURS)
def test_the_entries_that_pass_never_make_more_than_a_day(hours):
    """And an entry fails only if it truly did not fit: every verdict is the same whichever is judged first."""
    passed = Decimal(0)
    for number, one in enumerate(hours, 1):
        entry = an_entry(hours=one)
        context = a_context(entry, history=a_day(*map(str, hours), mine=number))
        assert hours_before(context.history, 24) == passed
        if not 0 < one <= 24 or passed + one > 24:
            with pytest.raises(PermanentError):
                validate(entry, context)
        else:
            validate(entry, context)
            passed += one
    assert passed <= 24
