import asyncio
import os
import signal

import ops.signals
from ops.signals import stop_on_signals


async def test_a_signal_sent_twice_at_once_is_one_request() -> None:
    stop, again = asyncio.Event(), asyncio.Event()
    stop_on_signals(stop, again.set)
    os.kill(os.getpid(), signal.SIGTERM)
    await stop.wait()
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(0.05)
    assert not again.is_set()


async def test_a_signal_that_comes_later_means_at_once(monkeypatch) -> None:
    monkeypatch.setattr(ops.signals, "same_request_s", 0.0)
    stop, again = asyncio.Event(), asyncio.Event()
    stop_on_signals(stop, again.set)
    os.kill(os.getpid(), signal.SIGTERM)
    await stop.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await again.wait()
