"""`tieout target`: the systems that documents are posted to."""

from typing import Any

import click

from commands.app import TidyGroup
from commands.errors import NotThere
from commands.output import json_option, print_json, print_table, say
from commands.session import with_engine
from ops.bootstrap import Engine
from ops.targets import Answer, ask, ask_all
from pipeline.ports import Target


@click.group(cls=TidyGroup)
def target() -> None:
    """The systems that documents are posted to: what they can do, what they hold, whether they answer.

    \b
    Example:
      tieout target test ledger
    """


@target.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the targets and which document types are routed to each.

    \b
    Example:
      tieout target list
    """
    rows = with_engine(_listed)
    if as_json:
        print_json(rows)
        return
    print_table(
        ("target", "documents per call", "refuses doubles", "reverses", "gives totals", "routed to it"),
        [
            (
                row["target"],
                row["capabilities"].bulk_max,
                row["capabilities"].unique_reference,
                row["capabilities"].reverse,
                row["capabilities"].totals,
                ", ".join(row["routes"]) or "nothing",
            )
            for row in rows
        ],
        right=("documents per call",),
        below=("routed to it",),
    )


@target.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show what one target can do, why not the rest, and what it holds.

    \b
    Example:
      tieout target show ledger
    """
    answer = with_engine(lambda engine: ask(_find(engine, name)))
    capabilities = answer.capabilities
    if as_json:
        print_json(answer)
        return
    say(name, "bold")
    for field in ("bulk_max", "unique_reference", "reverse", "totals"):
        reason = capabilities.lacks.get(field)
        say(f"  {field.replace('_', ' '):<20}{getattr(capabilities, field)}" + (f" ({reason})" if reason else ""))
    say()
    print_table(
        ("type", "documents", "amount"),
        [(total.document_type, total.count, total.amount) for total in answer.holds],
        right=("documents", "amount"),
        empty="it holds nothing yet" if answer.error is None else answer.error,
    )


@target.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@json_option
def test(names: tuple[str, ...], as_json: bool) -> int:
    """Ask targets something harmless; exit status 1 when one does not answer.

    \b
    Example:
      tieout target test
    """

    async def ask_them(engine: Engine) -> list[Answer]:
        return await ask_all([_find(engine, name) for name in names or engine.targets])

    answers = with_engine(ask_them)
    if as_json:
        print_json([{"target": one.target, "ms": one.ms, "error": one.error} for one in answers])
    else:
        print_table(
            ("target", "answered in", ""),
            [(one.target, f"{one.ms} ms", one.error or "ok") for one in answers],
            right=("answered in",),
        )
    return 1 if any(one.error for one in answers) else 0


def _find(engine: Engine, name: str) -> Target:
    if name not in engine.targets:
        raise NotThere(f"no target {name!r}: there are {', '.join(engine.targets)}")
    return engine.targets[name]


async def _listed(engine: Engine) -> list[dict[str, Any]]:
    return [
        {
            "target": name,
            "capabilities": one.capabilities,
            "routes": [
                route.document_type + ("" if route.legal_entity == "*" else f" of {route.legal_entity}")
                for route in engine.rules.routing
                if name in route.targets
            ],
        }
        for name, one in engine.targets.items()
    ]
