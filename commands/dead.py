"""`tieout dead`: what needs a person, why, what it is worth, and what to do about it."""

from collections.abc import Sequence
from typing import Any

import click
import msgspec

from commands.app import TidyGroup
from commands.dead_changes import discard, edit, export, requeue
from commands.filters import STATUSES, filter_of, filter_options
from commands.output import age, json_option, money, print_json, print_table, say
from commands.session import with_engine
from pipeline.codes import CATALOGUE
from store.dead_letter_filter import Letter
from store.dead_letters import Group, LetterDetail


@click.group(cls=TidyGroup)
def dead() -> None:
    """Records that need a person: why, whose, what they are worth, and what to do.

    \b
    Example:
      tieout dead groups
      tieout dead requeue --code MAPPING_MISSING --reason "account 6280 agreed"
    """


@dead.command()
@filter_options
@json_option
def groups(as_json: bool, **chosen: Any) -> None:
    """Group the open dead letters by cause: how many, what they are worth, since when, whose.

    \b
    Example:
      tieout dead groups --owner finance
    """
    found = with_engine(lambda engine: engine.dead_letters.groups(filter_of(chosen)))
    if as_json:
        print_json([group_document(group) for group in found])
        return
    print_groups(found)


@dead.command("list")
@filter_options
@click.option("--status", type=click.Choice([*STATUSES, "any"]), default="open", show_default=True, help="Its status.")
@json_option
def list_(as_json: bool, status: str, **chosen: Any) -> None:
    """List dead letters, the longest dead first.

    \b
    Example:
      tieout dead list --type expense --older-than 2h
    """
    which = filter_of(chosen, status=None if status == "any" else status)
    letters = with_engine(lambda engine: engine.dead_letters.list(which))
    if as_json:
        print_json(letters)
        return
    print_table(
        ("id", "status", "type", "subject", "stage", "code", "owner", "amount", "age", "what happened"),
        [
            (
                letter.id,
                letter.status,
                letter.document_type,
                f"{letter.source}/{letter.subject}/{letter.revision}",
                letter.stage,
                letter.code,
                letter.owner,
                letter.amount,
                age(letter.first_at),
                letter.message,
            )
            for letter in letters
        ],
        right=("amount", "age"),
        empty="no dead letters of this kind",
    )


@dead.command()
@click.argument("letter_id", metavar="ID")
@json_option
def show(letter_id: str, as_json: bool) -> None:
    """Show one dead letter: what happened, what to do, its body, and what people did with it.

    \b
    Example:
      tieout dead show 4fzrbq6tnhk2mq
    """
    detail = with_engine(lambda engine: engine.dead_letters.show(letter_id))
    if as_json:
        print_json(_detail_document(detail))
        return
    _print_detail(detail)


@dead.command()
@json_option
def codes(as_json: bool) -> None:
    """List every failure code: what it means, who owns it, what to do about it.

    \b
    Example:
      tieout dead codes
    """
    if as_json:
        print_json(list(CATALOGUE.values()))
        return
    print_table(
        ("code", "category", "owner", "what it means", "what to do"),
        [(code.name, code.category, code.owner, code.summary, code.guidance) for code in CATALOGUE.values()],
    )


for command in (requeue, edit, discard, export):
    dead.add_command(command)


def print_groups(groups: Sequence[Group], title: str | None = None) -> None:
    """Causes with their count, worth and age; the guidance of each code once, below."""
    print_table(
        ("count", "amount", "code", "owner", "stage", "type", "oldest", "cause"),
        [
            (
                group.count,
                money(group.amount.amount, group.amount.currency),
                group.code,
                group.owner,
                group.stage,
                group.document_type,
                age(group.oldest),
                group.cause.removeprefix(f"{group.code}: "),
            )
            for group in groups
        ],
        title=title,
        right=("count", "amount", "oldest"),
        empty="no dead letters: nothing needs a person",
    )
    if groups:
        say()
    for name in dict.fromkeys(group.code for group in groups):
        say(f"{name}: {CATALOGUE[name].guidance}" if name in CATALOGUE else name)


def group_document(group: Group) -> dict[str, Any]:
    """A group as JSON, with its guidance."""
    guidance = CATALOGUE[group.code].guidance if group.code in CATALOGUE else None
    return {**msgspec.structs.asdict(group), "guidance": guidance}


def _detail_document(detail: LetterDetail) -> dict[str, Any]:
    return {
        **msgspec.structs.asdict(detail.summary),
        "guidance": _guidance(detail.summary),
        "body": detail.decoded.body if detail.decoded else None,
        "raw": None if detail.decoded or detail.letter is None else detail.letter.decode("utf-8", "replace"),
        "headers": detail.headers,
        "history": detail.history,
    }


def _guidance(letter: Letter) -> str | None:
    return CATALOGUE[letter.code].guidance if letter.code in CATALOGUE else None


def _print_detail(detail: LetterDetail) -> None:
    letter = detail.summary
    facts = {
        "dead letter": f"{letter.id} ({letter.status})",
        "record": f"{letter.record_id}: {letter.document_type} {letter.source}/{letter.subject} rev {letter.revision}",
        "target": letter.target,
        "failed at": f"{letter.stage}, {letter.attempts} attempt(s), requeued {letter.requeues} time(s)",
        "first, last": f"{letter.first_at:%Y-%m-%d %H:%M:%S}, {letter.last_at:%Y-%m-%d %H:%M:%S} UTC",
        "code": f"{letter.code} ({letter.category}, for {letter.owner})",
        "amount": str(letter.amount),
        "what happened": letter.message,
        "what to do": _guidance(letter),
    }
    for name, value in facts.items():
        if value:
            say(f"{name + ':':<15}{value}")
    say()
    if detail.decoded is not None:
        say(msgspec.json.format(bytes(detail.decoded.body), indent=2).decode())
    elif detail.letter is not None:
        say(detail.letter[:4000].decode("utf-8", "replace"))
    for entry in detail.history:
        say(f"{entry.at:%Y-%m-%d %H:%M:%S} {entry.action} by {entry.actor}: {entry.reason or ''}")
