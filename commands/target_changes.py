"""The verbs of `tieout target` that change: add and remove; and what can be said to add, in kinds."""

from collections.abc import Sequence
from typing import Any

import click

from commands.errors import NotThere, Unusable
from commands.output import cell, counted, json_option, print_json, print_table, say
from commands.session import actor_option, with_engine
from connectors.catalogue import KINDS, kind_of
from connectors.kinds import Option, options_of
from ops.target_setup import Added, add_target, specified, take_away


@click.command()
@click.argument("name", metavar="[KIND]", required=False)
@json_option
def kinds(name: str | None, as_json: bool) -> None:
    """List the kinds of systems that targets can be set up of, and every option of each.

    \b
    Example:
      tieout target kinds tryton
    """
    if name is not None and name not in KINDS:
        raise NotThere(f"no kind of target {name!r}: there are {', '.join(KINDS)}")
    found = {kind: kind_of(kind) for kind in ([name] if name else KINDS)}
    if as_json:
        print_json([{"kind": kind, "summary": one.summary, "options": options_of(one)} for kind, one in found.items()])
        return
    for kind, one in found.items():
        print_table(
            ("option", "type", "default", "meaning"),
            [(option.name, option.type, _default(option), option.about) for option in options_of(one)],
            title=f"{kind}: {one.summary}",
            below=("meaning",),
        )
        say()
    say("Set one up: tieout target add NAME --kind KIND --set OPTION=VALUE --secret OPTION=VARIABLE")


@click.command()
@click.argument("name")
@click.option("--kind", required=True, help="The kind of system: see tieout target kinds.")
@click.option(
    "--set", "options", multiple=True, metavar="OPTION=VALUE", help="An option; see tieout target kinds KIND."
)
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="OPTION=VARIABLE",
    help="The environment variable that holds a secret option. Its value is never stored.",
)
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Calls per second, of all workers together.")
@click.option("--burst", type=click.IntRange(1), help="So many at once after a quiet while.")
@click.option("--concurrency", type=click.IntRange(1), help="Calls under way, of all workers together.")
@click.option(
    "--replace", is_flag=True, help="Replace the target of that name, whole: what is not said has its default."
)
@click.option("--test/--no-test", default=True, help="Ask it something harmless before it is stored (the default).")
@actor_option
@json_option
def add(
    name: str,
    kind: str,
    options: tuple[str, ...],
    secrets: tuple[str, ...],
    rate: float | None,
    burst: int | None,
    concurrency: int | None,
    replace: bool,
    test: bool,
    actor: str,
    as_json: bool,
) -> None:
    """Set up a target; it is asked something harmless first, and stored when it answers.

    Processes that run take it up by themselves; those that lack the variable of a secret are started again with it.
    Exit status 1 when it does not answer, 2 when what is said is not enough.

    \b
    Example:
      tieout target add erp --kind tryton --set url=https://erp.example.com --set database=erp \\
        --set user=connector --secret password=ERP_PASSWORD --rate 50 --concurrency 4
    """
    limits = {"rate_per_s": rate, "burst": burst, "concurrency": concurrency}
    said = {limit: value for limit, value in limits.items() if value is not None}
    spec = specified(name, kind, _pairs("--set", options), _pairs("--secret", secrets), said)
    added = with_engine(lambda engine: add_target(engine, spec, actor, replace=replace, test=test))
    if as_json:
        print_json(_document(added))
    else:
        _print(added)


@click.command()
@click.argument("name")
@click.option("--force", is_flag=True, help="Even while the rules name it, or deliveries are not through with it.")
@click.option("-R", "--reason", help="Why, for the audit.")
@actor_option
@json_option
def remove(name: str, force: bool, reason: str | None, actor: str, as_json: bool) -> None:
    """Remove a target; what it holds stays there, and is no longer compared by tieout balance.

    \b
    Example:
      tieout target remove erp --reason "moved to the new one, ticket 4711"
    """
    if not with_engine(lambda engine: take_away(engine, name, actor, reason, force=force)):
        raise NotThere(f"no target {name!r} has been set up; tieout target list shows those there are")
    if as_json:
        print_json({"target": name, "removed": True})
        return
    say(f"{name} is removed; processes that run let go of it by themselves.")


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for one in given:
        name, separator, value = one.partition("=")
        if not separator or not name:
            # Not quoted: what stands there may be a password.
            raise Unusable(f"{option} takes NAME=VALUE")
        if name in pairs:
            raise Unusable(f"{option} {name} is given twice")
        pairs[name] = value
    return pairs


def _default(option: Option) -> str:
    if option.required:
        return "must be given"
    return ", ".join(map(str, option.default)) if isinstance(option.default, list | tuple) else cell(option.default)


def _document(added: Added) -> dict[str, Any]:
    return {
        "target": added.target,
        "kind": added.kind,
        "replaced": added.replaced,
        "tested": added.answer is not None,
        "ms": added.answer.ms if added.answer else None,
        "routes": added.routes,
        "dead_letters": added.waited,
        "unset": added.unset,
    }


def _print(added: Added) -> None:
    answered = f"it answered in {added.answer.ms} ms" if added.answer else "it has not been asked"
    say(f"{added.target} ({added.kind}) is {'replaced' if added.replaced else 'set up'}: {answered}.")
    if added.unset:
        missing = ", ".join(added.unset)
        say(f"{missing} is not set here: set it for every process, and start those again that run without.", "yellow")
    if added.routes:
        say(f"Routed to it: {', '.join(added.routes)}. Processes that run take it up by themselves.")
    else:
        say(f'Nothing goes there yet: name "{added.target}" in [[routing]] of the rules (docs/rules.md).')
    if added.waited:
        say(f"{counted(added.waited, 'dead letter')} waited for it: tieout dead requeue --code NO_ROUTE")
