"""`tieout migrate`: brings the database's schema up to date."""

import click

from commands.output import json_option, print_json, say
from commands.session import current_settings
from ops.findings import masked
from store.database import migrate as bring_up_to_date
from store.database import schema_is_current


@click.command()
@json_option
def migrate(as_json: bool) -> None:
    """Bring the database's schema up to date; safe to run again, or by several at once. Needs no broker.

    \b
    Example:
      tieout migrate
    """
    settings = current_settings()
    changed = not schema_is_current(settings.database_url)
    bring_up_to_date(settings.database_url)
    where = masked(settings.database_url)
    if as_json:
        print_json({"database": where, "changed": changed})
        return
    say(f"{where}: {'brought up to date' if changed else 'was up to date'}.")
