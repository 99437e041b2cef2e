"""A real ERP is set up as a target from the command line, tried out and posted to; what goes wrong is told apart."""

from pathlib import Path

import pytest

from tests.acceptance.product import Product, wait_until
from tests.erp.calls import Caller
from tests.erp.trial import MAPPING
from tryton import Tryton

RULES = '[[routing]]\ndocument_type = "time_entry"\ntargets = ["ledger", "erp"]\n'


@pytest.fixture
def operator(tmp_path: Path, fresh_erp: Tryton) -> Product:
    """Embedded, and lets Tryton know who it is."""
    return Product(tmp_path, ERP_PASSWORD=fresh_erp.password)


def addition(server: Tryton, **changes: str) -> list[str]:
    said = {"url": server.url, "database": server.database, "user": server.user} | changes
    options = [part for name, value in said.items() for part in ("--set", f"{name}={value}")]
    return ["target", "add", "erp", "--kind", "tryton", *options, "--secret", "password=ERP_PASSWORD"]


def test_an_erp_that_answers_is_set_up_tested_and_shown(operator: Product, fresh_erp: Tryton):
    added = operator.json(*addition(fresh_erp), "--rate", "50", "--concurrency", "4")
    assert (added["tested"], added["unset"]) == (True, [])
    assert [one["error"] for one in operator.json("target", "test", "erp")] == [None]
    shown = operator.json("target", "show", "erp")
    assert (shown["kind"], shown["error"], shown["guard"]["slots_max"]) == ("tryton", None, 4)
    assert shown["setup"]["secrets"] == {"password": "ERP_PASSWORD"}
    assert (shown["capabilities"]["reverse"], shown["capabilities"]["totals"]) == (True, True)
    assert fresh_erp.password not in operator.run("target", "show", "erp").stdout


def test_a_wrong_password_an_unknown_database_and_an_erp_that_is_down_are_told_apart(
    operator: Product, fresh_erp: Tryton
):
    operator.environment["ERP_PASSWORD"] = "hunter2"
    wrong = operator.run(*addition(fresh_erp), expect=1)
    assert "check the target's address and credentials" in wrong.stderr
    assert "hunter2" not in wrong.stdout + wrong.stderr
    operator.environment["ERP_PASSWORD"] = fresh_erp.password
    assert "404" in operator.run(*addition(fresh_erp, database="nosuch"), expect=1).stderr
    operator.run(*addition(fresh_erp))
    fresh_erp.end()
    try:
        assert "ConnectError" in operator.run(*addition(fresh_erp), "--replace", expect=1).stderr
        (sick,) = operator.json("target", "test", "erp", expect=1)
        assert "ConnectError" in sick["error"]
        problems = {one["subject"] for one in operator.json("doctor", expect=1)["problems"]}
        assert problems == {"target erp"}
    finally:
        fresh_erp.start()
    assert operator.json("target", "test", "erp")[0]["error"] is None


@pytest.mark.timeout(300)
def test_workers_take_it_up_and_what_they_lack_the_password_for_waits_until_they_have_it(
    tmp_path: Path, servers: dict[str, str], redis_url: str, fresh_erp: Tryton
):
    project = fresh_erp.seed["projects"]["Project 1"]["number"]
    rows = [f"T-{number},HR-000{number},{project},2026-10-0{number},7.5,150" for number in (1, 2, 3)]
    for name, text in (
        ("rules.toml", RULES),
        ("map.toml", MAPPING),
        ("entries.csv", "\n".join(["id,worker,project,date,hours,rate", *rows]) + "\n"),
    ):
        (tmp_path / name).write_text(text)
    said = servers | {"REDIS_URL": redis_url, "TIEOUT_RULES": str(tmp_path / "rules.toml")}
    without, operator = Product(tmp_path, **said), Product(tmp_path, **said, ERP_PASSWORD=fresh_erp.password)
    operator.run("migrate")
    call = Caller(fresh_erp)
    held = call("timesheet.line.search_count", [])
    with without.running("run"):
        assert operator.json(*addition(fresh_erp))["routes"] == ["time_entry"]
        operator.run("ingest", "entries.csv", "--map", "map.toml")

        def waits() -> bool:
            steps = operator.json("trace", "T-1")["steps"]
            return any("ERP_PASSWORD is not set" in (step["detail"] or "") for step in steps)

        wait_until(waits, "T-1 waits for the ERP")
        (one,) = without.json("status", expect=1)["targets"]
        assert one["unfinished"] == {"in_flight": 3}
    assert call("timesheet.line.search_count", []) == held
    with operator.running("run"):
        wait_until(lambda: operator.unfinished() == 0, "everything is at rest")
    assert operator.sheets()["time_entry.v1", "EUR"]["reconciled"] == 3
    assert call("timesheet.line.search_count", []) == held + 3
    call.close()
    (total,) = operator.json("target", "show", "erp")["holds"]
    assert (total["count"], total["amount"]) == (3, {"amount": "3375.00", "currency": "EUR"})
    # Nobody's attempt: a call that could not be made is no failure of the document.
    attempts = {step["attempt"] for step in operator.json("trace", "T-1")["steps"]}
    assert attempts == {1}
