"""`tieout recover`: what was accepted and is nowhere in the broker is driven again."""

from datetime import timedelta

import click

from commands.filters import DURATION
from commands.output import counted, json_option, print_json, say
from commands.session import current_settings, with_engine
from ops.bootstrap import Engine
from ops.recovery import Recovered, relay


@click.command()
@click.option("--older-than", type=DURATION, help="Not moved for longer than this (10 s).")
@click.option(
    "--wait", type=DURATION, default=timedelta(seconds=60), show_default="60s", help="Look for so long, at most."
)
@click.option("-d", "--dry-run", is_flag=True, help="Only say what is lost.")
@json_option
def recover(older_than: timedelta | None, wait: timedelta, dry_run: bool, as_json: bool) -> int:
    """Drive again what was accepted, is unfinished and is nowhere in the broker: its queue was purged, its disk lost.

    What waits in a queue, in a worker's hands or for its next attempt is merely slow and left alone, however long.
    Exit status 1 when something can't be told before somebody acts. Embedded, every start of `tieout run` recovers by
    itself; with servers, the clock does.

    \b
    Example:
      tieout recover --dry-run
    """
    embedded = current_settings().embedded
    age_s = older_than.total_seconds() if older_than is not None else (0 if embedded else None)

    async def drive(engine: Engine) -> tuple[int, Recovered]:
        owed = await engine.outbox.count()
        # Embedded, nothing is driven without a worker in this very process: only look, and then start one.
        only_look = dry_run or embedded
        if not only_look:
            await relay(engine, 0)
        return owed, await engine.recover(age_s, dry_run=only_look, timeout_s=wait.total_seconds())

    owed, done = with_engine(drive)
    if embedded and not dry_run:
        with_engine(Engine.drain, work=True)
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "owed": owed,
                "candidates": done.candidates,
                "slow": done.slow,
                "stranded": done.lost,
                "driven": 0 if dry_run else done.driven,
                "undecided": done.undecided,
            }
        )
    else:
        _print(owed, done, dry_run)
    return 1 if done.stuck else 0


def _print(owed: int, done: Recovered, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    driven = counted(done.driven, "stranded record")
    say(f"{counted(owed, 'owed message')} {would}published, {driven} {would}driven again.")
    if done.slow:
        say(f"{counted(done.slow, 'record')} merely slow: in a queue, in a worker's hands, or moved meanwhile.")
    for one in done.undecided:
        say(f"{counted(one.records, 'record')} undecided: {one.why}", "yellow")
