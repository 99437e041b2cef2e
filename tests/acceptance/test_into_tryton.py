"""Time entries into a real ERP, over a network that loses answers, while its server and our workers end and begin.
again.

ERP_TRIAL_RECORDS says how many (`make trial` takes 5,000), ERP_TRIAL_SEED how they are disturbed,
ERP_TRIAL_DOWN_S for how long the ERP is away in the second test. With `-s` the tables are shown.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.product import Product, wait_until
from tests.acceptance.test_targets import addition
from tests.erp.calls import Caller
from tests.erp.faults import before_tryton
from tests.erp.trial import held, judged, print_report, rows_of, write_files
from tests.faults.plan import FaultPlan
from tryton import Tryton

RECORDS = int(os.environ.get("ERP_TRIAL_RECORDS", "100"))
SEED = int(os.environ.get("ERP_TRIAL_SEED", "2026"))
DOWN_S = float(os.environ.get("ERP_TRIAL_DOWN_S", "3"))

pytestmark = pytest.mark.timeout(1_800)

#: A tenth of all calls; of three in a hundred the answer is lost after Tryton has done its work.
DISTURBED = FaultPlan(share=0.10, lost_after_commit=0.03)
#: So few a call that there are calls to disturb, and time-outs that a hanging call does not eat up the test with.
HASTE = {"bulk_max": "20", "find_max": "20", "timeouts.read_ms": "3000", "timeouts.total_ms": "6000"}

#: When the worker is killed, and when the server is restarted: shares of the entries that Tryton holds by then.
KILLS, RESTARTS = ((0.1, 0.25, 0.4, 0.55, 0.7), (0.3, 0.6)) if RECORDS >= 1_000 else ((0.2, 0.6), (0.4,))


class Worker:
    """A worker with a clock, killed and started again."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self.start()

    def start(self) -> None:
        self._processes = [self._product.start("worker", "--processes", "2"), self._product.start("clock")]

    def kill(self) -> None:
        """All of it, at once; it must have been running."""
        assert all(process.poll() is None for process in self._processes)
        self.end()

    def end(self) -> None:
        """Kill what still runs."""
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def stop(self) -> None:
        """It has to leave by itself."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            assert process.wait(timeout=30) == 0


@pytest.fixture
def call(fresh_erp: Tryton) -> Iterator[Caller]:
    """Past the proxy. Every test begins with no timesheet lines."""
    caller = Caller(fresh_erp)
    if lines := caller("timesheet.line.search", []):
        caller("timesheet.line.delete", lines)
    yield caller
    caller.close()


@contextmanager
def operating(folder: Path, environment: dict[str, str], server: Tryton) -> Iterator[tuple[Product, list[Any]]]:
    """A deployment that is migrated, with the entries' files in its folder."""
    rows = rows_of(RECORDS, [one["number"] for one in server.seed["projects"].values()])
    write_files(folder, rows)
    rules = str(folder / "rules.toml")
    product = Product(folder, **environment, TIEOUT_RULES=rules, ERP_PASSWORD=server.password)
    product.run("migrate")
    yield product, rows


def test_each_entry_is_there_once_whatever_happens_on_the_way(
    tmp_path: Path, servers: dict[str, str], redis_url: str, fresh_erp: Tryton, call: Caller
) -> None:
    began = time.monotonic()
    with (
        before_tryton(fresh_erp, DISTURBED, SEED) as proxy,
        operating(tmp_path, servers | {"REDIS_URL": redis_url}, fresh_erp) as (product, rows),
    ):
        proxy.on = False
        product.run(*addition(fresh_erp, url=proxy.url, **HASTE))
        product.run("ingest", "entries.csv", "--map", "map.toml", "--lane", "bulk")
        proxy.on = True
        worker = Worker(product)
        try:
            for share in sorted((*KILLS, *RESTARTS)):
                wait_until(lambda share=share: held(call) >= share * RECORDS, f"{share:.0%} are there", within_s=600)
                if share in KILLS:
                    worker.kill()
                    worker.start()
                else:
                    fresh_erp.restart()
            wait_until(lambda: product.unfinished() == 0, "everything is at rest", within_s=900)
            worker.stop()
        finally:
            worker.end()
        proxy.on = False
        balance = product.run("balance", expect=None)
        verdict = judged(call, rows)
        told = {
            "worker killed": str(len(KILLS)),
            "server restarted": str(len(RESTARTS)),
            "calls disturbed": f"{proxy.disturbed:,} of {sum(proxy.counts.values()):,}",
            "tieout balance": "holds" if balance.returncode == 0 else "does not hold",
            "seconds": f"{time.monotonic() - began:,.0f}",
        }
        print_report(verdict, proxy.table(), told)
        assert verdict.holds, verdict
        assert balance.returncode == 0, balance.stdout
        assert product.sheets()["time_entry.v1", "EUR"]["reconciled"] == RECORDS
        assert proxy.counts["lost_after_commit"] > 0


def test_while_the_erp_is_down_its_breaker_opens_and_nobody_s_attempts_are_burnt(
    tmp_path: Path, servers: dict[str, str], redis_url: str, fresh_erp: Tryton, call: Caller
) -> None:
    with operating(tmp_path, servers | {"REDIS_URL": redis_url}, fresh_erp) as (product, rows):
        product.run(*addition(fresh_erp, bulk_max="20", find_max="20"))
        product.run("ingest", "entries.csv", "--map", "map.toml", "--lane", "bulk")
        seen: list[str] = []

        def breaker() -> str:
            (one,) = product.json("status", expect=None)["targets"]
            seen.append(one["guard"]["state"])
            return seen[-1]

        worker = Worker(product)
        try:
            wait_until(lambda: held(call) >= 0.2 * RECORDS, "some are there", within_s=300)
            call.close()
            fresh_erp.end()
            down_since = time.monotonic()
            wait_until(lambda: breaker() != "closed", "the breaker opens")
            wait_until(lambda: time.monotonic() - down_since >= DOWN_S, "it has been down for long enough")
            assert breaker() != "closed"
            waiting = product.unfinished()
            fresh_erp.start()
            wait_until(lambda: breaker() == "closed", "the breaker closes", within_s=300)
            wait_until(lambda: product.unfinished() == 0, "everything is at rest", within_s=600)
            worker.stop()
        finally:
            worker.end()
        product.run("balance")
        attempts = attempts_of(product)
        told = {
            "ERP down, seconds": f"{DOWN_S:g}",
            "entries that waited": f"{waiting:,}",
            "breaker": " -> ".join(state for state, before in zip(seen, ["", *seen], strict=False) if state != before),
            "highest attempt": str(max(attempts)),
        }
        verdict = judged(again := Caller(fresh_erp), rows)
        again.close()
        print_report(verdict, [], told)
        assert waiting > 0
        assert verdict.holds, verdict
        assert attempts == {1}


def attempts_of(product: Product) -> set[int]:
    """The attempts of every step there was."""
    statement = "SELECT DISTINCT attempt FROM steps"
    done = subprocess.run(
        ["psql", "--tuples-only", "--no-align", "--command", statement, product.environment["DATABASE_URL"]],
        capture_output=True,
        text=True,
        check=True,
    )
    return {int(line) for line in done.stdout.split()}
