"""`tieout run`: everything in one process."""

import click
from msgspec.structs import replace

from commands.environment import current_settings
from commands.staying import configure_process_logging, log_format_option, stay
from contracts.envelope import LANES
from ops.processes import run_everything


@click.command()
@click.option(
    "--threads", type=click.IntRange(1, 256), help="Threads per lane (TIEOUT_LIVE_THREADS, TIEOUT_BULK_THREADS)."
)
@log_format_option
@click.pass_context
def run(ctx: click.Context, threads: int | None, log_format: str | None) -> None:
    """Run worker and clock in one process until SIGTERM: embedded, or with the servers named in the environment.

    \b
    Example:
      tieout run
    """
    settings = current_settings()
    if threads:
        settings = replace(settings, live_threads=threads, bulk_threads=threads)
    configure_process_logging(ctx, settings, log_format, "run")
    stay("run", settings, lambda stop, tell: run_everything(settings, LANES, stop, tell))
