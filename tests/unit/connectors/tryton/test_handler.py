"""A bulk that is taken only whole: halved until the bad ones stand alone."""

import math
from collections.abc import Sequence

import pytest

from connectors.http.errors import Fault
from connectors.http.outcome import TargetRefused
from connectors.tryton.handler import Outcome, bisected, receipt
from contracts.channels import Receipt
from pipeline.codes import TARGET_REFUSED
from pipeline.errors import OutcomeUnknown, PermanentError, TransientError


class Atomic:
    """Takes all or nothing, as Tryton does: refuses what has a bad number in it."""

    def __init__(self, bad: dict[int, Exception]) -> None:
        self.bad, self.calls, self.taken = bad, 0, set[int]()

    async def __call__(self, items: Sequence[int]) -> list[Outcome]:
        self.calls += 1
        for item in items:
            if item in self.bad:
                raise self.bad[item]
        self.taken.update(items)
        return [receipt("timesheet.line", item) for item in items]


def refusal(status: int = 200, message: str = "The value is not valid.") -> TargetRefused:
    refused = TargetRefused(TARGET_REFUSED, message)
    refused.fault = Fault(status=status, kind="UserError", message=message)
    return refused


@pytest.mark.parametrize("count", [1, 2, 3, 41, 200, 500])
async def test_one_bad_item_costs_calls_by_the_logarithm_and_its_neighbours_get_in(count):
    for bad in {0, count // 3, count - 1}:
        write = Atomic({bad: refusal()})
        outcomes = await bisected(range(count), write)
        assert [isinstance(outcome, PermanentError) for outcome in outcomes] == [item == bad for item in range(count)]
        assert [one.target_id for one in outcomes if isinstance(one, Receipt)] == [
            f"timesheet.line,{item}" for item in range(count) if item != bad
        ]
        assert write.calls <= 1 + 2 * math.ceil(math.log2(count))


async def test_nothing_is_no_call():
    write = Atomic({})
    assert await bisected([], write) == []
    assert write.calls == 0


@pytest.mark.parametrize("refused", [refusal(403), refusal(message="You are not allowed to access it.")])
async def test_what_is_refused_whatever_the_item_is_not_tried_with_each(refused):
    write = Atomic({3: refused})
    assert await bisected(range(100), write) == [refused] * 100
    assert write.calls == 1


async def test_what_nobody_knows_of_a_call_nobody_knows_of_its_items():
    unknown = OutcomeUnknown("not answered")
    write = Atomic({3: unknown})
    assert await bisected(range(100), write) == [unknown] * 100
    assert write.calls == 1


async def test_after_a_call_that_failed_nothing_more_is_sent():
    write = Atomic({99: refusal(), 10: OutcomeUnknown("not answered")})

    async def late(items: Sequence[int]) -> list[Outcome]:
        if len(items) == 100:
            raise refusal()
        return await write(items)

    outcomes = await bisected(range(100), late)
    assert {type(outcome) for outcome in outcomes[:50]} == {OutcomeUnknown}
    assert {(type(outcome), getattr(outcome, "burns_attempt", None)) for outcome in outcomes[50:]} == {
        (TransientError, False)
    }
    assert write.calls == 1
