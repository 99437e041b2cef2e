"""Leaving: threads that wait for work leave when they are told to, not when their wait is over."""

import asyncio
import queue
import threading

import pytest

from broker import worker
from broker.delivery import DeliveryInfo
from broker.worker import _FirstInFirstOut
from tests.conformance.transport.conftest import Rig, a_message, until

AN_HOUR_MS = 3_600_000


async def test_threads_that_wait_for_work_leave_at_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "IDLE_MS", AN_HOUR_MS)
    seen: list[DeliveryInfo] = []
    await rig.open(lambda stage, body, info: seen.append(info))
    await rig.publisher.publish([a_message(number) for number in range(10)])
    await until(lambda: len(seen) == 10)
    async with asyncio.timeout(20):
        await rig.stop(grace_ms=60_000)


def test_a_thread_that_is_woken_has_nothing_to_do() -> None:
    works = _FirstInFirstOut()
    ended = threading.Event()

    def wait() -> None:
        with pytest.raises(queue.Empty):
            works.get(timeout=60)
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    works.wake(1)
    assert ended.wait(20)


def test_what_is_left_is_found_behind_those_still_to_be_woken() -> None:
    works = _FirstInFirstOut()
    works.wake(2)
    left = worker._Work(message=None)  # type: ignore[arg-type]
    works.put(left)
    assert works.get_nowait() is left
    with pytest.raises(queue.Empty):
        works.get_nowait()
