"""What a command prints: tables for people, exactly one JSON document for programs, both on standard output.

Logs, progress and questions go to standard error. Colours are off when the stream is no terminal, or NO_COLOR is set.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from contracts.money import NO_CURRENCY, Money

#: Wide enough for every table when nobody is watching a terminal: a log or a pipe must not cut columns.
PIPE_COLUMNS = 200


def json_option(function: Any) -> Any:
    """Add `--json` to a command, as the argument `as_json`."""
    return click.option("-j", "--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")(
        function
    )


def out() -> Console:
    """The console on standard output, made anew so that it follows a redirected stream."""
    return _console(sys.stdout)


def err() -> Console:
    """The console on standard error: progress, questions, remarks."""
    return _console(sys.stderr)


def _console(stream: Any) -> Console:
    console = Console(file=stream, highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(file=stream, highlight=False, width=PIPE_COLUMNS)


def print_json(document: Any) -> None:
    """Print one JSON document: Structs by field name, amounts as strings, moments in ISO 8601."""
    click.echo(msgspec.json.format(msgspec.json.encode(document, enc_hook=_encode), indent=2).decode())


def _encode(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    title: str | None = None,
    empty: str = "Nothing.",
    right: Sequence[str] = (),
    total: Sequence[Any] | None = None,
) -> None:
    """Print a table; `right` names the columns with figures, `empty` is said when there are no rows."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="bold", pad_edge=False)
    table.show_footer = total is not None
    for number, column in enumerate(columns):
        table.add_column(
            column,
            justify="right" if column in right else "left",
            overflow="fold",
            footer=cell(total[number]) if total is not None else "",
            footer_style="bold",
        )
    count = 0
    for row in rows:
        table.add_row(*(value if isinstance(value, Text) else Text(cell(value)) for value in row))
        count += 1
    if not count:
        say(f"{title}: {empty}" if title else empty)
        return
    out().print(table)


def say(line: str = "", style: str | None = None) -> None:
    """Print one line on standard output, taken literally."""
    out().print(Text(line, style=style or ""), soft_wrap=True)


def remark(line: str, style: str | None = None) -> None:
    """Print one line on standard error, taken literally."""
    err().print(Text(line, style=style or ""), soft_wrap=True)


def cell(value: Any) -> str:
    """A value as a table shows it: nothing for None, thousands apart, moments to the second in UTC."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Decimal):
        return f"{value:,}"
    if isinstance(value, Money):
        return money(value.amount, value.currency)
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, date):
        return value.isoformat()
    return str(value)


def money(amount: Decimal | str | int | None, currency: str) -> str:
    """`1,234.50 EUR`; nothing where no currency is involved."""
    if amount is None or currency == NO_CURRENCY:
        return ""
    return f"{Decimal(amount):,} {currency}"


def counted(count: int, noun: str) -> str:
    """`1 row`, `3,153 rows`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def age(since: datetime | None, now: datetime | None = None) -> str:
    """How long ago, in the largest unit that says it: `40 s`, `12 min`, `5 h`, `3 d`."""
    if since is None:
        return ""
    seconds = int(((now or datetime.now(UTC)) - since).total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{max(seconds, 0)} s"


def progress(unit: str) -> Progress:
    """A progress bar with rate and ETA on standard error; silent when that is no terminal."""
    console = err()
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn(f"{{task.fields[count]:,}} {unit}"),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def interactive() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()
