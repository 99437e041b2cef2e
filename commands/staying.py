"""What the commands that stay have in common: options, logs, and the signals that end them."""

import asyncio
import faulthandler
import os
from collections.abc import Awaitable, Callable
from typing import Any

import click

from commands.environment import current_settings
from commands.logs import configure_logging
from ops.readiness import ReadyFile, Roster, Status
from ops.signals import stop_on_signals
from pipeline.settings import LOG_FORMATS, Settings

STDERR = 2

#: (set when the process is to leave, told whenever its readiness changes) -> its work
Stay = Callable[[asyncio.Event, Callable[[Status], None]], Awaitable[None]]


def log_format_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--log-format`, for processes whose log somebody collects."""
    return click.option(
        "--log-format", type=click.Choice(LOG_FORMATS), help="How log lines look (TIEOUT_LOG_FORMAT; text)."
    )(function)


def configure_process_logging(ctx: click.Context, settings: Settings, log_format: str | None, process: str) -> None:
    """Log as the settings and options say; every line names the process. One that crashes says where it was."""
    faulthandler.enable(STDERR)
    level = "DEBUG" if ctx.meta.get("tieout.verbose") else settings.log_level
    configure_logging(level, log_format or settings.log_format, process=process)


def stay(name: str, settings: Settings, run: Stay) -> None:
    """Run the one process of this command until a signal ends it, and keep its readiness."""
    roster = Roster([name], ReadyFile(settings.ready_file))

    async def staying() -> None:
        stop = asyncio.Event()
        stop_on_signals(stop)
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: roster.close())
        try:
            await run(stop, lambda status: roster.tell(name, os.getpid(), status))
        finally:
            roster.close()
            stopping.cancel()

    asyncio.run(staying())


__all__ = ["configure_process_logging", "current_settings", "log_format_option", "stay"]
