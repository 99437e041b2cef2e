"""Actors that raise, take too long or are stopped: what Dramatiq's authors expect, and what deliberately differs."""

import asyncio
import gc
import logging
import threading
import weakref
from typing import Any

import pytest
from dramatiq.errors import RateLimitExceeded, Retry
from dramatiq.middleware.shutdown import Shutdown
from dramatiq.middleware.time_limit import TimeLimitExceeded
from dramatiq.rate_limits import ConcurrentRateLimiter
from dramatiq.rate_limits.backends import StubBackend as StubLimits

from broker.delivery import FAULTS, Outgoing
from broker.encoding import encode_message
from tests.conformance.transport.actors import QUEUE, acknowledged, dead, declaring, opened, send
from tests.conformance.transport.conftest import Rig, until


@pytest.fixture
def actor(rig: Rig) -> Any:
    return declaring(rig)


async def test_a_message_is_tried_again_as_often_as_its_actor_says(rig: Rig, actor: Any) -> None:
    attempts: list[int] = []

    @actor(max_retries=1)
    def notice() -> None:
        attempts.append(1)
        raise RuntimeError("a defect")

    await opened(rig)
    await send(notice)
    await dead(rig)
    assert len(attempts) == 2


async def test_a_message_may_say_so_itself(rig: Rig, actor: Any) -> None:
    attempts: list[int] = []

    @actor(max_retries=99)
    def notice() -> None:
        attempts.append(1)
        raise RuntimeError("a defect")

    await opened(rig)
    await send(notice, max_retries=0)
    await dead(rig)
    assert len(attempts) == 1


async def test_no_limit_means_none(rig: Rig, actor: Any) -> None:
    @actor(max_retries=None)
    def notice() -> None:
        raise RuntimeError("a defect")

    await opened(rig)
    body = encode_message(notice.message())
    await rig.broker.put([Outgoing(queue=QUEUE, body=body, message_id="old", headers={FAULTS: 5_000})])
    await until(lambda: rig.broker.counts.requeued == 1)
    assert rig.broker.counts.rejected == 0


async def test_what_an_actor_throws_on_purpose_is_not_tried_again(rig: Rig, actor: Any) -> None:
    @actor(throws=(KeyError, LookupError))
    def notice() -> None:
        raise KeyError("unknown")

    await opened(rig)
    await send(notice)
    await dead(rig)
    assert rig.broker.counts.requeued == 0


@pytest.mark.parametrize("error", [Retry(), Retry(delay=100), Retry(delay=0)], ids=["plain", "soon", "at once"])
async def test_an_actor_may_ask_to_be_run_again(rig: Rig, actor: Any, error: Retry) -> None:
    attempts: list[int] = []

    @actor(max_retries=1)
    def notice() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise error

    await opened(rig)
    await send(notice)
    await acknowledged(rig, 1)
    assert len(attempts) == 2
    await rig.at_rest()


async def test_a_retry_comes_when_the_actor_says(rig: Rig, actor: Any) -> None:
    loop = asyncio.get_running_loop()
    attempts: list[float] = []

    @actor
    def notice() -> None:
        attempts.append(loop.time())
        if len(attempts) == 1:
            raise Retry(delay=2_500)

    await opened(rig)
    await send(notice)
    await acknowledged(rig, 1)
    assert attempts[1] - attempts[0] >= 1.9


async def test_a_rate_limit_never_makes_a_dead_letter(rig: Rig, actor: Any) -> None:
    limiter = ConcurrentRateLimiter(StubLimits(), "erp", limit=1)
    refused: list[int] = []

    @actor(max_retries=0)
    def notice() -> None:
        try:
            with limiter.acquire():
                pass
        except RateLimitExceeded:
            refused.append(1)
            raise

    await opened(rig)
    with limiter.acquire():
        await send(notice)
        await until(lambda: refused)
    await acknowledged(rig, 1)
    await rig.at_rest()


async def test_a_message_that_takes_too_long_is_interrupted(rig: Rig, actor: Any) -> None:
    interrupted: list[int] = []

    @actor(time_limit=100, max_retries=0)
    def notice() -> None:
        try:
            while True:
                threading.Event().wait(0.01)
        except TimeLimitExceeded:
            interrupted.append(1)
            raise

    await opened(rig)
    await send(notice)
    await dead(rig)
    assert interrupted


async def test_an_error_is_let_go_of_with_its_message(rig: Rig, actor: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)  # pytest keeps what is logged, and with it the errors

    class Defect(Exception):
        pass

    errors: list[weakref.ref[Defect]] = []

    @actor
    def notice() -> None:
        if not errors:
            defect = Defect()
            errors.append(weakref.ref(defect))
            try:
                raise defect
            finally:
                del defect

    await opened(rig)
    gc.disable()
    try:
        await send(notice)
        await acknowledged(rig, 1)
        await until(lambda: errors[0]() is None, timeout_s=5)
    finally:
        gc.enable()


async def test_an_actor_that_wants_to_know_is_told_while_there_is_time(rig: Rig, actor: Any) -> None:
    running, told = threading.Event(), list[bool]()

    @actor(notify_shutdown=True, max_retries=0)
    def notice() -> None:
        if told:
            return
        try:
            running.set()
            while True:
                threading.Event().wait(0.01)
        except Shutdown:
            told.append(all(consumer.draining for consumer in rig.broker.consumers))
            raise

    await opened(rig)
    await send(notice)
    await until(running.is_set)
    await rig.stop(grace_ms=20_000)
    assert told == [True]
    assert rig.broker.counts.requeued == 1, "interrupted by us, so no fault of the message"
    rig.work()
    await acknowledged(rig, 1)


async def test_several_consumers_share_a_queue(rig: Rig, actor: Any) -> None:
    got: list[int] = []
    notice = actor(lambda number: got.append(number), actor_name="notice")
    await opened(rig)
    first = rig.group
    rig.work()
    await asyncio.to_thread(lambda: [notice.send(number) for number in range(200)])
    await acknowledged(rig, 200)
    assert sorted(got) == list(range(200))
    assert first is not None
    await first.stop(5_000)


async def test_actors_of_a_higher_priority_come_first_within_a_process(rig: Rig, actor: Any) -> None:
    order: list[str] = []
    gate, waiting = threading.Event(), threading.Event()

    @actor(priority=0)
    def gatekeeper() -> None:
        waiting.set()
        gate.wait(30)

    later = actor(lambda: order.append("later"), actor_name="later", priority=10)
    sooner = actor(lambda: order.append("sooner"), actor_name="sooner", priority=0)
    await opened(rig, threads=1)
    await send(gatekeeper)
    await until(waiting.is_set)
    await asyncio.to_thread(lambda: [one.send() for one in (later, sooner) for _ in range(5)])
    lane = next(consumer for consumer in rig.broker.consumers if consumer.queue_name == QUEUE)
    assert rig.group is not None
    worker = next(worker for worker in rig.group._workers if QUEUE in worker.consumers)
    await until(lambda: worker.work_queue.qsize() == 10)
    assert lane.prefetch > 10
    gate.set()
    await acknowledged(rig, 11)
    assert order == ["sooner"] * 5 + ["later"] * 5
