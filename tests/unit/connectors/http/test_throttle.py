"""The token bucket: never more calls in any stretch of time than it allows, and none kept waiting for nothing."""

from fractions import Fraction
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.http.standing import End, GuardLimits, Standing
from connectors.http.throttle import learn_of_throttling, shut_first_us, shut_max_us, take_token, token_wait_us

SECOND = 1_000_000
START = 1_790_000_000 * SECOND


@given(
    rate=st.sampled_from([0.1, 1, 3, 50, 400]),
    burst=st.integers(1, 20),
    gaps=st.lists(st.one_of(st.just(0), st.integers(0, 20 * SECOND)), min_size=1, max_size=60),
)
def test_in_no_stretch_of_time_do_more_calls_begin_than_rate_and_burst_allow(rate, burst, gaps):
    limits, standing = GuardLimits(rate_per_s=rate, burst=burst), Standing()
    arrived = [START + so_far for so_far in accumulate(gaps)]
    begun: list[int] = []
    for moment in arrived:
        begun.append(moment + token_wait_us(standing, limits, moment))
        take_token(standing, limits, moment)
    for first in range(len(begun)):
        for last in range(first, len(begun)):
            allowed = burst + Fraction(begun[last] - begun[first], limits.interval_us)
            assert last - first + 1 <= allowed
    # Whoever had to wait came the moment a token was there: one microsecond earlier it would have been one too many.
    for place, moment in enumerate(begun):
        if moment > arrived[place]:
            earlier = [burst + Fraction(moment - 1 - begun[first], limits.interval_us) for first in range(place)]
            assert any(place - first + 1 > allowed for first, allowed in enumerate(earlier))


def test_without_a_rate_nobody_waits():
    limits, standing = GuardLimits(), Standing()
    for _ in range(1_000):
        assert token_wait_us(standing, limits, START) == 0
        take_token(standing, limits, START)


def test_after_a_pause_that_the_target_asked_for_it_begins_with_one_call_and_not_with_a_burst():
    limits, standing = GuardLimits(rate_per_s=1, burst=10), Standing()
    learn_of_throttling(standing, limits, End("throttled", retry_after_ms=30_000), START)
    assert standing.shut_until == START + 30 * SECOND
    open_again = standing.shut_until
    assert token_wait_us(standing, limits, open_again) == 0
    take_token(standing, limits, open_again)
    assert token_wait_us(standing, limits, open_again) == SECOND


def test_a_fault_that_names_a_pause_is_obeyed_too():
    standing = Standing()
    learn_of_throttling(standing, GuardLimits(), End("failed", "503", retry_after_ms=2_000), START)
    assert standing.shut_until == START + 2 * SECOND


@pytest.mark.parametrize("calls_each_time", [1, 8])
def test_a_target_that_names_no_pause_is_given_a_longer_one_each_time_however_many_calls_it_turned_away(
    calls_each_time,
):
    limits, standing, now, pauses = GuardLimits(), Standing(), START, []
    for _ in range(8):
        for _ in range(calls_each_time):
            learn_of_throttling(standing, limits, End("throttled"), now)
        pauses.append(standing.shut_until - now)
        now = standing.shut_until
    assert pauses[:3] == [shut_first_us, 2 * shut_first_us, 4 * shut_first_us]
    assert pauses[-1] == shut_max_us
    learn_of_throttling(standing, limits, End("answered"), now)
    learn_of_throttling(standing, limits, End("throttled"), now)
    assert standing.shut_until - now == shut_first_us
