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


MORE = """id,date,amount,kind
X-5,2025-03-05,-1.25,Travel
X-6,2025-03-06,-2.50,Travel
X-7,2025-03-07,7000.00,Hotel
"""


def several_causes(ingested) -> list[dict]:
    (ingested.folder / "more.csv").write_text(MORE)
    ingested("ingest", ingested.folder / "more.csv", "--map", ingested.folder / "map.toml")
    return ingested.json("dead", "groups")


def test_what_is_worth_most_comes_first(ingested):
    amounts = [float(group["amount"]["amount"]) for group in several_causes(ingested)]
    assert amounts == sorted(amounts, reverse=True)
    assert amounts[0] == 7000
    (first,) = ingested.json("dead", "groups", "--limit", "1")
    assert first["amount"]["amount"] == "7000.00"


def test_a_cause_with_placeholders_and_a_single_letter_have_a_real_example(ingested):
    groups = several_causes(ingested)
    (several,) = (group for group in groups if group["count"] == 2)
    assert "<number>" in several["cause"]
    assert "-1.25" in several["example"]["message"]
    assert all(group["example"]["id"] for group in groups if group["count"] == 1)
    shown = ingested("dead", "groups").stdout
    assert several["example"]["message"] in shown
    assert several["example"]["id"] in shown


def test_a_cause_can_be_pasted_behind_the_filter(ingested):
    for group in several_causes(ingested):
        assert len(ingested.json("dead", "list", "--cause", group["cause"])) == group["count"]
        assert group["cause"] in ingested("dead", "groups").stdout or group["count"] == 1


def test_a_dry_run_counts_messages_that_differ_in_numbers_as_one_cause(ingested):
    several_causes(ingested)
    forecast = ingested.json("dead", "requeue", "--code", "AMOUNT_NOT_POSITIVE", "--dry-run")
    assert [(cause["count"], "-1.25" in cause["message"]) for cause in forecast["causes"]] == [(2, True)]


def test_what_an_edit_changed_is_shown(ingested):
    letter = the_dead(ingested)["id"]
    for kind in ("Meals", "Travel"):
        ingested("dead", "edit", letter, "--set", f"category={kind}", "--reason", "miscategorised", "--actor", "anna")
    shown = ingested("dead", "show", letter).stdout
    assert 'document.category: "Conference" is now "Meals"' in shown
    assert 'document.category: "Meals" is now "Travel"' in shown


def test_a_life_tells_what_a_person_did_once_with_who_and_why(ingested):
    letter = the_dead(ingested)["id"]
    ingested("dead", "edit", letter, "--set", "category=Travel", "--reason", "miscategorised", "--actor", "anna")
    ingested("dead", "requeue", "--id", letter, "--reason", "mended", "--actor", "ben")
    told = ingested("trace", letter).stdout
    assert [line.split()[3:] for line in told.splitlines() if "mended" in line] == [["requeued", "by", "ben", "mended"]]
    assert sum("miscategorised" in line for line in told.splitlines()) == 1


def test_an_export_to_a_file_answers_in_json_what_it_wrote(ingested):
    path = ingested.folder / "dead.jsonl"
    assert ingested.json("dead", "export", "--out", path) == {"file": str(path), "format": "jsonl", "letters": 1}
    assert json.loads(path.read_text())["subject"] == "X-2"
