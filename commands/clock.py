"""`tieout clock`: what must happen by itself, from time to time."""

import click

from commands.environment import current_settings
from commands.staying import configure_process_logging, log_format_option, stay
from ops.processes import keep_time


@click.command()
@log_format_option
@click.pass_context
def clock(ctx: click.Context, log_format: str | None) -> None:
    """Publish what a crash left in the outbox, recover what is stranded, apply retention; until SIGTERM.

    \b
    Example:
      tieout clock
    """
    settings = current_settings()
    configure_process_logging(ctx, settings, log_format, "clock")
    stay("clock", settings, lambda stop, tell: keep_time(settings, stop, tell))
