"""`tieout target`: the systems that documents are posted to."""

from datetime import datetime
from typing import Any

import click

from commands.app import TidyGroup
from commands.errors import NotThere
from commands.output import cell, json_option, print_json, print_table, say
from commands.session import with_engine
from commands.target_changes import add, kinds, remove
from connectors.http.standing import Snapshot
from ops.bootstrap import Engine
from ops.targets import Answer, Described, ask_all, ask_by_name, described, names_of, shown


@click.group(cls=TidyGroup)
def target() -> None:
    """The systems that documents are posted to: setting them up, what they can do and hold, whether they answer.

    \b
    Example:
      tieout target kinds
      tieout target test
    """


for command in (kinds, add):
    target.add_command(command)


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
        ("target", "kind", "documents per call", "refuses doubles", "reverses", "gives totals", "routed to it"),
        [(one.target, one.kind, *_abilities(one), ", ".join(one.routes) or "nothing") for one in rows],
        right=("documents per call",),
        below=("routed to it",),
    )
    for one in rows:
        if one.unopened is not None:
            say(f"{one.target} can't be opened: {one.unopened}", "yellow")


@target.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show how one target is set up, what it can do, why not the rest, and what it holds.

    \b
    Example:
      tieout target show ledger
    """

    async def look(engine: Engine) -> tuple[Described, Snapshot | None, Answer]:
        _known(engine, name)
        guard = engine.connected.guards.get(name)
        standing = await guard.snapshot() if guard else None
        return described(engine, name), standing, await ask_by_name(engine, name, holds=True)

    found, standing, answer = with_engine(look)
    if as_json:
        print_json(_document(found, standing, answer))
        return
    say(name, "bold")
    _print_setup(found)
    if answer.capabilities is not None:
        capabilities = answer.capabilities
        for field in ("bulk_max", "unique_reference", "reverse", "totals"):
            reason = capabilities.lacks.get(field)
            value = cell(getattr(capabilities, field))
            _line(field.replace("_", " "), value + (f" ({reason})" if reason else ""))
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

    A target is asked even while its circuit breaker keeps the workers away from it.

    \b
    Example:
      tieout target test
    """

    async def ask_them(engine: Engine) -> list[Answer]:
        for name in names:
            _known(engine, name)
        return await ask_all(engine, names or names_of(engine))

    answers = with_engine(ask_them)
    if as_json:
        print_json([{"target": one.target, "ms": one.ms, "error": one.error} for one in answers])
    else:
        print_table(
            ("target", "answered in", ""),
            [(one.target, None if one.error else f"{one.ms} ms", one.error or "ok") for one in answers],
            right=("answered in",),
        )
    return 1 if any(one.error for one in answers) else 0


target.add_command(remove)


def _known(engine: Engine, name: str) -> None:
    if name not in (names := names_of(engine)):
        raise NotThere(f"no target {name!r}: there are {', '.join(names)}")


async def _listed(engine: Engine) -> list[Described]:
    return [described(engine, name) for name in names_of(engine)]


def _abilities(one: Described) -> tuple[Any, ...]:
    can = one.capabilities
    return (None,) * 4 if can is None else (can.bulk_max, can.unique_reference, can.reverse, can.totals)


def _document(found: Described, standing: Snapshot | None, answer: Answer) -> dict[str, Any]:
    return {
        "target": found.target,
        "kind": found.kind,
        "routes": found.routes,
        "setup": found.setup,
        "guard": standing,
        "ms": answer.ms,
        "capabilities": answer.capabilities,
        "holds": answer.holds,
        "error": answer.error,
    }


def _print_setup(found: Described) -> None:
    _line("kind", found.kind)
    _line("routed to it", ", ".join(found.routes) or "nothing")
    if found.setup is None:
        return
    for name, value in shown(found.setup).items():
        _line(name, ", ".join(value) if isinstance(value, list) else cell(value))
    for name, value in found.setup.limits.items():
        _line(f"limit {name}", f"{value:,g}")
    _line("set up", _by(found.setup.created_at, found.setup.created_by))
    if found.setup.changed_at != found.setup.created_at:
        _line("changed", _by(found.setup.changed_at, found.setup.changed_by))


def _by(at: datetime, who: str) -> str:
    return f"{cell(at)} by {who}"


def _line(label: str, value: str) -> None:
    say(f"  {label:<20}{value}")
