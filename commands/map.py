"""`tieout map`: the cross-reference between systems, and the check of a mapping file."""

from datetime import date, datetime
from pathlib import Path
from typing import Any

import click

from commands.app import TidyGroup
from commands.errors import NotThere, Unusable
from commands.map_check import check
from commands.output import counted, json_option, print_json, print_table, say
from commands.session import actor_option, with_engine
from ops.bootstrap import Engine
from ops.cross_reference import check_mapping, read_mappings, waiting_for_mapping

DAY = click.DateTime(formats=["%Y-%m-%d"])


@click.group(cls=TidyGroup)
def map_() -> None:
    """Mappings: which value of one system means what in another, from when to when; and the check of mapping files.

    \b
    Example:
      tieout map set expense_account Conference 6280
      tieout map check expenses.toml export.csv
    """


map_.name = "map"
map_.add_command(check)


@map_.command("set")
@click.argument("kind")
@click.argument("key")
@click.argument("value")
@click.option("--from", "valid_from", type=DAY, help="The first day it holds.")
@click.option("--to", "valid_to", type=DAY, help="The last day it holds.")
@actor_option
@json_option
def set_(
    kind: str, key: str, value: str, valid_from: datetime | None, valid_to: datetime | None, actor: str, as_json: bool
) -> None:
    """Map KEY of a KIND to VALUE; KEY * answers for every key that has no entry of its own.

    What holds already keeps holding outside the new dates.

    \b
    Example:
      tieout map set exchange_rate CHF/EUR 1.0650 --from 2026-03-01
    """
    first, last = _day(valid_from), _day(valid_to)
    if first and last and last < first:
        raise Unusable(f"--to {last} is before --from {first}")
    check_mapping(kind, key, value)
    waiting = with_engine(lambda engine: _set(engine, kind, key, value, first, last, actor))
    if as_json:
        print_json(
            {"kind": kind, "key": key, "value": value, "valid_from": first, "valid_to": last, "dead_letters": waiting}
        )
        return
    say(f"{kind} {key!r} is now {value!r}{_span(first, last)}.")
    if waiting:
        say(f"{counted(waiting, 'dead letter')} waited for it: tieout dead requeue --code MAPPING_MISSING")


@map_.command()
@click.argument("kind")
@click.argument("key")
@actor_option
@json_option
def unset(kind: str, key: str, actor: str, as_json: bool) -> None:
    """Remove every mapping of a kind and key; a fall-back of the rules file remains.

    \b
    Example:
      tieout map unset expense_account Conference
    """
    removed = with_engine(lambda engine: engine.reference.unset_mapping(kind, key, actor))
    if not removed:
        raise NotThere(f"no {kind} mapping for {key!r}; tieout map list {kind} shows those there are")
    if as_json:
        print_json({"kind": kind, "key": key, "removed": removed})
        return
    say(f"{removed} removed.")


@map_.command("list")
@click.argument("kind", required=False)
@json_option
def list_(kind: str | None, as_json: bool) -> None:
    """List the mappings of one kind, or of all: those set here, and the fall-backs of the rules file.

    \b
    Example:
      tieout map list expense_account
    """
    rows = with_engine(lambda engine: _listed(engine, kind))
    if as_json:
        print_json(rows)
        return
    print_table(
        ("kind", "key", "value", "from", "to", "set by"),
        [(row["kind"], row["key"], row["value"], row["valid_from"], row["valid_to"], row["by"]) for row in rows],
        empty="no mappings yet: tieout map set KIND KEY VALUE",
    )


@map_.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@actor_option
@json_option
def import_(file: Path, actor: str, as_json: bool) -> None:
    """Set many mappings at once from a CSV file: kind, key, value and, if wanted, valid_from and valid_to.

    \b
    Example:
      tieout map import accounts.csv
    """
    rows = read_mappings(file)
    with_engine(lambda engine: engine.reference.set_mappings(rows, actor))
    if as_json:
        print_json({"file": str(file), "set": len(rows)})
        return
    say(f"{counted(len(rows), 'mapping')} set.")


async def _set(
    engine: Engine, kind: str, key: str, value: str, valid_from: date | None, valid_to: date | None, actor: str
) -> int:
    """Set it; how many dead letters name this very mapping as what they lack."""
    await engine.reference.set_mapping(kind, key, value, valid_from, valid_to, actor)
    return len(await engine.dead_letters.list(waiting_for_mapping(kind, key)))


async def _listed(engine: Engine, kind: str | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {
            "kind": row.kind,
            "key": row.key,
            "value": row.value,
            "valid_from": row.valid_from,
            "valid_to": row.valid_to,
            "by": row.changed_by,
        }
        for row in await engine.reference.list_mappings(kind)
    ]
    for of_kind, values in engine.rules.mappings.items():
        if kind in (None, of_kind):
            rows += [
                {"kind": of_kind, "key": key, "value": value, "valid_from": None, "valid_to": None, "by": "rules file"}
                for key, value in values.items()
            ]
    return rows


def _day(moment: datetime | None) -> date | None:
    return moment.date() if moment else None


def _span(first: date | None, last: date | None) -> str:
    return (f" from {first}" if first else "") + (f" to {last}" if last else "")
