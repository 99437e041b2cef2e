"""Precedence: live work is told of now and then, not with each message, and forgotten when nobody tells of it."""

import pytest

from broker.precedence import HOLDS_S, TELL_EVERY_S, Precedence


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_flood_of_live_messages_is_told_of_once(clock: Clock) -> None:
    told: list[float] = []
    precedence = Precedence(lambda: told.append(clock.now), clock)
    for _ in range(1_000):
        precedence.live_arrived()
    assert told == [1_000.0]
    clock.now += TELL_EVERY_S
    precedence.live_arrived()
    assert told == [1_000.0, 1_000.0 + TELL_EVERY_S]


def test_nobody_is_at_work_until_somebody_is_heard_of_and_some_time_after(clock: Clock) -> None:
    precedence = Precedence(lambda: None, clock)
    assert not precedence.live_at_work
    precedence.heard()
    clock.now += 2 * TELL_EVERY_S
    assert precedence.live_at_work
    clock.now += HOLDS_S
    assert not precedence.live_at_work


def test_what_is_told_is_heard_by_others_not_taken_for_heard(clock: Clock) -> None:
    precedence = Precedence(lambda: None, clock)
    precedence.live_arrived()
    assert not precedence.live_at_work
