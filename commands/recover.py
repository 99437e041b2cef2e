"""`tieout recover`: what was accepted and stopped moving is driven again."""

from datetime import timedelta

import click

from commands.filters import DURATION
from commands.output import counted, json_option, print_json, say
from commands.session import current_settings, with_engine
from ops.bootstrap import Engine
from ops.recovery import relay


@click.command()
@click.option("--older-than", type=DURATION, help="Not moved for longer than this (TIEOUT_STRANDED_AFTER_S).")
@click.option("-d", "--dry-run", is_flag=True, help="Only say how many are stranded.")
@json_option
def recover(older_than: timedelta | None, dry_run: bool, as_json: bool) -> None:
    """Drive again what was accepted, is unfinished and has not moved; every stage is idempotent, so it does no harm.

    Embedded, every start of `tieout run` does so by itself; with servers, the clock does.

    \b
    Example:
      tieout recover --dry-run
    """
    embedded = current_settings().embedded
    age_s = older_than.total_seconds() if older_than is not None else (0 if embedded else None)

    async def drive(engine: Engine) -> tuple[int, int]:
        owed = await engine.outbox.count()
        # Embedded, nothing is driven without a worker in this very process: only look, and then start one.
        only_look = dry_run or embedded
        if not only_look:
            await relay(engine, 0)
        return owed, await engine.recover(age_s, dry_run=only_look)

    owed, driven = with_engine(drive)
    if embedded and not dry_run:
        with_engine(Engine.drain, work=True)
    if as_json:
        print_json({"dry_run": dry_run, "owed": owed, "stranded": driven})
        return
    would = "would be " if dry_run else ""
    say(f"{counted(owed, 'owed message')} {would}published, {counted(driven, 'stranded record')} {would}driven again.")
