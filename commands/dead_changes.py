"""The verbs of `tieout dead` that change or carry away: requeue, edit, discard, export."""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from commands.dead_report import forecast_document, print_forecast, print_plan, worth_of
from commands.errors import DID_NOT_HOLD, HELD, Unusable
from commands.filters import filter_of, filter_options, require_a_choice
from commands.ingest_report import print_waiting, told_down
from commands.output import counted, err, interactive, json_option, print_json, remark, say
from commands.session import actor_option, current_settings, with_engine
from ops.bootstrap import Engine
from ops.corrections import correct
from ops.forecast import forecast
from ops.requeueing import requeue as send_back
from store.dead_letter_filter import DeadLetterFilter, Letter


@click.command()
@filter_options
@click.option("--all", "everything", is_flag=True, help="Every open dead letter.")
@click.option("-d", "--dry-run", is_flag=True, help="Say which would now pass, and which would fail with what.")
@click.option("-R", "--reason", help="Why, for the audit; asked for on a terminal.")
@click.option("-y", "--yes", is_flag=True, help="Do it without asking.")
@actor_option
@json_option
def requeue(
    as_json: bool, everything: bool, dry_run: bool, reason: str | None, yes: bool, actor: str, **chosen: Any
) -> int:
    """Send dead letters back to the stage where they failed, with who and why.

    Exit status 1 when one that --id names is not open; the others are sent back.

    \b
    Example:
      tieout dead requeue --code MAPPING_MISSING --dry-run
      tieout dead requeue --code MAPPING_MISSING --reason "account 6280 agreed"
    """
    require_a_choice(chosen, everything, "requeue")
    which = filter_of(chosen)
    if dry_run:
        forecasts = with_engine(lambda engine: forecast(engine, which))
        if as_json:
            print_json(forecast_document(forecasts))
        else:
            print_forecast(forecasts)
        return _left_alone(chosen, [one.letter_id for one in forecasts])
    reason = _reason(reason)
    ids = _confirmed("requeue", which, yes, as_json)
    status = _left_alone(chosen, ids)
    if not ids:
        _nothing(as_json, {"requeued": 0, "skipped": 0, "at_rest": {}, "waits_for": {}})
        return status
    done = with_engine(lambda engine: send_back(engine, ids, actor, reason, _told_down), work=True)
    if as_json:
        print_json(done)
        return status
    say(f"{done.requeued:,} requeued" + (f", {done.skipped:,} skipped: no longer open" if done.skipped else "") + ".")
    if done.at_rest:
        say("Now " + ", ".join(f"{count:,} {state}" for state, count in done.at_rest.items()) + ".")
        print_waiting(done.waits_for)
    elif not current_settings().embedded:
        say("The workers are at it: tieout status")
    return status


@click.command()
@click.argument("letter_id", metavar="ID")
@click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE", help="A field's new value; empty removes it.")
@click.option("-f", "--file", "body", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A JSON body.")
@click.option("-R", "--reason", help="Why, for the audit; asked for on a terminal.")
@actor_option
@json_option
def edit(
    letter_id: str, changes: tuple[str, ...], body: Path | None, reason: str | None, actor: str, as_json: bool
) -> None:
    """Correct a dead letter's record; the original is kept. Requeue it afterwards.

    \b
    Example:
      tieout dead edit 4fzrbq6tnhk2mq --set date=2026-03-01 --reason "period is closed, agreed with finance"
    """
    if bool(changes) == (body is not None):
        raise Unusable("tieout dead edit: give either --set FIELD=VALUE (repeatable) or --file BODY.json")
    reason = _reason(reason)
    content = body.read_bytes() if body else None
    corrected = with_engine(lambda engine: correct(engine, letter_id, _pairs(changes), content, actor, reason))
    if as_json:
        print_json({"id": letter_id, "body": corrected})
        return
    say(msgspec.json.format(bytes(corrected), indent=2).decode())
    say(f"Corrected; now: tieout dead requeue --id {letter_id}")


@click.command()
@filter_options
@click.option("--all", "everything", is_flag=True, help="Every open dead letter.")
@click.option("-R", "--reason", help="Why, for the audit; asked for on a terminal.")
@click.option("-y", "--yes", is_flag=True, help="Do it without asking.")
@actor_option
@json_option
def discard(as_json: bool, everything: bool, reason: str | None, yes: bool, actor: str, **chosen: Any) -> int:
    """Decide that dead letters end here: nothing of them will be posted.

    \b
    Example:
      tieout dead discard --code AMOUNT_NOT_POSITIVE --reason "nothing to post"
    """
    require_a_choice(chosen, everything, "discard")
    reason = _reason(reason)
    ids = _confirmed("discard", filter_of(chosen), yes, as_json)
    status = _left_alone(chosen, ids)
    if not ids:
        _nothing(as_json, {"discarded": 0, "skipped": 0})
        return status
    done = with_engine(lambda engine: engine.dead_letters.discard(ids, actor, reason))
    if as_json:
        print_json({"discarded": done.count, "skipped": done.skipped})
        return status
    why = "no longer open, or the target may hold them (requeue asks it)"
    say(f"{done.count:,} discarded" + (f", {done.skipped:,} skipped: {why}" if done.skipped else "") + ".")
    return status


@click.command()
@filter_options
@click.option(
    "--format",
    "kind",
    type=click.Choice(["jsonl", "csv"]),
    default="jsonl",
    show_default=True,
    help="One JSON object per line, or a table.",
)
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="A file instead of standard output.")
@click.option("-j", "--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")
def export(kind: str, out: Path | None, as_json: bool, **chosen: Any) -> None:
    """Write dead letters with their bodies, for a spreadsheet or another program.

    \b
    Example:
      tieout dead export --owner pmo --format csv --out pmo.csv
    """
    rows = with_engine(lambda engine: _exported(engine, filter_of(chosen)))
    if as_json and out is None:
        print_json(rows)
        return
    stream = out.open("w", encoding="utf-8", newline="") if out else sys.stdout
    try:
        if kind == "jsonl":
            stream.writelines(msgspec.json.encode(row).decode() + "\n" for row in rows)
        else:
            _write_csv(stream, rows)
    finally:
        if out:
            stream.close()
    if as_json:
        print_json({"file": str(out), "format": kind, "letters": len(rows)})
    else:
        remark(counted(len(rows), "dead letter") + (f" in {out}" if out else ""))


