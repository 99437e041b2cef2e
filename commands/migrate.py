"""`tieout migrate`: brings the database's schema up to date, and declares the broker's queues."""

import click

from commands.output import json_option, print_json, say
from commands.session import current_settings
from ops.deployment import release
from ops.findings import masked


@click.command()
@json_option
def migrate(as_json: bool) -> None:
    """Bring the database's schema up to date and declare exchanges and queues; safe to run again, or by several.

    \b
    Example:
      tieout migrate
    """
    settings = current_settings()
    changed = release(settings)
    where = masked(settings.database_url)
    if as_json:
        print_json({"database": where, "changed": changed, "queues": not settings.embedded})
        return
    say(f"{where}: {'brought up to date' if changed else 'was up to date'}.")
    if not settings.embedded:
        say("Exchanges and queues are declared.")
