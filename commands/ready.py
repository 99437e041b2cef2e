"""`tieout ready`: the probe of a process that listens on no port."""

import os

import click
import msgspec

from commands.errors import DID_NOT_HOLD, HELD, Unusable
from ops.readiness import look
from pipeline.settings import read_settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def ready(as_json: bool) -> int:
    """Tell whether the worker or clock that keeps TIEOUT_READY_FILE is at work: exit status 0 when it is, else 1.

    Not ready: starting, one of its processes being restarted, a connection to the broker lost, stopping.

    \b
    Example:
      tieout ready
    """
    settings = read_settings(os.environ)
    if settings.ready_file is None:
        raise Unusable("TIEOUT_READY_FILE is not set: name a file there, for the process and for this command")
    found = look(settings.ready_file)
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        click.echo(f"{'ready' if found.ready else 'not ready'}: {found.found}")
        for one in found.workers:
            click.echo(f"  {one.name}  pid {one.pid}  {one.rss_mb} MiB  restarted {one.restarts} times")
    return HELD if found.ready else DID_NOT_HOLD
