"""The filters of `tieout dead`: one set of options, the same on every verb."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import click

from commands.errors import Unusable
from pipeline.codes import CATALOGUE, ROLES
from store.dead_letter_filter import DISCARDED, OPEN, REQUEUED, RESOLVED, DeadLetterFilter

_UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
STATUSES = (OPEN, REQUEUED, RESOLVED, DISCARDED)


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A length of time: a whole number and its unit, `90s`, `30m`, `2h`, `3d`, `1w`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"(\d{1,6})\s*(s|m|min|h|d|w)", str(value).strip().lower())
        if not found:
            self.fail(f"{value!r} is no length of time: write 90s, 30m, 2h, 3d or 1w", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


DURATION = Duration()


def filter_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose dead letters, gathered by `filter_of`; each may be given several times."""
    options = (
        click.option(
            "-c",
            "--code",
            "codes",
            multiple=True,
            metavar="CODE",
            callback=_known_codes,
            help="A failure code (tieout dead codes).",
        ),
        click.option("-s", "--stage", "stages", multiple=True, help="The stage where it failed."),
        click.option("-t", "--type", "document_types", multiple=True, help="A document type: expense or expense.v1."),
        click.option("-e", "--entity", "legal_entities", multiple=True, help="A legal entity."),
        click.option("-w", "--owner", "owners", multiple=True, type=click.Choice(ROLES), help="The role it waits for."),
        click.option("-S", "--source", "sources", multiple=True, help="The system it came from."),
        click.option("-i", "--id", "ids", multiple=True, help="A dead letter's id."),
        click.option("--record", "record_ids", multiple=True, help="A record's id."),
        click.option("--cause", help="A cause as `tieout dead groups` shows it."),
        click.option("--older-than", type=DURATION, help="Failed last longer ago than this: 2h, 3d."),
        click.option("--newer-than", type=DURATION, help="Failed last within this time."),
        click.option("-n", "--limit", type=click.IntRange(min=1), help="At most so many, the oldest first."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def filter_of(chosen: dict[str, Any], **fixed: Any) -> DeadLetterFilter:
    """The filter of a verb's options."""
    return DeadLetterFilter(**{name: value for name, value in chosen.items() if value is not None}, **fixed)


def require_a_choice(chosen: dict[str, Any], everything: bool, verb: str) -> None:
    """A verb that changes something wants to be told what; `--all` says it on purpose.

    Raises:
      Unusable: neither a filter nor --all was given.
    """
    given = any(value for name, value in chosen.items() if name != "limit")
    if not given and not everything:
        raise Unusable(f"tieout dead {verb}: say which ones (--code, --type, --id, ...), or --all for every open one")


def _known_codes(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    codes = tuple(value.upper().replace("-", "_") for value in values)
    for code in codes:
        if code not in CATALOGUE:
            raise click.BadParameter(f"{code!r} is not a failure code: see `tieout dead codes`")
    return codes
