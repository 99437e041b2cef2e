"""`tieout demo`: the main job on a believable month, start to finish, embedded."""

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import click

from commands.balance import print_balance, sheets_document
from commands.dead import print_causes
from commands.dead_report import in_words
from commands.ingest_report import Bars, in_order
from commands.output import counted, json_option, print_json, print_table, say
from commands.session import current_settings
from contracts.money import NO_CURRENCY
from ops.causes import Cause
from ops.demo.erp import PASSWORD, Erp, ProjectHours
from ops.demo.exports import Export
from ops.demo.story import Bars as AnyBars
from ops.demo.story import demo_settings, tell
from ops.embedded import Ingested
from ops.forecast import ASKS_TARGET, WOULD_PASS, Forecast
from ops.ingest.run import Progress
from ops.reconciliation import TieOut
from ops.requeueing import RequeueResult
from ops.target_setup import InvalidTarget, NoAnswer
from pipeline.settings import Settings
from store.record_states import Flagged
from store.waiting import Waiting

LOOK_AROUND = (
    ("tieout status", "what is moving, what is stuck"),
    ("tieout balance", "the balance above"),
    ("tieout dead groups", "what needs a person, by cause"),
    ("tieout dead list --owner pmo", "one line per dead letter"),
    ("tieout trace T-00042", "the life of one time entry"),
    ("tieout target show ledger", "what the target holds"),
)
#: The story is read beside the code, or in the log of a build.
COLUMNS_MAX = 120


@click.command()
@click.option(
    "--erp",
    metavar="ADDRESS",
    help=f"A Tryton to post to as well, http://HOST:PORT/DATABASE; its password is read from {PASSWORD}.",
)
@click.option("--erp-user", default="connector", show_default=True, help="Who we are in it.")
@json_option
def demo(erp: str | None, erp_user: str, as_json: bool) -> int:
    """Run one month of a believable firm through the pipeline, with the faults planted that a month-end has.

    Embedded, in a database of its own below ./var/demo, made anew at each start. With --json, only the closing balance.

    \b
    Example:
      tieout demo --erp http://127.0.0.1:8070/erp
    """
    began = time.monotonic()
    settings = demo_settings(current_settings())
    where = Erp(address=erp, user=erp_user) if erp else None
    try:
        closing = asyncio.run(tell(settings, _Silence() if as_json else _Voice(), where))
    except (InvalidTarget, NoAnswer) as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        print_json(sheets_document(closing))
    else:
        _say_where_to_look(settings, time.monotonic() - began)
    return 0 if closing.holds else 1


class _Voice:
    """Tells the story on standard output; progress bars, on a terminal, on standard error."""

    def chapter(self, title: str, *lines: str) -> None:
        say()
        say(title, "bold underline")
        for line in lines:
            say(_from_here(line))

    def command(self, line: str) -> None:
        shown = f"$ {_from_here(line)}"
        if len(shown) > COLUMNS_MAX:
            shown = shown.replace(" --", " \\\n    --")
        say(shown, "cyan")

    def bars(self) -> AbstractContextManager[AnyBars]:
        return Bars()

    def ingested(self, export: Export, done: Ingested) -> None:
        sheet = done.summary.sheet
        parts = {
            "left out": sheet.filtered,
            "seen before": sheet.seen_before,
            "rejected": sheet.rejected,
        }
        others = "".join(f", {count:,} {words}" for words, count in parts.items() if count)
        say(f"  {counted(sheet.rows, 'row')}: {sheet.accepted:,} accepted{others}")
        for state in dict.fromkeys(one.state for one in in_order(done.at_rest)):
            members = [one for one in done.at_rest if one.state == state]
            worth = in_words(one.amount for one in members)
            count = sum(one.count for one in members)
            say(f"  {count:>6,} {state.replace('_', ' ')}" + (f", {worth}" if worth else ""))

    def waiting(self, waiting: list[Waiting]) -> None:
        for key in dict.fromkeys(one.key for one in waiting):
            count = sum(one.count for one in waiting if one.key == key)
            say(f"{counted(count, 'record')} wait for {key}, and go on by themselves when it comes.")
        if not waiting:
            say("  nothing waits any more")

    def flagged(self, flagged: list[Flagged]) -> None:
        for one in flagged:
            worth = f", worth {one.amount}" if one.amount.currency != NO_CURRENCY else ""
            say(f"Posted but flagged {one.flags}: {one.count:,} {one.document_type}{worth}.")

    def balance(self, found: TieOut, *, closing: bool) -> None:
        print_balance(found, with_targets=closing)

    def hours(self, hours: list[ProjectHours]) -> None:
        rows = [(one.project, f"{one.theirs:,}", f"{one.ours:,}", f"{one.equal} of {one.days}") for one in hours]
        headings = ("project", "hours in the ERP", "hours posted", "days on which they agree")
        print_table(headings, rows, right=headings[1:])

    def causes(self, causes: Sequence[Cause]) -> None:
        print_causes(causes, columns_max=COLUMNS_MAX)

    def foreseen(self, forecasts: list[Forecast]) -> None:
        passing = sum(one.verdict in (WOULD_PASS, ASKS_TARGET) for one in forecasts)
        worth = in_words(one.amount for one in forecasts)
        say(f"  {passing:,} of {len(forecasts):,} would pass, worth {worth}")

    def requeued(self, result: RequeueResult) -> None:
        states = ", ".join(f"{count:,} {state}" for state, count in result.at_rest.items())
        say(f"  {result.requeued:,} requeued: {states}")


class _NoBars:
    def read(self, state: Progress) -> None:
        """Nobody watches."""

    def left(self, count: int) -> None:
        """Nobody watches."""

    def down(self, target: str, reason: str) -> None:
        """Nobody watches."""


class _Silence(_Voice):
    """Tells nothing: `--json` wants the closing balance alone."""

    def chapter(self, title: str, *lines: str) -> None: ...
    def command(self, line: str) -> None: ...
    def bars(self) -> AbstractContextManager[AnyBars]:
        return nullcontext(_NoBars())

    def ingested(self, export: Export, done: Ingested) -> None: ...
    def waiting(self, waiting: list[Waiting]) -> None: ...
    def flagged(self, flagged: list[Flagged]) -> None: ...
    def balance(self, found: TieOut, *, closing: bool) -> None: ...
    def hours(self, hours: list[ProjectHours]) -> None: ...
    def causes(self, causes: Sequence[Cause]) -> None: ...
    def foreseen(self, forecasts: list[Forecast]) -> None: ...
    def requeued(self, result: RequeueResult) -> None: ...


def _say_where_to_look(settings: Settings, seconds: float) -> None:
    folder = settings.data_dir
    say()
    say(f"That took {seconds:.0f} s. Everything is still there: look around with", "bold")
    unset = [name for name in ("AMQP_URL", "CLOUDAMQP_URL") if os.environ.get(name)]
    if unset:
        say(f"  unset {' '.join(unset)}")
    say(f"  export DATABASE_URL=sqlite:///{folder / 'tieout.db'}")
    say(f"  export TIEOUT_RULES={settings.rules_file}")
    for command, what in LOOK_AROUND:
        say(f"  {command:<32}# {what}")


def _from_here(text: str) -> str:
    """Paths below the working directory as they are typed there."""
    return text.replace(f"{Path.cwd()}{os.sep}", "")
