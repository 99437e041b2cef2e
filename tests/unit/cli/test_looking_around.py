"""The commands that only look: status, balance, trace, stages, targets, mappings, periods, mapping check."""

from decimal import Decimal
from itertools import pairwise


def test_an_ingest_says_what_came_of_it_in_count_and_in_money(ingested):
    again = ingested.json("ingest", ingested.folder / "export.csv", "--map", ingested.folder / "map.toml")
    assert (again["read"], again["accepted"], again["seen_before"], again["rejected"]) == (3, 0, 2, 1)
    assert Decimal(again["amounts"]["EUR"]["seen_before"]) == Decimal("111.50")
    assert again["errors"] == []


def test_a_dry_run_accepts_nothing(ingested):
    (ingested.folder / "new.csv").write_text("id,date,amount,kind\nX-9,2025-03-05,1.00,Travel\n")
    rehearsed = ingested.json("ingest", ingested.folder / "new.csv", "-m", ingested.folder / "map.toml", "--dry-run")
    assert (rehearsed["accepted"], rehearsed["dry_run"]) == (1, True)
    assert ingested("trace", "X-9", expect=1).stdout == ""


def test_refused_rows_are_written_with_column_and_reason(ingested):
    rejects = ingested.folder / "rejects.csv"
    ingested("ingest", ingested.folder / "export.csv", "-m", ingested.folder / "map.toml", "--rejects", rejects)
    assert "amount" in rejects.read_text()
    assert "n/a" in rejects.read_text()


def test_the_balance_is_held_against_the_target(ingested):
    (sheet,) = [sheet for sheet in ingested.json("balance", "--type", "expense") if sheet["currency"] == "EUR"]
    (ledger,) = sheet["targets"]
    assert (ledger["target"], ledger["count"], ledger["target_count"], ledger["equal"]) == ("ledger", 1, 1, True)
    assert "It ties out" in ingested("balance").stdout


def test_a_life_is_told_in_order(ingested):
    found = ingested.json("trace", "X-1")
    stages = [step["stage"] for step in found["steps"]]
    assert stages == ["ingest", "validate", "enrich", "transform", "post", "reconcile"]
    assert found["record"]["payload"]["category"] == "Travel"
    told = ingested("trace", "X-1").stdout
    assert told.index("validate") < told.index("reconciled  ledger")
    assert "JE-" in told


def test_the_status_shows_what_needs_a_person(ingested):
    found = ingested.json("status")
    assert (found["stuck"], found["owed"], found["stranded"]) == (False, 0, 0)
    assert [group["code"] for group in found["dead"]] == ["MAPPING_MISSING"]
    assert "MAPPING_MISSING" in ingested("status").stdout


def test_the_stages_are_listed_in_order_with_their_channels(tieout):
    stages = tieout.json("stages")
    assert [stage["stage"] for stage in stages] == ["validate", "enrich", "transform", "post", "reconcile"]
    for before, after in pairwise(stages):
        assert before["emits"] == after["consumes"]
    assert stages[0]["queues"] == ["tieout.validate.live", "tieout.validate.bulk"]


def test_a_target_tells_what_it_holds(ingested):
    assert [one["target"] for one in ingested.json("target", "list")] == ["ledger", "masterdata"]
    assert ingested.json("target", "show", "ledger")["holds"] == [
        {"document_type": "expense.v1", "amount": {"amount": "12.50", "currency": "EUR"}, "count": 1}
    ]
    assert [one["error"] for one in ingested.json("target", "test")] == [None, None]


def test_a_mapping_is_set_listed_and_unset(ingested):
    ingested("map", "set", "exchange_rate", "CHF/EUR", "1.05", "--from", "2025-01-01", "--actor", "anna")
    (row,) = ingested.json("map", "list", "exchange_rate")
    assert (row["value"], row["valid_from"], row["by"]) == ("1.05", "2025-01-01", "anna")
    assert ingested.json("map", "unset", "exchange_rate", "CHF/EUR")["removed"] == 1
    assert ingested.json("map", "list", "exchange_rate") == []
    assert ingested.json("map", "list", "expense_account")[0]["by"] == "rules file"


def test_many_mappings_come_from_a_file_or_none_does(tieout):
    accounts = tieout.folder / "accounts.csv"
    accounts.write_text("kind,key,value,valid_from\nexpense_account,Taxi,6240,\nexpense_account,Rail,6210,2025-13-01\n")
    assert "line 3" in tieout("map", "import", accounts, expect=2).stderr
    assert all(row["by"] == "rules file" for row in tieout.json("map", "list"))
    accounts.write_text("kind,key,value\nexpense_account,Taxi,6240\nexpense_account,Rail,6210\n")
    assert tieout.json("map", "import", accounts)["set"] == 2


def test_a_closed_period_holds_records_back_until_it_is_opened(ingested):
    ingested("period", "close", "*", "2025-04")
    (ingested.folder / "april.csv").write_text("id,date,amount,kind\nX-4,2025-04-01,5.00,Travel\n")
    taken = ingested.json("ingest", ingested.folder / "april.csv", "-m", ingested.folder / "map.toml")
    assert taken["at_rest"] == {"dead": 1}
    (period,) = ingested.json("period", "list")
    assert (period["legal_entity"], period["name"], period["closed"]) == ("*", "2025-04", True)
    ingested("period", "open", "*", "2025-04")
    done = ingested.json("dead", "requeue", "--code", "PERIOD_CLOSED", "--reason", "opened")
    assert done["at_rest"] == {"reconciled": 1}


def test_a_mapping_file_is_checked_against_the_first_rows(ingested):
    (checked,) = ingested.json("map", "check", ingested.folder / "map.toml", ingested.folder / "export.csv", expect=1)
    assert (checked["mapped"], checked["rejected"], checked["good"]) == (2, 1, False)
    assert checked["problems"][0]["column"] == "amount"


def test_recovery_of_nothing_and_retention_of_nothing(ingested):
    assert ingested.json("recover")["stranded"] == 0
    assert ingested.json("retention", "--older-than", "400d", "--dry-run")["payloads"] == 0


def test_a_month_opened_for_all_is_open_for_everyone(ingested):
    ingested("period", "close", "MAIN", "2025-04")
    (ingested.folder / "april.csv").write_text("id,date,amount,kind\nX-4,2025-04-01,5.00,Travel\n")
    ingested("ingest", ingested.folder / "april.csv", "-m", ingested.folder / "map.toml")
    opened = ingested("period", "open", "*", "2025-04").stdout
    assert {period["closed"] for period in ingested.json("period", "list")} == {False}
    assert "1 dead letter waited for it" in opened
    (group,) = ingested.json("dead", "groups", "--code", "PERIOD_CLOSED")
    assert f'--cause "{group["cause"]}"' in opened
    done = ingested.json("dead", "requeue", "--cause", group["cause"], "--reason", "opened")
    assert done["at_rest"] == {"reconciled": 1}


def test_a_month_closed_for_all_is_not_said_to_be_open_for_one(ingested):
    ingested("period", "close", "*", "2025-04")
    assert "closed for all" in ingested("period", "open", "MAIN", "2025-04", expect=2).stderr
    assert [period["closed"] for period in ingested.json("period", "list")] == [True]


def test_retention_of_everything_that_is_finished(ingested):
    removed = ingested("retention", "--older-than", "0s", "--dry-run").stdout
    assert removed.startswith("1 payload, ")
    assert "more than 0 s ago" in removed
