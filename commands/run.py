"""`tieout run`: everything in one process."""

import asyncio

import click
from msgspec.structs import replace

from commands.logs import configure_logging
from commands.session import current_settings
from contracts.envelope import LANES
from ops.processes import run_everything, stop_on_signals


@click.command()
@click.option("--threads", type=click.IntRange(1, 256), help="Threads per lane (TIEOUT_WORKER_THREADS).")
@click.pass_context
def run(ctx: click.Context, threads: int | None) -> None:
    """Run worker and clock in one process until SIGTERM: embedded, or with the servers named in the environment.

    \b
    Example:
      tieout run
    """
    settings = current_settings()
    if threads:
        settings = replace(settings, worker_threads=threads)
    configure_logging("DEBUG" if ctx.meta.get("tieout.verbose") else settings.log_level)

    async def everything() -> None:
        stop = asyncio.Event()
        stop_on_signals(stop)
        await run_everything(settings, LANES, stop)

    asyncio.run(everything())
