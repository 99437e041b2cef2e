"""The circuit breaker: what opens it, for how long, and what closes it."""

import pytest

from connectors.http.breaker import bars, learn_of_health
from connectors.http.standing import ANSWERED, UNKNOWN, End, GuardLimits, Standing

START = 1_790_000_000_000_000
FAILED = End("failed", "erp can't be reached (ConnectError)")
LIMITS = GuardLimits(failures_max=3)


def ended(standing: Standing, *ends: End, lease: str = "call", at: int = START, draw: float = 0.5) -> list[str]:
    return [learn_of_health(standing, LIMITS, lease, end, at, draw) for end in ends]


def opened() -> Standing:
    standing = Standing()
    assert ended(standing, *[FAILED] * 3) == ["", "", "opened"]
    return standing


@pytest.mark.parametrize("between", [ANSWERED, End("throttled", retry_after_ms=1_000)])
def test_an_answer_of_whatever_kind_ends_the_row_of_failures(between):
    standing = Standing()
    assert ended(standing, FAILED, FAILED, between, FAILED, FAILED) == [""] * 5
    assert standing.state(START) == "closed"


def test_a_call_that_was_given_up_says_nothing():
    standing = Standing()
    assert ended(standing, FAILED, FAILED, UNKNOWN, FAILED)[-1] == "opened"


@pytest.mark.parametrize(("draw", "part"), [(0.0, 0.5), (0.5, 0.75), (0.999999, 1.0)])
def test_each_time_it_was_no_use_it_stays_open_twice_as_long_up_to_the_bound(draw, part):
    standing, now, lasted = Standing(), START, []
    ended(standing, FAILED, FAILED)
    for _ in range(7):
        standing.probe = "probe"
        assert ended(standing, FAILED, lease="probe", at=now, draw=draw) in (["opened"], ["reopened"])
        lasted.append((standing.open_until - now) / 1_000)
        now = standing.open_until
    full = [5_000, 10_000, 20_000, 40_000, 60_000, 60_000, 60_000]
    assert lasted == pytest.approx([part * ms for ms in full], rel=1e-5)
    assert standing.down_since == START, "since it was opened first"


def test_while_it_is_open_nobody_comes_through_and_those_who_wait_are_told_how_long_and_why():
    standing = opened()
    barred = bars(standing, "call", {}, START + 1)
    assert barred is not None
    assert (barred.verdict, barred.wait_us, barred.down_us) == ("open", standing.open_until - START - 1, 1)
    assert barred.error == FAILED.error


def test_then_one_probe_does_and_when_its_holder_has_died_another():
    standing = opened()
    then, standing.probe = standing.open_until, "probe"
    others = [bars(standing, "call", {"probe"}, then), bars(standing, "probe", {"probe"}, then)]
    assert [barred and barred.verdict for barred in others] == ["probing", None]
    assert bars(standing, "call", {}, then) is None


@pytest.mark.parametrize("end", [ANSWERED, End("throttled", retry_after_ms=1_000)])
def test_a_probe_that_gets_an_answer_closes_it_and_the_next_break_is_a_first_one(end):
    standing = opened()
    then, standing.probe = standing.open_until, "probe"
    assert ended(standing, end, lease="probe", at=then) == ["closed"]
    assert standing.state(then) == "closed"
    assert (standing.failures, standing.since, standing.down_since) == (0, then, 0)
    ended(standing, *[FAILED] * 3, at=then, draw=0)
    assert standing.open_until - then == 2_500_000


def test_a_probe_that_is_given_up_leaves_the_way_to_the_next():
    standing = opened()
    then, standing.probe = standing.open_until, "probe"
    assert ended(standing, UNKNOWN, lease="probe", at=then) == [""]
    assert standing.state(then) == "half_open"
    assert bars(standing, "call", {"probe"}, then) is None


@pytest.mark.parametrize("end", [FAILED, ANSWERED])
def test_calls_that_were_on_their_way_when_it_opened_move_nothing(end):
    standing = opened()
    until = standing.open_until
    assert ended(standing, end, lease="straggler", at=START + 1) == [""]
    assert (standing.open_until, standing.state(START + 1)) == (until, "open")
