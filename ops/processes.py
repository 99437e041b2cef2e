"""The processes that stay: worker, clock, and both in one; each leaves by itself when it is asked to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

from loguru import logger
from msgspec.structs import replace

from contracts.envelope import BULK, LANES
from ops.bootstrap import Engine, open_engine
from ops.machine import give_way, rss_mb, spare_the_collector
from ops.readiness import Status, status_every_s
from ops.recovery import Recovery, quiet_s, relay
from ops.time_limits import check_time_limits
from pipeline.errors import TransientError
from pipeline.settings import Settings
from store.retention import retain

#: Who is told how this process is.
Tell = Callable[[Status], None]

#: What crashed processes left in the outbox is published when it is this old: its own process may be at it until then.
owed_after_s = 5
clock_tick_s = 2
recover_every_s = 30
#: What can't be told about within this time is gone on with the next time: the other tasks wait meanwhile.
recover_for_s = 1
retention_every_s = 24 * 60 * 60


status_tick_s = 0.1

#: How long ledger entries of the bulk lane wait for others to share a commit.
bulk_linger_ms = 50


class ThreadLost(Exception):
    """A thread that runs stages is dead; messages given to it would wait for ever."""


async def work(settings: Settings, lanes: Sequence[str], stop: asyncio.Event, tell: Tell) -> None:
    """Run the stages of these lanes until `stop` is set, then finish what has begun.

    Embedded, nobody else could keep the time, so this process does.

    Raises:
      NotReady: a server is out of reach when the process starts.
      InvalidSetting: the broker would take messages back before their stage's time limit.
      ThreadLost: it can't go on; the next process can.
    """
    check_time_limits(settings)
    stands_back = tuple(lanes) == (BULK,) and not settings.embedded
    if stands_back:
        settings = stand_back(settings)
    async with _opened(open_engine(settings, work=True, lanes=lanes, stands_back=stands_back), stop) as engine:
        if engine is None:
            return
        spare_the_collector()
        logger.bind(
            event="worker_started",
            lanes=list(lanes),
            live_threads=settings.live_threads,
            bulk_threads=settings.bulk_threads,
        ).info("at work")
        tasks = [_tick(engine)] if settings.embedded else []
        await _until(stop, _tell_status(lambda: _consuming(engine), tell), *tasks)
        logger.bind(event="worker_stopping").info("finishing what has begun")
    logger.bind(event="worker_stopped").info("stopped")


def stand_back(settings: Settings) -> Settings:
    """What suits a process of the bulk lane alone: nobody waits for it, and others may for what it takes.

    Live work goes first on the processors, and fewer, larger commits leave the disk to it.
    """
    give_way()
    return replace(settings, ledger_linger_ms=max(settings.ledger_linger_ms, bulk_linger_ms))


async def keep_time(settings: Settings, stop: asyncio.Event, tell: Tell) -> None:
    """Publish what is owed, drive what is stranded, remove what is past retention, until `stop` is set."""
    async with _opened(open_engine(settings), stop) as engine:
        if engine is None:
            return
        logger.bind(event="clock_started").info("keeping time")
        await _until(stop, _tell_status(lambda: True, tell), _tick(engine))
    logger.bind(event="clock_stopped").info("stopped")


async def run_everything(settings: Settings, lanes: Sequence[str], stop: asyncio.Event, tell: Tell) -> None:
    """Worker and clock in one process; raises as `work` does."""
    check_time_limits(settings)
    async with _opened(open_engine(settings, work=True, lanes=lanes), stop) as engine:
        if engine is None:
            return
        spare_the_collector()
        logger.bind(event="started", embedded=settings.embedded).info("at work")
        await _until(stop, _tell_status(lambda: _consuming(engine), tell), _tick(engine))
    logger.bind(event="stopped").info("stopped")


@asynccontextmanager
async def _opened(engine: AbstractAsyncContextManager[Engine], stop: asyncio.Event) -> AsyncIterator[Engine | None]:
    """An open engine; None when `stop` is set first, for a server that is away can keep us waiting."""
    async with AsyncExitStack() as stack:
        opening = asyncio.create_task(stack.enter_async_context(engine))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((opening, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not opening.done():
            opening.cancel()
            await asyncio.wait((opening,))
        yield None if opening.cancelled() else opening.result()


def _consuming(engine: Engine) -> bool:
    workers = engine.workers
    if workers is not None and workers.threads_lost:
        raise ThreadLost(f"{workers.threads_lost} threads that run stages are dead")
    return engine.consuming


async def _tell_status(ready: Callable[[], bool], tell: Tell) -> None:
    """Tell whenever this process becomes ready or ceases to be, and every so often how much memory it holds."""
    loop = asyncio.get_running_loop()
    told, told_at = False, float("-inf")
    while True:
        now = ready()
        if now != told or loop.time() - told_at >= status_every_s:
            told, told_at = now, loop.time()
            tell(Status(ready=now, rss_mb=rss_mb()))
        await asyncio.sleep(status_tick_s)


async def tick_until(engine: Engine, stop: asyncio.Event) -> None:
    """Keep the time until `stop` is set; a task that is waiting then (for room, for a server) is given up.

    What it had written down as owed stays owed, and the next process publishes it.
    """
    await _until(stop, _tick(engine))


async def _until(stop: asyncio.Event, *work: Coroutine[Any, Any, None]) -> None:
    """Run these beside each other until `stop` is set or one of them fails; then they are given up."""
    tasks = [asyncio.create_task(one) for one in (*work, _wait(stop))]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _wait(stop: asyncio.Event) -> None:
    await stop.wait()


async def _tick(engine: Engine) -> None:
    loop = asyncio.get_running_loop()
    # A live record that is lost must not wait for an import to be through.
    recoveries = [Recovery(engine, lanes=[lane]) for lane in LANES]
    recovered_at = loop.time()
    retained_at = float("-inf")
    while True:
        await _try("relay", relay(engine, owed_after_s))
        if loop.time() - recovered_at >= recover_every_s:
            recovered_at = loop.time()
            for recovery in recoveries:
                await _try("recover", _recover(recovery))
        if loop.time() - retained_at >= retention_every_s:
            retained_at = loop.time()
            days = timedelta(days=engine.settings.payload_retention_days)
            await _try("retention", retain(engine.db, days, actor="clock"))
        await asyncio.sleep(clock_tick_s)


async def _recover(recovery: Recovery) -> None:
    """Drive what is lost again; of what nothing can be told, say why."""
    done = await recovery.some(quiet_s, timeout_s=recover_for_s)
    for one in done.undecided:
        level = "WARNING" if one.stuck else "INFO"
        logger.bind(event="recover_undecided").log(
            level, "{} records can't be told lost or slow: {}", one.records, one.why
        )


async def _try(task: str, work: Awaitable[object]) -> None:
    """One task of the clock; whatever becomes of it, the others have their turn and it has another one."""
    try:
        await work
    except TransientError as error:
        logger.bind(event="clock_delayed", task=task).warning("{}: {}", task, error)
    except Exception as error:
        logger.bind(event="clock_failed", task=task).opt(exception=error).error("{}: {!r}", task, error)
