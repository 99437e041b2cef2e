"""`tieout status`: what is moving, what is stuck, and what that is worth."""

import click

from commands.dead import cause_documents, print_causes
from commands.ingest_report import in_order
from commands.output import age, json_option, print_json, print_table, say
from commands.session import with_engine
from ops.status import Status, throughput_s
from ops.status import status as look

groups_shown_max = 10


@click.command()
@json_option
def status(as_json: bool) -> int:
    """Show queues, throughput, what waits for what, and what needs a person; exit status 1 when something is stuck.

    Stuck is what will not go on by itself: an alarm of the broker (memory, disk), stranded records, or a queue that
    nobody takes from.

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
    say()
    print_causes(found.dead[:groups_shown_max], title="Needs a person")
    if len(found.dead) > groups_shown_max:
        say(f"... and {len(found.dead) - groups_shown_max} more causes: tieout dead groups")
    for line in _remarks(found):
        say(line, "yellow")


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
    if found.unattended:
        remarks.append("Messages are ready and nobody takes them: start tieout worker.")
    return remarks
