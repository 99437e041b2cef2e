"""The command line: `python -m benchmarks`, or `make bench`, which brings the servers and libraries it needs."""

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
from rich.console import Console

from benchmarks.contenders import ENTRANTS
from benchmarks.plan import FULL, PARTS, QUICK
from benchmarks.plot import plot
from benchmarks.run import Run
from benchmarks.servers import Servers
from benchmarks.table import print_report

#: The width of the tables where there is no terminal.
COLUMNS = 120
RESULTS = Path(__file__).parent / "results"
HELP = f"""Measure our broker and pipeline beside other task queues: same five durable hops, same 600-byte message, same
servers, turn and turn about in one run; medians over the rounds.

Servers are those of TIEOUT_TEST_AMQP_URL and TIEOUT_TEST_DATABASE_URL; everything there goes by names of this run's
own and is removed in the end. The table goes to standard output, progress to standard error, latest.json and
latest.png to --out. docs/benchmarks.md says what each figure means and how each contender is set up, and why.

Exit status: 0 when everything was measured, 1 when a contender failed (the others are measured all the same).

\b
Contenders: {", ".join(ENTRANTS)}

\b
Examples:
  make bench                                     everything, about 20 minutes
  make bench ARGS=--quick                        everything, in a few minutes, for a first look
  python -m benchmarks --contenders broker,pika --parts throughput --rounds 5
"""


class _Names(click.ParamType[tuple[str, ...]]):
    """Some of these names, separated by commas."""

    def __init__(self, what: str, known: Sequence[str]) -> None:
        self.name, self._known = what, known

    def convert(self, value: object, param: click.Parameter | None, context: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(name.strip() for name in str(value).split(",") if name.strip())
        unknown = [name for name in names if name not in self._known]
        if unknown or not names:
            self.fail(f"{', '.join(unknown) or 'nothing'}: expected some of {', '.join(self._known)}", param, context)
        return names


@click.command(help=HELP, context_settings={"max_content_width": 110})
@click.option("--contenders", type=_Names("names", tuple(ENTRANTS)), help="Only these, separated by commas.")
@click.option("--parts", type=_Names("parts", PARTS), help=f"Only these parts of the run: {', '.join(PARTS)}.")
@click.option("--events", type=click.IntRange(min=1), help=f"Events per burst.  [default: {FULL.events}]")
@click.option("--rounds", type=click.IntRange(min=1), help=f"Turns per contender.  [default: {FULL.rounds}]")
@click.option("--quick", is_flag=True, help="Less of everything: a first look, no figures to quote.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON document instead of the table.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    help="Folder for latest.json and latest.png.  [default: benchmarks/results]",
)
def main(
    contenders: tuple[str, ...] | None,
    parts: tuple[str, ...] | None,
    events: int | None,
    rounds: int | None,
    quick: bool,
    as_json: bool,
    out: Path,
) -> None:
    plan = QUICK if quick else FULL
    asked = {"parts": parts, "events": events, "rounds": rounds}
    plan = msgspec.structs.replace(plan, **{name: value for name, value in asked.items() if value is not None})
    names = contenders or tuple(ENTRANTS)
    progress = Console(stderr=True)
    servers = Servers.at(
        os.environ.get("TIEOUT_TEST_AMQP_URL") or "amqp://guest:guest@127.0.0.1:5672/",
        os.environ.get("TIEOUT_TEST_DATABASE_URL") or "postgresql://127.0.0.1:5432/postgres",
    )
    # As Ctrl-C does: workers, queues and databases are taken down on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run = Run(names, servers, plan, lambda line: progress.print(line, highlight=False, markup=False))
    run.measure()
    report = run.report()
    out.mkdir(parents=True, exist_ok=True)
    (out / "latest.json").write_text(json.dumps(report, indent=2) + "\n")
    plot(report, out / "latest.png")
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        print_report(report, Console(width=None if sys.stdout.isatty() else COLUMNS))
    progress.print(f"{out / 'latest.json'} and latest.png written", highlight=False)
    sys.exit(1 if run.measured.failed else 0)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
