"""The processes that stay: worker, clock, and both in one; each leaves by itself when it is asked to."""

import asyncio
import signal
from collections.abc import Awaitable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from loguru import logger

from ops.bootstrap import open_engine
from ops.recovery import relay
from pipeline.errors import TransientError
from pipeline.settings import Settings
from store.retention import retain

if TYPE_CHECKING:
    from ops.bootstrap import Engine

#: What crashed processes left in the outbox is published when it is this old: its own process may be at it until then.
owed_after_s = 5
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
            await tick_until(engine, stop)
        await stop.wait()
        logger.bind(event="worker_stopping").info("finishing what has begun")
    logger.bind(event="worker_stopped").info("stopped")


async def keep_time(settings: Settings, stop: asyncio.Event) -> None:
    """Publish what is owed, drive what is stranded, remove what is past retention, until `stop` is set."""
    async with open_engine(settings) as engine:
        logger.bind(event="clock_started").info("keeping time")
        await tick_until(engine, stop)
    logger.bind(event="clock_stopped").info("stopped")


async def run_everything(settings: Settings, lanes: Sequence[str], stop: asyncio.Event) -> None:
    """Worker and clock in one process."""
    async with open_engine(settings, work=True, lanes=lanes) as engine:
        logger.bind(event="started", embedded=settings.embedded).info("at work")
        await tick_until(engine, stop)
    logger.bind(event="stopped").info("stopped")


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` on SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


async def tick_until(engine: "Engine", stop: asyncio.Event) -> None:
    """Keep the time until `stop` is set; a task that is waiting then (for room, for a server) is given up.

    What it had written down as owed stays owed, and the next process publishes it.
    """
    ticking, stopping = asyncio.create_task(_tick(engine)), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((ticking, stopping), return_when=asyncio.FIRST_COMPLETED)
        if ticking.done():
            ticking.result()
    finally:
        ticking.cancel()
        stopping.cancel()
        await asyncio.wait((ticking, stopping))


async def _tick(engine: "Engine") -> None:
    loop = asyncio.get_running_loop()
    recovered_at = loop.time()
    retained_at = float("-inf")
    while True:
        await _try("relay", relay(engine, owed_after_s))
        if loop.time() - recovered_at >= recover_every_s:
            recovered_at = loop.time()
            await _try("recover", engine.recover())
        if loop.time() - retained_at >= retention_every_s:
            retained_at = loop.time()
            days = timedelta(days=engine.settings.payload_retention_days)
            await _try("retention", retain(engine.db, days, actor="clock"))
        await asyncio.sleep(clock_tick_s)


async def _try(task: str, work: Awaitable[object]) -> None:
    """One task of the clock; whatever becomes of it, the others have their turn and it has another one."""
    try:
        await work
    except TransientError as error:
        logger.bind(event="clock_delayed", task=task).warning("{}: {}", task, error)
    except Exception as error:
        logger.bind(event="clock_failed", task=task).opt(exception=error).error("{}: {!r}", task, error)
