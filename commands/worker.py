"""`tieout worker`: runs the stages of some lanes, in one process or several, until it is told to stop."""

import asyncio
import os
import sys
from collections.abc import Sequence

import click
from loguru import logger
from msgspec.structs import replace

from commands.environment import current_settings
from commands.staying import configure_process_logging, log_format_option, stay
from contracts.envelope import BULK, LANES
from ops.machine import processes_by_default, processes_by_default_max, usable_cpus
from ops.readiness import ReadyFile, Roster
from ops.signals import stop_on_signals
from ops.supervised import SupervisorLink
from ops.supervisor import Command, Supervisor, leave_within_s
from ops.time_limits import check_time_limits
from pipeline.settings import Settings, read_settings


@click.command()
@click.option(
    "-l", "--lane", "lanes", multiple=True, type=click.Choice(LANES), help="A lane to serve; both by default."
)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    help="Processes (TIEOUT_WORKER_PROCESSES); by default one per processor, for the bulk lane alone one for two, "
    f"{processes_by_default_max} at most.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 256),
    help="Threads per lane and process (TIEOUT_LIVE_THREADS, TIEOUT_BULK_THREADS).",
)
@log_format_option
@click.option("--supervised", nargs=2, type=(str, int), hidden=True, metavar="NAME DESCRIPTOR")
@click.pass_context
def worker(
    ctx: click.Context,
    lanes: tuple[str, ...],
    processes: int | None,
    threads: int | None,
    log_format: str | None,
    supervised: tuple[str, int] | None,
) -> int | None:
    """Run the stages of one or both lanes until SIGTERM, then finish what has begun within the grace.

    With several processes, one that crashes is started again while the others go on. A second signal ends all at once.
    `tieout ready` tells whether they consume.

    \b
    Example:
      tieout worker --lane bulk --processes 4 --threads 8
    """
    lanes = tuple(dict.fromkeys(lanes)) or LANES
    # Whoever only looks after workers needs none of what they load: they check the rest.
    settings = read_settings(os.environ)
    name = "-".join(lanes)
    count = 1 if supervised else process_count(settings, lanes, processes, usable_cpus())
    if supervised or count == 1:
        settings = current_settings()
    if threads:
        settings = replace(settings, live_threads=threads, bulk_threads=threads)
    configure_process_logging(ctx, settings, log_format, supervised[0] if supervised else name)
    check_time_limits(settings)
    if supervised:
        _work_supervised(settings, lanes, supervised[1])
        return None
    if (asked_for := processes or settings.worker_processes or 1) > count:
        logger.bind(event="one_process").warning("one process, not {}: {}", asked_for, _alone(settings))
    if count == 1:
        _work_alone(settings, lanes, name)
        return None
    names = [f"{name}-{number}" for number in range(1, count + 1)]
    return _supervise(settings, names, _command_line(ctx, lanes, threads, log_format))


def process_count(settings: Settings, lanes: Sequence[str], asked_for: int | None, cpus: int) -> int:
    """How many processes work: what was asked for, else what suits the machine; always 1 where only one can."""
    if _alone(settings):
        return 1
    by_default = processes_by_default(cpus, gives_way=tuple(lanes) == (BULK,))
    return asked_for or settings.worker_processes or by_default


def _alone(settings: Settings) -> str | None:
    """Why there can only be one process."""
    if settings.embedded:
        return "embedded, without AMQP_URL, everything is in one process"
    if settings.database_url.startswith("sqlite"):
        return "SQLite serves one process; name a PostgreSQL in DATABASE_URL"
    return None


def _work_alone(settings: Settings, lanes: Sequence[str], name: str) -> None:
    from ops.processes import work

    stay(name, settings, lambda stop, tell: work(settings, lanes, stop, tell))


def _work_supervised(settings: Settings, lanes: Sequence[str], descriptor: int) -> None:
    from ops.processes import work

    async def run() -> None:
        stop = asyncio.Event()
        # Platforms signal every process there is, and the supervisor passes on what it gets: once is enough for us.
        stop_on_signals(stop, again=lambda: None)
        link = SupervisorLink(descriptor, stop, leave_within_s(settings.shutdown_grace_ms))
        await work(settings, lanes, stop, link.tell)

    asyncio.run(run())


def _supervise(settings: Settings, names: Sequence[str], command: Command) -> int:
    roster = Roster(names, ReadyFile(settings.ready_file))

    async def run() -> int:
        supervisor = Supervisor(names, command, roster, grace_ms=settings.shutdown_grace_ms)
        stop_on_signals(supervisor.stop, again=supervisor.leave_at_once)
        return await supervisor.run()

    return asyncio.run(run())


def _command_line(ctx: click.Context, lanes: Sequence[str], threads: int | None, log_format: str | None) -> Command:
    """Each worker is this very command in a fresh interpreter; without the working directory on its path (-P)."""
    before = ["--verbose"] if ctx.meta.get("tieout.verbose") else []
    after = [f"--lane={lane}" for lane in lanes]
    after += [f"--threads={threads}"] if threads else []
    after += [f"--log-format={log_format}"] if log_format else []

    def command(name: str, descriptor: int) -> Sequence[str]:
        supervised = ["--supervised", name, str(descriptor)]
        return [sys.executable, "-P", "-m", "cli", *before, "worker", *after, *supervised]

    return command
