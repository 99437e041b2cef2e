"""`tieout clock`: what must happen by itself, from time to time."""

import asyncio

import click

from commands.logs import configure_logging
from commands.session import current_settings
from ops.processes import keep_time, stop_on_signals


@click.command()
@click.pass_context
def clock(ctx: click.Context) -> None:
    """Publish what a crash left in the outbox, recover what is stranded, apply retention; until SIGTERM.

    \b
    Example:
      tieout clock
    """
    settings = current_settings()
    configure_logging("DEBUG" if ctx.meta.get("tieout.verbose") else settings.log_level)

    async def run() -> None:
        stop = asyncio.Event()
        stop_on_signals(stop)
        await keep_time(settings, stop)

    asyncio.run(run())
