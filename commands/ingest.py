"""`tieout ingest`: accept files of somebody's export; embedded, run the pipeline over them as well."""

import asyncio
from pathlib import Path

import click

from commands.ingest_report import Bars, document, print_at_rest, print_summary
from commands.output import json_option, print_json
from commands.session import actor_option, current_settings, with_engine
from contracts.envelope import BULK, LANES
from ops.bootstrap import Engine
from ops.embedded import Ingested, ingest_and_settle
from ops.ingest.mapping import load_mapping
from ops.ingest.run import ingest as read_files
from ops.machine import give_way

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=FILE)
@click.option("-m", "--map", "mapping", required=True, type=FILE, help="The mapping file.")
@click.option("-l", "--lane", type=click.Choice(LANES), default=BULK, show_default=True, help="Which lane it takes.")
@click.option("-d", "--dry-run", is_flag=True, help="Read and map everything, accept nothing.")
@click.option(
    "-r", "--rejects", type=click.Path(path_type=Path, dir_okay=False), help="Write refused rows to this CSV."
)
@actor_option
@json_option
def ingest(
    files: tuple[Path, ...],
    mapping: Path,
    lane: str,
    dry_run: bool,
    rejects: Path | None,
    actor: str,
    as_json: bool,
) -> int:
    """Accept CSV or JSON Lines files, plain or .gz; the same file again accepts nothing new.

    Embedded (no AMQP_URL), the pipeline then runs until nothing is left, or only what waits for a target that is down.
    Exit status 1 when a file could not be read to its end.

    \b
    Example:
      tieout ingest expenses.csv.gz --map expenses.toml --rejects rejects.csv
    """
    rules = load_mapping(mapping)
    stands_back = lane == BULK and not current_settings().embedded
    if stands_back:
        give_way()

    async def run(engine: Engine) -> Ingested:
        with Bars() as bars:
            return await ingest_and_settle(
                engine,
                files,
                rules,
                lane=lane,
                actor=actor,
                rejects=rejects,
                progress=bars.read,
                left=bars.left,
                held=bars.held,
                down=bars.down,
            )

    async def rehearse() -> Ingested:
        settings = current_settings()
        with Bars() as bars:
            summary = await read_files(
                files,
                rules,
                intake=None,
                publish=_nowhere,
                settings=settings,
                stage="",
                lane=lane,
                dry_run=True,
                progress=bars.read,
                rejects=rejects,
            )
        return Ingested(summary=summary)

    done = asyncio.run(rehearse()) if dry_run else with_engine(run, work=True, stands_back=stands_back)
    if as_json:
        print_json(document(done))
    else:
        print_summary(done.summary, rejects)
        print_at_rest(done, embedded=current_settings().embedded)
    return 0 if done.summary.holds else 1


async def _nowhere(_: object) -> None:
    """A dry run has nothing to publish."""
