"""The processes that stay: worker, clock, and both in one; each leaves by itself when it is asked to."""

import asyncio
import signal
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from loguru import logger

from ops.bootstrap import open_engine
from pipeline.errors import TransientError
from pipeline.settings import Settings
from store.retention import retain

if TYPE_CHECKING:
    from ops.bootstrap import Engine

#: What crashed processes left in the outbox is published when it is this old: its own process may be at it until then.
owed_after_s = 5
owed_rows_max = 5_000
clock_tick_s = 2
recover_every_s = 30
retention_every_s = 24 * 60 * 60


async def work(settings: Settings, lanes: Sequence[str], stop: asyncio.Event) -> None:
    """Run the stages of these lanes until `stop` is set, then finish what has begun.

    Embedded, nobody else could keep the time, so this process does.

    Raises:
      NotReady: a server is out of reach when the process starts.
    """
    async with open_engine(settings, work=True, lanes=lanes) as engine:
        logger.bind(event="worker_started", lanes=list(lanes), threads=settings.worker_threads).info("at work")
        if settings.embedded:
            await _tick_until(engine, stop)
        await stop.wait()
        logger.bind(event="worker_stopping").info("finishing what has begun")
    logger.bind(event="worker_stopped").info("stopped")


async def keep_time(settings: Settings, stop: asyncio.Event) -> None:
    """Publish what is owed, drive what is stranded, remove what is past retention, until `stop` is set."""
    async with open_engine(settings) as engine:
        logger.bind(event="clock_started").info("keeping time")
        await _tick_until(engine, stop)
    logger.bind(event="clock_stopped").info("stopped")


async def run_everything(settings: Settings, lanes: Sequence[str], stop: asyncio.Event) -> None:
    """Worker and clock in one process."""
    async with open_engine(settings, work=True, lanes=lanes) as engine:
        logger.bind(event="started", embedded=settings.embedded).info("at work")
        await _tick_until(engine, stop)
    logger.bind(event="stopped").info("stopped")


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` on SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


async def _tick_until(engine: "Engine", stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    recovered_at = loop.time()
    retained_at = float("-inf")
    while not stop.is_set():
        try:
            await engine.publish_outbox(await engine.outbox.pending(owed_rows_max, owed_after_s))
            if loop.time() - recovered_at >= recover_every_s:
                recovered_at = loop.time()
                await engine.recover()
            if loop.time() - retained_at >= retention_every_s:
                retained_at = loop.time()
                await retain(engine.db, timedelta(days=engine.settings.payload_retention_days), actor="clock")
        except TransientError as error:
            logger.bind(event="clock_delayed").warning("{}; tried again in {} s", error, clock_tick_s)
        await _pause(stop, clock_tick_s)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait, but not longer than until `stop` is set."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
