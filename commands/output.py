"""What a command prints: tables for people, exactly one JSON document for programs, both on standard output.

Logs, progress and questions go to standard error. Colours are off when the stream is no terminal, or NO_COLOR is set.
"""

import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

import click
import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from contracts.money import NO_CURRENCY, Money

#: When nobody is watching a terminal, a row is one line: a log or a pipe must neither cut nor wrap.
PIPE_COLUMNS = 1000
#: Between two columns.
GAP = 2
#: Prose that would have to be narrower than this goes below its row.
PROSE_COLUMNS_MIN = 24
#: Ids, codes and amounts are shorter than this; a path or an address that is longer may be broken.
UNBROKEN_COLUMNS_MAX = 40


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
    below: Sequence[str | Sequence[str]] = (),
    columns_max: int | None = None,
) -> None:
    """Print a table; `right` names the columns with figures, `empty` is said when there are no rows.

    Only prose wraps. Where the terminal (or `columns_max`) is too narrow even so, the columns of `below` go to a line
    of their own under their row, one after the other (several at once where they belong together), until the rest
    fits: an id or an amount is never broken or cut.
    """
    lines = [[value if isinstance(value, Text) else Text(cell(value)) for value in row] for row in rows]
    if not lines:
        say(f"{title}: {empty}" if title else empty)
        return
    if title:
        say(title, "bold")
    sheet = Sheet(columns, lines, right)
    width = min(out().width, columns_max or PIPE_COLUMNS)
    aside: list[int] = []
    for names in below:
        if sheet.fits(width, aside):
            break
        aside += [list(columns).index(name) for name in ([names] if isinstance(names, str) else names)]
    if aside:
        _print_with_lines_below(sheet, sorted(aside), width)
    else:
        _print_grid(sheet, width)


class Sheet:
    """The cells of a table and how wide each column is by nature."""

    def __init__(self, columns: Sequence[str], rows: list[list[Text]], right: Sequence[str]) -> None:
        self.columns = list(columns)
        self.rows = rows
        self.justify: list[Literal["left", "right"]] = ["right" if name in right else "left" for name in columns]
        content = [[row[number] for row in rows] for number in range(len(columns))]
        self.widths = [
            max(cell_len(name), *(max((cell_len(line) for line in one.plain.split("\n")), default=0) for one in column))
            for name, column in zip(columns, content, strict=True)
        ]
        self.is_prose = [
            self.justify[number] == "left"
            and (self.widths[number] > UNBROKEN_COLUMNS_MAX or any(" " in one.plain for one in column))
            for number, column in enumerate(content)
        ]

    def fits(self, width: int, aside: Sequence[int] = ()) -> bool:
        """Whether the columns, but for those put aside, stand side by side with prose no narrower than is readable."""
        kept = [number for number in range(len(self.columns)) if number not in aside]
        needed = sum(
            min(self.widths[number], PROSE_COLUMNS_MIN) if self.is_prose[number] else self.widths[number]
            for number in kept
        )
        return needed + GAP * (len(kept) - 1) <= width


def _print_grid(sheet: Sheet, width: int) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, GAP, 0, 0))
    fits = sheet.fits(width)
    for name, justify, wide, prose in zip(sheet.columns, sheet.justify, sheet.widths, sheet.is_prose, strict=True):
        stays = fits and not prose
        table.add_column(name, justify=justify, overflow="fold", no_wrap=stays, min_width=wide if stays else None)
    for row in sheet.rows:
        table.add_row(*row)
    _print_trimmed(table, width)


def _print_with_lines_below(sheet: Sheet, aside: Sequence[int], width: int) -> None:
    """Every row as a table row, then what was put aside; that line is left to the terminal to wrap, so it can be
    copied."""
    kept = [number for number in range(len(sheet.columns)) if number not in aside]
    names = [Text(sheet.columns[number]) for number in range(len(sheet.columns))]
    for row, style in ((names, "bold"), *((row, "") for row in sheet.rows)):
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, GAP, 0, 0), style=style)
        for number in kept:
            wide = sheet.widths[number]
            table.add_column(justify=sheet.justify[number], overflow="fold", min_width=min(wide, width))
        table.add_row(*(row[number] for number in kept))
        _print_trimmed(table, width)
        rest = Text("  ").join(row[number] for number in aside if row[number].plain)
        if rest.plain:
            out().print(Text("    ") + rest, style=style, soft_wrap=True)


def _print_trimmed(table: Table, width: int) -> None:
    """Print without the blanks that fill up the last column: a line that is as long as the terminal would wrap."""
    console = out()
    if console.is_terminal:
        console.print(table, width=width)
        return
    with console.capture() as capture:
        console.print(table, width=width)
    click.echo("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()), nl=False)


def say(line: str = "", style: str | None = None, *, columns_max: int | None = None) -> None:
    """Print one line on standard output, taken literally; it wraps between words only where `columns_max` is given."""
    console = out()
    if columns_max is None or len(line) <= columns_max:
        console.print(Text(line, style=style or ""), soft_wrap=True)
    else:
        wrapped = textwrap.fill(line, min(columns_max, console.width), subsequent_indent="  ", break_on_hyphens=False)
        console.print(Text(wrapped, style=style or ""), soft_wrap=True)


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


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """`1 row`, `3,153 rows`."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def age(since: datetime | None, now: datetime | None = None) -> str:
    """How long ago, in the largest unit that says it: `40 s`, `12 min`, `5 h`, `3 d`."""
    if since is None:
        return ""
    return duration((now or datetime.now(UTC)) - since)


def duration(length: timedelta) -> str:
    """A length of time in the largest unit that says it."""
    seconds = int(length.total_seconds())
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
