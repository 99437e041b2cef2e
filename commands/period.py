"""`tieout period`: accounting periods, closed and opened on both sides."""

from datetime import datetime

import click

from commands.app import TidyGroup
from commands.output import counted, json_option, print_json, print_table, say
from commands.session import actor_option, with_engine
from ops.bootstrap import Engine
from ops.periods import set_period, waiting_for_period
from store.reference import PeriodRow


@click.group(cls=TidyGroup)
def period() -> None:
    """Accounting periods: what is dated in a closed one waits for finance.

    \b
    Example:
      tieout period close DE01 2026-03
    """


@period.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the periods that somebody has closed or opened again; every other month is open.

    \b
    Example:
      tieout period list
    """
    periods = with_engine(lambda engine: engine.reference.list_periods())
    if as_json:
        print_json(periods)
        return
    print_table(
        ("legal entity", "period", "state", "by", "at (UTC)"),
        [
            ("all" if one.legal_entity == "*" else one.legal_entity, one.name, _state(one.closed), *_change(one))
            for one in periods
        ],
        empty="every period is open",
    )


@period.command("close")
@click.argument("legal_entity")
@click.argument("name", metavar="PERIOD")
@click.option("-R", "--reason", help="Why, for the audit.")
@actor_option
@json_option
def close(legal_entity: str, name: str, reason: str | None, actor: str, as_json: bool) -> None:
    """Close a month for a legal entity, or for all of them (*).

    \b
    Example:
      tieout period close DE01 2026-03 --reason "month-end"
    """
    _set(legal_entity, name, True, actor, reason, as_json)


@period.command("open")
@click.argument("legal_entity")
@click.argument("name", metavar="PERIOD")
@click.option("-R", "--reason", help="Why, for the audit.")
@actor_option
@json_option
def open_(legal_entity: str, name: str, reason: str | None, actor: str, as_json: bool) -> None:
    """Open a closed month again, for a legal entity or for all of them (*); then requeue what waits for it.

    \b
    Example:
      tieout period open DE01 2026-03 --reason "late timesheets, agreed with finance"
      tieout dead requeue --code PERIOD_CLOSED --dry-run
    """
    _set(legal_entity, name, False, actor, reason, as_json)


def _set(legal_entity: str, name: str, closed: bool, actor: str, reason: str | None, as_json: bool) -> None:
    async def decide(engine: Engine) -> dict[str, int]:
        await set_period(engine, legal_entity, name, closed=closed, actor=actor, reason=reason)
        return {} if closed else await waiting_for_period(engine, legal_entity, name)

    waiting = with_engine(decide)
    if as_json:
        document = {"legal_entity": legal_entity, "period": name, "closed": closed}
        print_json(document if closed else document | {"dead_letters": sum(waiting.values())})
        return
    say(f"{name} is {_state(closed)} for {'all legal entities' if legal_entity == '*' else legal_entity}.")
    for cause, count in waiting.items():
        say(f'{counted(count, "dead letter")} waited for it: tieout dead requeue --cause "{cause}"')


def _change(one: PeriodRow) -> tuple[str, datetime]:
    return one.changed_by, one.changed_at


def _state(closed: bool) -> str:
    return "closed" if closed else "open"
