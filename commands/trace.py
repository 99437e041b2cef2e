"""`tieout trace`: the life of one record, told as a timeline."""

from typing import Any

import click
import msgspec

from commands.errors import NotThere
from commands.output import json_option, print_json, print_table, say
from commands.session import with_engine
from contracts.money import NO_CURRENCY
from store.audit import AuditEntry
from store.trace import Candidate, Trace
from store.trace import trace as find_trace

#: What a person does to a dead letter: its name in the audit, and the outcome of the step that goes with it.
DEEDS = {"edit": "edited", "requeue": "requeued", "discard": "discarded"}


@click.command()
@click.argument("wanted", metavar="ID")
@click.option("-p", "--payload", is_flag=True, help="Show the record's payload as it was accepted.")
@json_option
def trace(wanted: str, payload: bool, as_json: bool) -> int:
    """Tell the life of one record, step by step.

    ID is a record's id (or how it begins), the source's own id, a posting key, a correlation id or a dead letter's id.

    \b
    Example:
      tieout trace T-00042
    """
    found = with_engine(lambda engine: find_trace(engine.db, wanted))
    if found is None:
        raise NotThere(f"no record, posting or dead letter {wanted!r}")
    if isinstance(found, list):
        return _several(wanted, found, as_json)
    if as_json:
        print_json(_document(found))
        return 0
    _tell(found, payload)
    return 0


def _several(wanted: str, candidates: list[Candidate], as_json: bool) -> int:
    if as_json:
        print_json({"candidates": candidates})
        return 1
    print_table(
        ("id", "type", "subject", "revision", "state", "amount"),
        [(one.id, one.document_type, _key(one), one.revision, one.state, one.amount) for one in candidates],
        title=f"{wanted!r} may be any of these; trace one by its id",
        right=("amount",),
        below=("type", "revision"),
    )
    return 1


def _document(found: Trace) -> dict[str, Any]:
    document = msgspec.structs.asdict(found)
    payload = found.record.payload
    document["record"] = {**msgspec.structs.asdict(found.record), "payload": msgspec.Raw(payload) if payload else None}
    return document


def _tell(found: Trace, with_payload: bool) -> None:
    record = found.record
    say(f"{record.document_type} {_key(record)} revision {record.revision}: {record.state}", "bold")
    worth = f", worth {record.amount}" if record.amount.currency != NO_CURRENCY else ""
    say(f"record {record.id}, lane {record.lane}, accepted {record.accepted_at:%Y-%m-%d %H:%M:%S} UTC{worth}")
    if record.flags:
        say(f"remarks: {record.flags}")
    say()
    print_table(("when (UTC)", "stage", "what", "target", "detail"), _timeline(found), below=("detail",))
    for delivery in found.deliveries:
        say()
        say(f"{delivery.target}: {delivery.state}, {delivery.amount}, as {delivery.target_id or 'nothing yet'}")
        say(f"  reference {delivery.posting_key}")
        if delivery.replaces:
            say(f"  corrects {delivery.replaces}")
    for parking in found.parked:
        say()
        say(f"waits at {parking.stage} for {parking.key} since {parking.parked_at:%Y-%m-%d %H:%M:%S} UTC")
    for letter in found.dead_letters:
        if letter.status == "open":
            say()
            say(f"needs {letter.owner}: {letter.message}")
            say(f"  tieout dead show {letter.id}")
    for revision in found.revisions:
        say()
        say(f"also revision {revision.revision}: {revision.state}, {revision.amount} (tieout trace {revision.id})")
    if with_payload:
        say()
        say(_payload(record.payload))


def _timeline(found: Trace) -> list[tuple[Any, ...]]:
    """Steps and what people did, in one order of time; what is both a step and in the audit is told once."""
    deeds = _deeds(found)
    lines: list[tuple[Any, ...]] = []
    for step in found.steps:
        deed = deeds.get(id(step))
        attempt = f" (attempt {step.attempt})" if step.attempt > 1 else ""
        what = f"{step.outcome} by {deed.actor}" if deed else step.outcome + attempt
        detail = " ".join(part for part in (step.code and f"{step.code}:", step.detail) if part)
        when = f"{step.at:%Y-%m-%d %H:%M:%S.%f}"[:-3]
        lines.append((step.at, when, step.stage, what, step.target, deed.reason if deed else detail))
    told = {id(deed) for deed in deeds.values()}
    lines += [
        (
            entry.at,
            f"{entry.at:%Y-%m-%d %H:%M:%S.%f}"[:-3],
            "",
            f"{entry.action} by {entry.actor}",
            None,
            entry.reason,
        )
        for entry in found.audit
        if id(entry) not in told
    ]
    return [line[1:] for line in sorted(lines, key=lambda line: line[0])]


def _deeds(found: Trace) -> dict[int, AuditEntry]:
    """The line of the audit that each step of a person's goes with, by the identity of the step: both are in order."""
    pairs: dict[int, AuditEntry] = {}
    for action, outcome in DEEDS.items():
        done = [entry for entry in found.audit if entry.action == action]
        steps = [step for step in found.steps if step.outcome == outcome]
        if len(done) == len(steps):
            pairs |= {id(step): entry for step, entry in zip(steps, done, strict=True)}
    return pairs


def _key(record: Any) -> str:
    return f"{record.source}/{record.subject}"


def _payload(payload: bytes | None) -> str:
    if payload is None:
        return "payload removed by retention"
    return msgspec.json.format(payload, indent=2).decode()
