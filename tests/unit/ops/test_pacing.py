"""Who stands back does so as long as somebody else has live work, and only within bounds."""

import pytest

from ops.pacing import StandsBack


@pytest.fixture
def live() -> list[bool]:
    return [True]


@pytest.fixture
def pace(live: list[bool]) -> StandsBack:
    return StandsBack(lambda: live[0])


def test_beside_live_work_commits_are_short_and_the_database_rests_twice_as_long(pace):
    assert pace.rows_max(2_000) == 500
    assert pace.rest_s(0.02) == pytest.approx(0.04)


def test_a_rest_has_an_end_however_slow_the_database_is(pace):
    assert pace.rest_s(10.0) == 0.5


def test_a_commit_has_a_row_at_least(pace):
    assert pace.rows_max(1) == 1


def test_without_live_work_nothing_is_held_back(pace, live):
    live[0] = False
    assert (pace.rows_max(2_000), pace.rest_s(10.0)) == (2_000, 0.0)
