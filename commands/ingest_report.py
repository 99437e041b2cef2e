"""How an ingest shows itself: progress while it runs, then what came of it in count and in money."""

from pathlib import Path
from types import TracebackType
from typing import Any

from rich.progress import TaskID
from rich.text import Text

from commands.output import counted, money, print_table, progress, say
from ops.embedded import Ingested
from ops.ingest.run import Progress
from ops.ingest.sheet import Summary
from ops.outages import patience
from pipeline.states import DEAD, DISCARDED, DUPLICATE, PARKED, RECONCILED, STATES, SUBMITTED, SUPERSEDED
from store.record_states import Standings

#: Where nobody has anything left to do.
AT_REST = {RECONCILED, DUPLICATE, SUPERSEDED, DISCARDED}

WORDS = ("read", "accepted", "seen_before", "rejected")


class Bars:
    """Two progress bars on standard error: reading, then, where everything is embedded, bringing it to rest."""

    def __init__(self) -> None:
        self._bars = progress("rows")
        self._reading: TaskID | None = None
        self._settling: TaskID | None = None
        self._most = 0

    def __enter__(self) -> "Bars":
        self._bars.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._bars.stop()

    def read(self, state: Progress) -> None:
        """One more transaction has been committed."""
        if self._reading is None:
            self._reading = self._bars.add_task("reading", total=state.bytes_total, count=0, rate=0.0)
        self._bars.update(self._reading, completed=state.bytes_read, count=state.rows, rate=state.rows_per_second)

    def held(self, reason: str) -> None:
        """The broker takes no messages for this reason; or, without one, it does again."""
        if reason:
            self._bars.console.print(Text(f"RabbitMQ takes no messages: {reason}. Waiting until it does ...", "yellow"))
        else:
            self._bars.console.print(Text("RabbitMQ takes messages again."))

    def down(self, target: str, reason: str) -> None:
        """A target is called no more, for this reason; or, without one, it is up again."""
        self._bars.console.print(told_down(target, reason))

    def left(self, count: int) -> None:
        """So many records are still on their way."""
        if self._settling is None:
            self._settling = self._bars.add_task("posting", total=max(count, 1), count=0, rate=0.0)
        self._most = max(self._most, count)
        done = self._most - count
        elapsed = self._bars.tasks[self._settling].elapsed or 0.0
        rate = done / elapsed if elapsed else 0.0
        self._bars.update(self._settling, total=max(self._most, 1), completed=done, count=done, rate=rate)


def told_down(target: str, reason: str) -> Text:
    """That a target is down, for this reason; or, without one, that it is up again."""
    if not reason:
        return Text(f"{target} is up again.")
    most = f"{patience.total_seconds() / 60:g} minutes at most"
    return Text(f"{reason}. Waiting until {target} is up again, {most} ...", "yellow")


def print_waiting(waits_for: dict[str, str]) -> None:
    """What is left waits for these targets, and why."""
    for target, why in waits_for.items():
        say(f"What is left waits for {target} ({why}).", "yellow")
    if waits_for:
        say("It is kept, and goes on once that is mended: tieout run")


def document(done: Ingested) -> dict[str, Any]:
    """The summary as JSON; `at_rest` where everything is embedded."""
    counts: dict[str, int] = {}
    for one in done.at_rest:
        counts[one.state] = counts.get(one.state, 0) + one.count
    return {**done.summary.as_dict(), "at_rest": counts, "waits_for": done.waits_for}


def print_summary(summary: Summary, rejects: Path | None) -> None:
    """What was read, accepted, seen before and rejected; in count, and in money per currency."""
    sheet = summary.sheet
    verb = "Would be accepted" if summary.dry_run else "Accepted"
    rate = f", {sheet.rows / summary.seconds:,.0f} rows/s" if summary.seconds else ""
    say(f"{counted(sheet.rows, 'row')} in {summary.seconds:.1f} s{rate}; {sheet.filtered:,} left out by [where].")
    amounts = sheet.amounts
    print_table(
        ("", "records", *amounts),
        [
            (
                _label(word, summary.dry_run),
                getattr(sheet, word),
                *(money(per_word[word], currency) for currency, per_word in amounts.items()),
            )
            for word in WORDS
        ],
        right=("records", *amounts),
    )
    if sheet.read and not sheet.accepted and not sheet.rejected:
        say(f"{verb}: nothing new. All {sheet.seen_before:,} records were here already.")
    if sheet.rejected:
        where = f"in {rejects}" if rejects else "name a file with --rejects to see them all"
        say(f"{counted(sheet.rejected, 'row was', 'rows were')} refused: {where}.")
        print_table(
            ("row", "column", "why"), [(one.row, one.column, one.reason) for one in summary.refusals], right=("row",)
        )
    for error in summary.errors:
        say(error, "red")
    if summary.owed:
        say(f"{summary.owed:,} messages are still to be sent ({summary.owed_because}): by the clock, or tieout run.")


def print_at_rest(done: Ingested, *, embedded: bool) -> None:
    """What became of the accepted records, and the command that comes next."""
    if done.summary.dry_run:
        return
    if not embedded:
        say("The workers are at it: tieout status")
        return
    if not done.at_rest:
        return
    say()
    print_table(
        ("state", "records", "amount"),
        [(one.state.replace("_", " "), one.count, one.amount) for one in in_order(done.at_rest)],
        right=("records", "amount"),
    )
    states = {one.state for one in done.at_rest}
    if DEAD in states:
        say("Some need a person: tieout dead groups")
    if PARKED in states:
        say("Some wait for records that have not arrived; they go on by themselves: tieout status")
    print_waiting(done.waits_for)
    if SUBMITTED in states:
        say("Some are drafts that a person has to post there; tieout run looks whether that is done")
    if states <= AT_REST:
        say("Check that both sides agree: tieout balance")


def in_order(standings: list[Standings]) -> list[Standings]:
    """In the order of the balance sheet."""
    return sorted(standings, key=lambda one: (STATES.index(one.state), one.amount.currency))


def _label(word: str, dry_run: bool) -> str:
    return "would be accepted" if dry_run and word == "accepted" else word.replace("_", " ")
