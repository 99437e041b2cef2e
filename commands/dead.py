"""`tieout dead`: what needs a person, why, what it is worth, and what to do about it."""

from collections.abc import Iterator, Sequence
from typing import Any

import click
import msgspec

from commands.app import TidyGroup
from commands.dead_changes import discard, edit, export, requeue
from commands.filters import STATUSES, filter_of, filter_options
from commands.output import age, json_option, money, print_json, print_table, say
from commands.session import with_engine
from ops.causes import Cause
from ops.causes import causes as find_causes
from pipeline.codes import CATALOGUE
from store.dead_letter_filter import Letter
from store.dead_letters import LetterDetail


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

    What is worth most comes first. A cause can be pasted after --cause of every verb of `tieout dead`.

    \b
    Example:
      tieout dead groups --owner finance
    """
    found = with_engine(lambda engine: find_causes(engine, filter_of(chosen)))
    if as_json:
        print_json(cause_documents(found))
        return
    print_causes(found)


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
                _key(letter),
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
        below=("what happened", "type", "stage", "status", "owner"),
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
        below=("what to do",),
    )


for command in (requeue, edit, discard, export):
    dead.add_command(command)


def print_causes(causes: Sequence[Cause], title: str | None = None, *, columns_max: int | None = None) -> None:
    """Causes with their count, worth and age, each with an example where it needs one; the guidance of each code once,
    below."""
    print_table(
        ("count", "amount", "owner", "stage", "type", "oldest", "cause"),
        [
            (
                cause.count,
                "\n".join(money(group.amount.amount, group.amount.currency) for group in cause.groups),
                cause.first.owner,
                cause.first.stage,
                cause.first.document_type,
                age(min(group.oldest for group in cause.groups)),
                _what_happened(cause),
            )
            for cause in causes
        ],
        title=title,
        right=("count", "amount", "oldest"),
        below=("cause",),
        columns_max=columns_max,
        empty="no dead letters: nothing needs a person",
    )
    examples = [(cause, cause.example) for cause in causes if cause.example is not None]
    if examples:
        say()
        say("For example:")
    for cause, letter in examples:
        story = letter.message if cause.count > 1 else letter.code
        say(f"{letter.id} {_key(letter)}: {story}", columns_max=columns_max)
    if causes:
        say()
    for name in dict.fromkeys(cause.first.code for cause in causes):
        say(f"{name}: {CATALOGUE[name].guidance}" if name in CATALOGUE else name, columns_max=columns_max)


def cause_documents(causes: Sequence[Cause]) -> list[dict[str, Any]]:
    """Causes as JSON, one object per cause and currency, with the guidance and the example."""
    return [
        {
            **msgspec.structs.asdict(group),
            "guidance": CATALOGUE[group.code].guidance if group.code in CATALOGUE else None,
            "example": _example(cause.example),
        }
        for cause in causes
        for group in cause.groups
    ]


def _what_happened(cause: Cause) -> str:
    """The cause, or of a single letter what really happened to it."""
    if cause.count == 1 and cause.example is not None:
        return f"{cause.first.code}: {cause.example.message}"
    return cause.first.cause


def _example(letter: Letter | None) -> dict[str, Any] | None:
    return None if letter is None else {"id": letter.id, "subject": letter.subject, "message": letter.message}


def _key(letter: Letter) -> str:
    return f"{letter.source}/{letter.subject}/{letter.revision}"


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
    changes = _edits(detail)
    for number, entry in enumerate(detail.history):
        say(f"{entry.at:%Y-%m-%d %H:%M:%S} {entry.action} by {entry.actor}: {entry.reason or ''}")
        for change in changes.get(number, ()):
            say(f"  {change}")


def _edits(detail: LetterDetail) -> dict[int, list[str]]:
    """What each edit of this letter changed, by its place in the history; nothing where retention took the original."""
    if detail.decoded is None:
        return {}
    after = msgspec.json.decode(detail.decoded.body)
    changes = {}
    for number, entry in reversed(list(enumerate(detail.history))):
        original = (entry.detail or {}).get("original")
        if entry.action != "edit" or entry.dead_letter_id != detail.summary.id or original is None:
            continue
        before = msgspec.json.decode(original)
        changes[number] = list(_differences(before, after))
        after = before
    return changes


def _differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """`document.hours: "9.5" is now "0.5"`; a field that is not there is as good as an empty one."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys((*before, *after)):
            yield from _differences(before.get(name), after.get(name), f"{path}.{name}" if path else name)
    elif before != after:
        yield f"{path}: {msgspec.json.encode(before).decode()} is now {msgspec.json.encode(after).decode()}"
