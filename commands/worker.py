"""`tieout worker`: runs the stages of some lanes until it is told to stop."""

import asyncio

import click
from msgspec.structs import replace

from commands.logs import configure_logging
from commands.session import current_settings
from contracts.envelope import LANES
from ops.processes import stop_on_signals, work


@click.command()
@click.option(
    "-l", "--lane", "lanes", multiple=True, type=click.Choice(LANES), help="A lane to serve; both by default."
)
@click.option("--threads", type=click.IntRange(1, 256), help="Threads per lane (TIEOUT_WORKER_THREADS).")
@click.pass_context
def worker(ctx: click.Context, lanes: tuple[str, ...], threads: int | None) -> None:
    """Run the stages of one or both lanes until SIGTERM, then finish what has begun within the grace.

    \b
    Example:
      tieout worker --lane bulk --threads 8
    """
    settings = current_settings()
    if threads:
        settings = replace(settings, worker_threads=threads)
    configure_logging("DEBUG" if ctx.meta.get("tieout.verbose") else settings.log_level)

    async def run() -> None:
        stop = asyncio.Event()
        stop_on_signals(stop)
        await work(settings, tuple(dict.fromkeys(lanes)) or LANES, stop)

    asyncio.run(run())
