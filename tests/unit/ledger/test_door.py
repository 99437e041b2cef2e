"""The door: many callers, few calls, everybody's own answer."""

import asyncio
from collections.abc import Sequence

import pytest

from connectors.door import Door, DoorClosed
from pipeline.errors import OutcomeUnknown, TransientError


class Recorder:
    """A target that doubles numbers, refuses odd ones above 100, and can be held up."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.free = asyncio.Event()
        self.free.set()
        self.under_way = self.under_way_max = 0

    async def send(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.calls.append(list(numbers))
        self.under_way += 1
        self.under_way_max = max(self.under_way, self.under_way_max)
        await self.free.wait()
        self.under_way -= 1
        return [ValueError(number) if number > 100 and number % 2 else number * 2 for number in numbers]


async def until(condition: object) -> None:
    """Let the others run until the condition holds, or fail after many turns."""
    for _ in range(1000):
        if condition():  # type: ignore[operator]
            return
        await asyncio.sleep(0)
    raise AssertionError("the condition never came to hold")


async def test_callers_of_the_same_moment_travel_in_one_call() -> None:
    recorder = Recorder()
    door = Door(recorder.send, bulk_max=10)
    assert await asyncio.gather(*(door.call(number) for number in range(5))) == [0, 2, 4, 6, 8]
    assert recorder.calls == [[0, 1, 2, 3, 4]]


async def test_a_call_takes_no_more_than_its_bound() -> None:
    recorder = Recorder()
    door = Door(recorder.send, bulk_max=3)
    await asyncio.gather(*(door.call(number) for number in range(7)))
    assert recorder.calls == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize("calls_max", [1, 2])
async def test_whoever_asks_again_as_soon_as_they_are_answered_is_answered_again(calls_max: int) -> None:
    door = Door(Recorder().send, bulk_max=1, calls_max=calls_max)

    async def ask_again() -> list[int]:
        return [await door.call(number) for number in range(5)]

    async with asyncio.timeout(30):
        answers = await asyncio.gather(*(ask_again() for _ in range(calls_max)))
    assert answers == [[0, 2, 4, 6, 8]] * calls_max


async def test_while_one_call_runs_the_next_one_gathers() -> None:
    recorder = Recorder()
    door = Door(recorder.send, bulk_max=10)
    recorder.free.clear()
    first = asyncio.ensure_future(door.call(1))
    await until(lambda: recorder.calls)
    others = [asyncio.ensure_future(door.call(number)) for number in (2, 3, 4)]
    await asyncio.sleep(0)
    recorder.free.set()
    assert await asyncio.gather(first, *others) == [2, 4, 6, 8]
    assert recorder.calls == [[1], [2, 3, 4]]


async def test_no_more_calls_run_at_once_than_allowed() -> None:
    recorder = Recorder()
    door = Door(recorder.send, bulk_max=1, calls_max=3)
    recorder.free.clear()
    callers = [asyncio.ensure_future(door.call(number)) for number in range(9)]
    await until(lambda: recorder.under_way == 3)
    recorder.free.set()
    await asyncio.gather(*callers)
    assert recorder.under_way_max == 3


async def test_one_refusal_is_the_outcome_of_that_caller_alone() -> None:
    door = Door(Recorder().send, bulk_max=10)
    outcomes = await asyncio.gather(*(door.call(number) for number in (100, 101, 102)), return_exceptions=True)
    assert [outcomes[0], outcomes[2]] == [200, 204]
    assert isinstance(outcomes[1], ValueError)


async def test_a_call_that_fails_as_a_whole_fails_every_caller_and_the_next_call_goes_on() -> None:
    failures = [OSError("lost"), None]

    async def send(numbers: Sequence[int]) -> list[int | Exception]:
        if (failure := failures.pop(0)) is not None:
            raise failure
        return list(numbers)

    door = Door(send, bulk_max=2)
    outcomes = await asyncio.gather(*(door.call(number) for number in (1, 2, 3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [OSError, OSError, int]


async def test_a_call_with_too_few_answers_fails_instead_of_leaving_callers_waiting() -> None:
    async def send(numbers: Sequence[int]) -> list[int | Exception]:
        return list(numbers[1:])

    door = Door(send, bulk_max=2)
    with pytest.raises(RuntimeError, match="1 answers came back"):
        await asyncio.gather(door.call(1), door.call(2))


async def test_callers_beyond_the_bound_wait_outside() -> None:
    recorder = Recorder()
    door = Door(recorder.send, bulk_max=10, waiting_max=2)
    recorder.free.clear()
    callers = [asyncio.ensure_future(door.call(number)) for number in range(5)]
    await until(lambda: recorder.calls)
    recorder.free.set()
    await asyncio.gather(*callers)
    assert [len(call) for call in recorder.calls] == [2, 2, 1]


async def test_a_caller_who_gave_up_before_the_call_is_not_sent() -> None:
    recorder = Recorder()
    door = Door(recorder.send, bulk_max=10)
    recorder.free.clear()
    first = asyncio.ensure_future(door.call(1))
    await until(lambda: recorder.calls)
    second, third = asyncio.ensure_future(door.call(2)), asyncio.ensure_future(door.call(3))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    recorder.free.set()
    assert await asyncio.gather(first, third) == [2, 6]
    assert recorder.calls == [[1], [3]]


async def test_a_caller_who_gives_up_during_the_call_stops_nobody_else() -> None:
    recorder = Recorder()
    door = Door(recorder.send, bulk_max=10)
    recorder.free.clear()
    first, second = asyncio.ensure_future(door.call(1)), asyncio.ensure_future(door.call(2))
    await until(lambda: recorder.calls)
    first.cancel()
    recorder.free.set()
    assert await second == 4


async def test_closing_answers_the_call_under_way_and_sends_none_of_those_that_wait() -> None:
    recorder = Recorder()
    recorder.free.clear()
    door = Door(recorder.send, bulk_max=1)
    callers = [asyncio.ensure_future(door.call(number)) for number in (1, 2, 3)]
    await until(lambda: recorder.calls)
    closing = asyncio.ensure_future(door.close(within_s=60))
    await until(lambda: callers[1].done())
    recorder.free.set()
    await closing
    first, *others = await asyncio.gather(*callers, return_exceptions=True)
    assert first == 2
    assert [type(other) for other in others] == [TransientError, TransientError]
    assert recorder.calls == [[1]]
    with pytest.raises(DoorClosed):
        await door.call(4)


async def test_a_call_that_hangs_is_cut_off_and_its_outcome_unknown() -> None:
    recorder = Recorder()
    recorder.free.clear()
    door = Door(recorder.send, bulk_max=1)
    caller = asyncio.ensure_future(door.call(1))
    await until(lambda: recorder.calls)
    await door.close(within_s=0.01)
    with pytest.raises(OutcomeUnknown):
        await caller
