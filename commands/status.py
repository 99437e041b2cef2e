"""`tieout status`: what is moving, what is stuck, and what that is worth."""

from collections.abc import Sequence

import click

from commands.dead import cause_documents, print_causes
from commands.ingest_report import in_order
from commands.output import age, counted, json_option, print_json, print_table, say
from commands.session import with_engine
from ops.status import Status, TargetStatus, throughput_s
from ops.status import status as look
from ops.targets import unopened_remedy

groups_shown_max = 10


@click.command()
@json_option
def status(as_json: bool) -> int:
    """Show queues, throughput, what waits for what, and what needs a person; exit status 1 when something is stuck.

    Stuck is what will not go on by itself: an alarm of the broker (memory, disk), stranded records, a queue that
    nobody takes from, or deliveries to a target that can't be opened.

    \b
    Example:
      tieout status
    """
    found = with_engine(look)
    if as_json:
        print_json(
            {
                "stuck": found.stuck,
                "alarm": found.alarm or None,
                "queues": found.queues,
                "throughput": found.rates,
                "unsettled": found.unsettled,
                "waiting": found.waiting,
                "flagged": found.flagged,
                "dead": cause_documents(found.dead),
                "targets": found.targets,
                "owed": found.owed,
                "stranded": found.stranded,
            }
        )
    else:
        _print(found)
    return 1 if found.stuck else 0


def _print(found: Status) -> None:
    busy = [one for one in found.queues if one.ready or one.consumers]
    print_table(
        ("queue", "ready", "consumers"),
        [(one.queue, one.ready, one.consumers) for one in busy],
        title="Queues",
        right=("ready", "consumers"),
        empty=f"{len(found.queues)} queues, all empty, nobody listening",
    )
    say()
    print_table(
        ("stage", "outcome", "records", "per second"),
        [(one.stage, one.outcome, one.count, f"{one.per_second:,.1f}") for one in found.rates],
        title=f"Last {throughput_s} s",
        right=("records", "per second"),
        empty="nothing happened",
    )
    say()
    print_table(
        ("state", "records", "amount"),
        [(one.state.replace("_", " "), one.count, one.amount) for one in in_order(found.unsettled)],
        title="Not settled",
        right=("records", "amount"),
        empty="everything is at rest",
    )
    if found.waiting:
        say()
        print_table(
            ("waits for", "type", "records", "amount", "oldest"),
            [(one.key, one.document_type, one.count, one.amount, age(one.oldest)) for one in found.waiting],
            title="Parked: goes on by itself when what it waits for arrives",
            right=("records", "amount", "oldest"),
        )
    if found.flagged:
        say()
        print_table(
            ("remark", "type", "records", "amount"),
            [(one.flags, one.document_type, one.count, one.amount) for one in found.flagged],
            title="Flagged: posted all the same",
            right=("records", "amount"),
        )
    if found.targets:
        say()
        _print_targets(found.targets)
    say()
    print_causes(found.dead[:groups_shown_max], title="Needs a person")
    if len(found.dead) > groups_shown_max:
        say(f"... and {len(found.dead) - groups_shown_max} more causes: tieout dead groups")
    for line in _remarks(found):
        say(line, "yellow")


def _print_targets(targets: Sequence[TargetStatus]) -> None:
    print_table(
        ("target", "workers", "since", "until", "calls", "deliveries waiting", "because"),
        [
            (
                one.target,
                _standing(one),
                one.guard and one.guard.since,
                one.guard and (one.guard.open_until or one.guard.throttled_until),
                one.guard and f"{one.guard.slots_in_use} of {one.guard.slots_max}",
                one.waiting,
                _because(one),
            )
            for one in targets
        ],
        title="Targets",
        right=("calls", "deliveries waiting"),
        below=("because",),
    )
    if any(one.guard is not None and not one.guard.shared for one in targets):
        say("Without Redis every process knows a target by its own calls only, and this one has made none: REDIS_URL.")


def _standing(one: TargetStatus) -> str:
    """What the workers do about a target, in a few words."""
    if one.guard is None:
        return "can't open it"
    if not one.guard.shared:
        return "not known here"
    if one.guard.state == "closed":
        return "hold back" if one.guard.throttled_until else "call it"
    return "leave it alone" if one.guard.state == "open" else "probe it"


def _because(one: TargetStatus) -> str | None:
    if one.guard is None:
        return one.unopened
    if one.guard.failures:
        return f"{counted(one.guard.failures, 'failure')} in a row: {one.guard.last_error}"
    return "it asked for a pause" if one.guard.throttled_until else None


def _remarks(found: Status) -> list[str]:
    remarks = []
    if found.alarm:
        remarks.append(
            f"RabbitMQ takes no messages: {found.alarm}. Everything goes on by itself once its node has room again "
            "(rabbitmq-diagnostics alarms)."
        )
    if found.owed:
        remarks.append(f"{found.owed:,} messages are owed to the broker: the clock publishes them (tieout clock).")
    if found.stranded:
        remarks.append(f"{found.stranded:,} records are stranded: tieout recover")
    for one in found.shut_out:
        remarks.append(f"{counted(one.waiting, 'delivery', 'deliveries')} can't go on: {unopened_remedy(one.target)}.")
    if found.unattended:
        remarks.append("Messages are ready and nobody takes them: start tieout worker.")
    return remarks
