"""`tieout retention`: bodies nobody needs any more go, the accounts of what happened stay."""

from datetime import timedelta

import click

from commands.filters import DURATION
from commands.output import counted, duration, json_option, print_json, say
from commands.session import actor_option, current_settings, with_engine
from store.retention import retain


@click.command()
@click.option(
    "--older-than",
    type=DURATION,
    help="Finished longer ago than this: 400d. By default TIEOUT_PAYLOAD_RETENTION_DAYS days.",
)
@click.option("-d", "--dry-run", is_flag=True, help="Only say how many would go.")
@actor_option
@json_option
def retention(older_than: timedelta | None, dry_run: bool, actor: str, as_json: bool) -> None:
    """Remove payloads and documents of what was finished long ago; never the accounts of what happened.

    Whatever is dead, parked or on its way keeps everything, and a posting that was never read back its document.

    \b
    Example:
      tieout retention --older-than 400d --dry-run
    """
    limit = timedelta(days=current_settings().payload_retention_days) if older_than is None else older_than
    done = with_engine(lambda engine: retain(engine.db, limit, dry_run, actor=actor))
    if as_json:
        print_json(done)
        return
    verb = "would be removed" if dry_run else "removed"
    say(
        f"{counted(done.payloads, 'payload')}, {counted(done.documents, 'document')}, "
        f"{counted(done.letters, 'dead letter body', 'dead letter bodies')}, "
        f"{counted(done.rejects, 'raw row')} and {counted(done.originals, 'edit original')} "
        f"{verb}, finished more than {duration(limit)} ago."
    )