def _write_csv(stream: Any, rows: list[dict[str, Any]]) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*(name for name in Letter.__struct_fields__ if name != "amount"), "amount", "currency", "body"])
    for row in rows:
        plain = [row[name] for name in Letter.__struct_fields__ if name != "amount"]
        writer.writerow([*plain, row["amount"].amount, row["amount"].currency, _text(row["body"])])


def _text(body: Any) -> str:
    return "" if body is None else bytes(body).decode("utf-8", "replace") if not isinstance(body, str) else body


async def _exported(engine: Engine, which: DeadLetterFilter) -> list[dict[str, Any]]:
    return [
        {
            **msgspec.structs.asdict(detail.summary),
            "body": detail.decoded.body if detail.decoded else (detail.letter or b"").decode("utf-8", "replace"),
        }
        async for detail in engine.dead_letters.export(which)
    ]


def _reason(reason: str | None) -> str:
    """The reason given, or asked for.

    Raises:
      Unusable: nobody is there to be asked.
    """
    if reason and reason.strip():
        return reason.strip()
    if not interactive():
        raise Unusable("--reason is needed: who asks later will want to know why")
    return str(click.prompt("Reason", err=True)).strip()


def _confirmed(verb: str, which: DeadLetterFilter, yes: bool, as_json: bool) -> list[str]:
    """Show what is meant and ask; the ids, so that what is done is exactly what was shown.

    Raises:
      click.Abort: the answer was no.
    """
    letters = with_engine(lambda engine: engine.dead_letters.list(which))
    if letters and not yes and interactive():
        print_plan(verb, letters)
        click.confirm(f"{verb.capitalize()} {worth_of(letters)}?", abort=True, err=True)
    elif letters and not as_json:
        say(f"{verb.capitalize()}: {worth_of(letters)}.")
    return [letter.id for letter in letters]


def _told_down(target: str, reason: str) -> None:
    err().print(told_down(target, reason))


def _left_alone(chosen: dict[str, Any], ids: Sequence[str]) -> int:
    """Exit status 1, and a remark, where a letter that was named by its id is not open."""
    missing = [letter_id for letter_id in chosen["ids"] if letter_id not in set(ids)]
    for letter_id in missing:
        remark(f"tieout: {letter_id} is no open dead letter that matches: tieout dead show {letter_id}")
    return DID_NOT_HOLD if missing else HELD


def _nothing(as_json: bool, document: dict[str, Any]) -> None:
    if as_json:
        print_json(document)
    else:
        say("No open dead letter matches: nothing to do.")


def _pairs(changes: tuple[str, ...]) -> dict[str, str]:
    """Raises Unusable: a change is not written FIELD=VALUE."""
    pairs = {}
    for change in changes:
        field, equals, value = change.partition("=")
        if not equals or not field.strip():
            raise Unusable(f"--set {change}: expected FIELD=VALUE")
        pairs[field.strip()] = value
    return pairs
