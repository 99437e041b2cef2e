"""Looking at dead letters, mending a cause, sending back, editing, discarding, carrying away."""

import csv
import io
import json


def the_dead(tieout) -> dict:
    (letter,) = tieout.json("dead", "list")
    return letter


def test_a_group_tells_cause_owner_worth_and_what_to_do(ingested):
    (group,) = ingested.json("dead", "groups")
    assert (group["code"], group["owner"], group["count"]) == ("MAPPING_MISSING", "finance", 1)
    assert group["amount"] == {"amount": "99.00", "currency": "EUR"}
    assert "tieout map set" in group["guidance"]


def test_setting_the_mapping_says_how_many_wait_for_it(ingested):
    assert ingested.json("map", "set", "expense_account", "Conference", "6280")["dead_letters"] == 1
    assert ingested.json("map", "set", "expense_account", "Hotel", "6220")["dead_letters"] == 0


def test_a_dry_run_says_what_would_fail_and_with_what_and_changes_nothing(ingested):
    forecast = ingested.json("dead", "requeue", "--all", "--dry-run")
    assert (forecast["letters"], forecast["pass"], forecast["fail"]) == (1, 0, 1)
    assert forecast["causes"][0]["code"] == "MAPPING_MISSING"
    ingested("map", "set", "expense_account", "Conference", "6280")
    assert ingested.json("dead", "requeue", "--all", "--dry-run")["pass"] == 1
    assert the_dead(ingested)["status"] == "open"


def test_a_requeued_letter_is_posted_and_both_sides_tie_out(ingested):
    ingested("map", "set", "expense_account", "Conference", "6280")
    done = ingested.json("dead", "requeue", "--code", "MAPPING_MISSING", "--reason", "agreed", "--actor", "anna")
    assert (done["requeued"], done["at_rest"]) == (1, {"reconciled": 1})
    assert ingested.json("dead", "list") == []
    sheets = {sheet["currency"]: sheet for sheet in ingested.json("balance")}
    assert (sheets["EUR"]["reconciled"], sheets["EUR"]["amounts"]["reconciled"]) == (2, "111.50")
    assert all(sheet["balanced"] for sheet in sheets.values())


def test_who_and_why_is_kept(ingested):
    letter = the_dead(ingested)
    ingested("map", "set", "expense_account", "Conference", "6280")
    ingested("dead", "requeue", "--id", letter["id"], "--reason", "agreed with Ms Petit", "--actor", "anna")
    history = ingested.json("dead", "show", letter["id"])["history"]
    assert [(entry["action"], entry["actor"], entry["reason"]) for entry in history] == [
        ("requeue", "anna", "agreed with Ms Petit")
    ]


def test_an_edit_is_checked_audited_and_posted_as_corrected(ingested):
    letter = the_dead(ingested)
    body = ingested.json("dead", "edit", letter["id"], "--set", "category=Travel", "--reason", "miscategorised")["body"]
    assert body["document"]["category"] == "Travel"
    assert ingested.json("dead", "requeue", "--id", letter["id"], "--reason", "edited")["at_rest"] == {"reconciled": 1}
    (edit, _) = ingested.json("dead", "show", letter["id"])["history"]
    assert json.loads(edit["detail"]["original"])["document"]["category"] == "Conference"


def test_an_edit_that_does_not_fit_is_refused_in_one_line(ingested):
    letter = the_dead(ingested)["id"]
    for change, named in (("amount=lots", "amount"), ("kategory=Travel", "category"), ("id=X-9", "X-2")):
        result = ingested("dead", "edit", letter, "--set", change, "--reason", "x", expect=2)
        assert named in result.stderr
    assert ingested.json("dead", "show", letter)["history"] == []


def test_discarding_ends_a_record(ingested):
    assert ingested.json("dead", "discard", "--all", "--reason", "not ours")["discarded"] == 1
    (sheet,) = [sheet for sheet in ingested.json("balance") if sheet["currency"] == "EUR"]
    assert (sheet["dead"], sheet["discarded"]) == (0, 1)


def test_an_export_can_be_read_back(ingested):
    (line,) = ingested("dead", "export").stdout.splitlines()
    assert json.loads(line)["body"]["document"]["id"] == "X-2"
    (row,) = csv.DictReader(io.StringIO(ingested("dead", "export", "--format", "csv").stdout))
    assert (row["subject"], row["amount"], row["currency"]) == ("X-2", "99.00", "EUR")


def test_filters_choose(ingested):
    assert ingested.json("dead", "list", "--type", "time_entry") == []
    assert ingested.json("dead", "list", "--older-than", "1h") == []
    assert len(ingested.json("dead", "list", "--owner", "finance", "--type", "expense", "--newer-than", "1h")) == 1


def test_every_code_is_listed_with_its_guidance(tieout):
    codes = {code["name"]: code for code in tieout.json("dead", "codes")}
    assert codes["MAPPING_MISSING"]["owner"] == "finance"
    assert all(code["guidance"] for code in codes.values())
