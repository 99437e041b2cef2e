"""Time entries into Tryton: by file, broker and worker, beside plain loops that post the same records by themselves.

    python -m benchmarks.into_erp --records 2000 --rounds 3        (make bench-erp)

The loops are what a script without guarantees does: one create after the other, alone or by fifties, over one HTTP
connection, with nothing remembered. Ours has the whole pipeline in front, intent and answer of each call in the
ledger, and reads every line back. A rate is that of the lines coming to stand in Tryton, by the moments at which Tryton
says that it created them, without the first tenth: what a worker loads when it starts is no cost of a line. Each
contender and round has a server of its own; turn and turn about. The result is printed, and written as JSON to --out.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

#: Where the servers are started from, as in pyproject.toml's `pythonpath`.
sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from benchmarks.servers import own_name
from tests.acceptance.conftest import remove
from tests.acceptance.product import Product, wait_until
from tests.acceptance.test_targets import addition
from tests.conftest import new_postgres_database
from tests.erp.calls import Caller, a_date, hours
from tests.erp.trial import Row, held, rows_of, write_files
from tryton import Tryton, tryton

BATCH = 50
#: A loop of single creates is measured over so many: it is the slow one, and steady.
SINGLES_MAX = 300
#: At least so many times as fast as single creates, and at most so much slower than batches of fifty.
SINGLES_RATIO_AT_LEAST, BATCHES_RATIO_AT_LEAST = 8.0, 0.8

Contender = Callable[[Tryton, Sequence[Row]], float]


def singles(server: Tryton, rows: Sequence[Row]) -> float:
    return _loop(server, rows[:SINGLES_MAX], 1)


def batches(server: Tryton, rows: Sequence[Row]) -> float:
    return _loop(server, rows, BATCH)


def tieout(server: Tryton, rows: Sequence[Row]) -> float:
    """Everything is accepted and queued before the worker starts; the clock runs beside it."""
    call, prefix = Caller(server), own_name()
    amqp_url = os.environ.get("TIEOUT_TEST_AMQP_URL") or "amqp://guest:guest@127.0.0.1:5672/"
    postgres = os.environ.get("TIEOUT_TEST_DATABASE_URL") or "postgresql://127.0.0.1:5432/postgres"
    redis_url = os.environ.get("TIEOUT_TEST_REDIS_URL") or "redis://127.0.0.1:6379/0"
    with tempfile.TemporaryDirectory(prefix="tieout-bench-") as name, new_postgres_database(postgres) as url:
        folder = Path(name)
        write_files(folder, rows)
        product = Product(
            folder,
            DATABASE_URL=url.replace("+psycopg", ""),
            AMQP_URL=amqp_url,
            REDIS_URL=redis_url,
            TIEOUT_PREFIX=prefix,
            TIEOUT_RULES=str(folder / "rules.toml"),
            ERP_PASSWORD=server.password,
        )
        try:
            product.run("migrate")
            product.run(*addition(server))
            product.run("ingest", "entries.csv", "--map", "map.toml", "--lane", "bulk")
            with product.running("worker", "--lane", "bulk"), product.running("clock"):
                # Seldom: whoever asks takes of the processors that are measured.
                wait_until(lambda: held(call) == len(rows), "everything stands there", within_s=600, every_s=1)
                wait_until(lambda: product.unfinished() == 0, "everything has been read back", within_s=600)
            product.run("balance")
        finally:
            remove(amqp_url, prefix)
    return _rate(call, len(rows))


CONTENDERS: dict[str, Contender] = {"single creates": singles, f"batches of {BATCH}": batches, "tieout": tieout}


def _loop(server: Tryton, rows: Sequence[Row], batch: int) -> float:
    call = Caller(server)
    values = [_values(server, row) for row in rows]
    for start in range(0, len(values), batch):
        call("timesheet.line.create", values[start : start + batch])
    return _rate(call, len(rows))


def _values(server: Tryton, row: Row) -> dict[str, Any]:
    works = {one["number"]: one["timesheet_work"] for one in server.seed["projects"].values()}
    return {
        "employee": server.seed["employees"][row.worker],
        "work": works[row.project],
        "date": a_date(row.date.isoformat()),
        "duration": hours(float(row.hours)),
        "description": row.id,
    }


def _rate(call: Caller, count: int) -> float:
    """Lines a second, from the first tenth on; closes the caller."""
    moments = sorted(
        _moment(line["create_date"]) for line in call("timesheet.line.search_read", [], 0, None, None, ["create_date"])
    )
    call.close()
    assert len(moments) == count
    # Whole transactions: those of the first moment came to stand after it, and those of the last one too.
    first, last = moments[count // 10], moments[-1]
    return sum(first <= moment < last for moment in moments) / (last - first)


def _moment(value: dict[str, Any]) -> float:
    """A moment as Tryton tells it."""
    parts = ("year", "month", "day", "hour", "minute", "second", "microsecond")
    return datetime(*(value[part] for part in parts), tzinfo=UTC).timestamp()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.into_erp", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--records", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "into_erp.json")
    options = parser.parse_args()
    if options.records < 8 * BATCH:
        parser.error(f"--records: at least {8 * BATCH}, for there to be something to measure")
    rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for number in range(options.rounds):
        for name, contender in CONTENDERS.items():
            with tryton() as server:
                rows = rows_of(options.records, [one["number"] for one in server.seed["projects"].values()])
                rates[name].append(contender(server, rows))
            print(f"round {number + 1}: {name} {rates[name][-1]:,.0f}/s", file=sys.stderr, flush=True)
    medians = {name: statistics.median(of) for name, of in rates.items()}
    to_reach = {"single creates": SINGLES_RATIO_AT_LEAST, f"batches of {BATCH}": BATCHES_RATIO_AT_LEAST}
    ratios = {name: medians["tieout"] / medians[name] for name in to_reach}
    table = Table("contender", "lines/s", "tieout is so many times as fast", "to reach")
    for name, rate in medians.items():
        ratio = f"{ratios[name]:.2f}" if name in ratios else ""
        table.add_row(name, f"{rate:,.0f}", ratio, f"{to_reach[name]:g}" if name in to_reach else "")
    Console().print(table)
    result = {"records": options.records, "rounds": options.rounds, "lines_per_s": rates, "medians": medians}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result | {"ratios": ratios, "to_reach": to_reach}, indent=1) + "\n")
    return 0 if all(ratios[name] >= at_least for name, at_least in to_reach.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
