"""Several workers over one Redis are one to the target: its rate, its calls at once, its breaker."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from connectors.http.guard import Guard
from connectors.http.outcome import TargetBusy
from pipeline.codes import TARGET_REFUSED
from pipeline.errors import PermanentError, TransientError

REPOSITORY = Path(__file__).resolve().parents[3]
DOWN = TransientError("erp can't be reached (ConnectError)")


async def call(guard: Guard, error: Exception | None = None) -> Exception | None:
    """Make a call that ends so; what comes of it."""
    try:
        async with guard():
            if error is not None:
                raise error
    except (TransientError, PermanentError) as raised:
        return raised
    return None


async def test_calls_at_once_are_counted_over_all_of_them(worker):
    one, other = worker(concurrency=3, wait_max_ms=0), worker(concurrency=3, wait_max_ms=0)
    async with one(), other(), one():
        refused = await call(other)
        assert isinstance(refused, TransientError)
        assert "no room" in str(refused)
        assert not refused.burns_attempt
        assert (await other.snapshot()).slots_in_use == 3
    assert await call(other) is None
    assert (await one.snapshot()).slots_in_use == 0


async def test_many_callers_never_are_more_at_once_than_the_target_bears(worker):
    workers = [worker(concurrency=2, wait_max_ms=30_000) for _ in range(3)]
    under_way, most, done = 0, 0, 0
    two = asyncio.Barrier(2)

    async def calls(guard: Guard) -> None:
        nonlocal under_way, most, done
        async with guard():
            under_way += 1
            most = max(most, under_way)
            await two.wait()
            under_way -= 1
            done += 1

    await asyncio.gather(*(calls(workers[number % 3]) for number in range(40)))
    assert (most, done) == (2, 40)


async def test_the_rate_is_that_of_all_of_them(worker):
    one, other = (worker(rate_per_s=0.01, burst=3, wait_max_ms=1_000) for _ in range(2))
    assert [await call(guard) for guard in (one, other, one)] == [None, None, None]
    refused = await call(other)
    assert isinstance(refused, TransientError)
    assert "rate" in str(refused)
    assert 90_000 < refused.retry_after_ms < 130_000
    assert (await one.snapshot()).tokens == 0


async def test_retry_after_is_obeyed_by_all_of_them(worker):
    one, other = worker(wait_max_ms=100), worker(wait_max_ms=100)
    await call(one, TargetBusy("429", retry_after_ms=60_000, burns_attempt=False))
    refused = await call(other)
    assert isinstance(refused, TransientError)
    assert 50_000 < refused.retry_after_ms <= 72_000
    shown = await other.snapshot()
    assert shown.state == "closed"
    assert shown.throttled_until is not None


async def test_failures_in_a_row_are_counted_over_all_of_them_and_one_answer_ends_the_row(worker):
    one, other = worker(failures_max=3, wait_max_ms=0), worker(failures_max=3, wait_max_ms=0)
    for guard in (one, other):
        await call(guard, DOWN)
    await call(one, PermanentError(TARGET_REFUSED, "no such account"))
    for guard in (one, other):
        await call(guard, DOWN)
    assert (await one.snapshot()).state == "closed"
    await call(one, DOWN)
    assert (await other.snapshot()).state == "open"
    refused = await call(other)
    assert refused is not DOWN
    assert "can't be reached" in str(refused)


async def test_one_probe_goes_through_however_many_workers_wait_and_its_success_lets_them_in(worker):
    limits = {"failures_max": 1, "open_first_ms": 100, "open_max_ms": 100, "wait_max_ms": 20_000}
    workers = [worker(**limits) for _ in range(4)]
    await call(workers[0], DOWN)
    probing, answered = asyncio.Event(), asyncio.Event()
    let_in = 0

    async def calls(guard: Guard) -> None:
        nonlocal let_in
        async with guard():
            let_in += 1
            probing.set()
            await answered.wait()

    tasks = [asyncio.create_task(calls(guard)) for guard in workers for _ in range(2)]
    await probing.wait()
    # Everybody has asked by now or will: nobody else may come in while the probe is under way.
    eager = worker(**limits | {"wait_max_ms": 300})
    refused = await call(eager)
    assert isinstance(refused, TransientError)
    assert let_in == 1
    assert (await eager.snapshot()).state == "half_open"
    answered.set()
    await asyncio.gather(*tasks)
    assert let_in == 8
    assert (await eager.snapshot()).state == "closed"


async def test_targets_and_deployments_have_nothing_to_do_with_each_other(worker, prefix):
    down, well, elsewhere = worker("erp"), worker("payroll"), worker("erp", prefix=f"{prefix}_other")
    for _ in range(5):
        await call(down, DOWN)
    states = [(await guard.snapshot()).state for guard in (down, well, elsewhere)]
    assert states == ["open", "closed", "closed"]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
async def test_the_slot_of_a_worker_that_is_no_more_comes_back(worker, redis_url, prefix, end):
    command = ["-m", "tests.conformance.guard.holding", redis_url, prefix, "3000"]
    holder = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert await holder.stdout.readline() == b"in\n"
        impatient = worker(concurrency=1, lease_ms=3_000, wait_max_ms=4_500)
        assert await call(impatient) is not None, "it lives, and its lease is renewed beyond its length"
        holder.send_signal(end)
        patient = worker(concurrency=1, lease_ms=3_000, wait_max_ms=30_000)
        assert await call(patient) is None
    finally:
        if holder.returncode is None:
            holder.kill()
        await holder.wait()
