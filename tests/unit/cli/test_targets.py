"""`tieout target`: setting up, looking, asking, removing; what is wrong is one line, and no secret is ever repeated."""

import asyncio
import sqlite3

import pytest
from redis.asyncio import Redis

from connectors.http.guard import Guard, GuardLimits
from pipeline.errors import TransientError
from tests.shelf import SESAME, Shelf
from tests.unit.cli.conftest import MAPPING, CommandLine

ADD = ("target", "add", "attic", "--kind", "shelf", "--set", "place=room 1", "--secret", "key=TIEOUT_ATTIC_KEY")
ROUTES = '[[routing]]\ndocument_type = "expense"\ntargets = ["ledger", "attic"]\n'

pytestmark = pytest.mark.usefixtures("shelves")


@pytest.fixture
def attic(tieout: CommandLine) -> CommandLine:
    """A command line that has the key; nothing is set up yet."""
    tieout.environment["TIEOUT_ATTIC_KEY"] = SESAME
    return tieout


def an_expense(tieout: CommandLine, rules: str = ROUTES) -> dict:
    """Accept one, under rules of its own; what the ingest says."""
    for name, text in (("map.toml", MAPPING), ("rules.toml", rules)):
        (tieout.folder / name).write_text(text)
    (tieout.folder / "export.csv").write_text("id,date,amount,kind\nX-1,2025-03-03,12.50,Travel\n")
    tieout.environment["TIEOUT_RULES"] = str(tieout.folder / "rules.toml")
    return tieout.json("ingest", tieout.folder / "export.csv", "--map", tieout.folder / "map.toml")


# Setting up


def test_kinds_teach_every_option(attic):
    (shelf,) = attic.json("target", "kinds", "shelf")
    assert [option["name"] for option in shelf["options"]][:2] == ["place", "key"]
    told = attic("target", "kinds", "shelf").stdout
    assert "where it stands, room and number" in told
    assert "must be given" in told
    assert "shelf" in {kind["kind"] for kind in attic.json("target", "kinds")}
    assert "'safe'" in attic("target", "kinds", "safe", expect=1).stderr


def test_a_target_is_asked_then_stored_and_what_comes_next_is_said(attic):
    told = attic(*ADD, "--rate", "50", "--concurrency", "4", "--actor", "anna").stdout
    assert "attic (shelf) is set up: it answered in" in told
    assert "[[routing]]" in told
    listed = {one["target"]: one for one in attic.json("target", "list")}
    assert (listed["attic"]["kind"], listed["attic"]["capabilities"]["totals"]) == ("shelf", True)
    shown = attic.json("target", "show", "attic")
    assert shown["setup"]["options"] == {"place": "room 1"}
    assert shown["setup"]["secrets"] == {"key": "TIEOUT_ATTIC_KEY"}
    assert shown["setup"]["limits"] == {"rate_per_s": 50.0, "concurrency": 4}
    assert (shown["setup"]["created_by"], shown["guard"]["slots_max"], shown["error"]) == ("anna", 4, None)
    told = attic("target", "show", "attic").stdout
    assert "$TIEOUT_ATTIC_KEY" in told
    assert "limit rate_per_s" in told


def test_the_secret_is_nowhere_in_the_store_nor_in_what_is_said(attic):
    said = [attic(*ADD), attic(*ADD, "--replace", "--json")]
    said += [attic("target", verb, "attic", "--json") for verb in ("show", "test", "remove")]
    attic.environment["TIEOUT_ATTIC_KEY"] = "hunter2-does-not-fit"
    said.append(attic(*ADD, expect=1))
    said.append(attic("doctor", "--json", expect=1))
    assert [one for one in said if SESAME in one.stdout + one.stderr or "hunter2" in one.stdout + one.stderr] == []
    with sqlite3.connect(attic.folder / "tieout.db") as database:
        assert SESAME not in "\n".join(database.iterdump())


def test_what_does_not_let_us_in_is_not_stored(attic):
    attic.environment["TIEOUT_ATTIC_KEY"] = "another key"
    line = attic(*ADD, expect=1).stderr
    assert "attic is not set up: attic: this key does not fit" in line
    assert "--no-test" in line
    Shelf.away.add("room 1")
    assert "nobody gets to room 1" in attic(*ADD, expect=1).stderr
    assert [one["target"] for one in attic.json("target", "list")] == ["ledger", "masterdata"]
    assert attic.json(*ADD, "--no-test")["tested"] is False


def test_a_variable_that_is_not_set_is_a_matter_of_configuration(tieout):
    (line,) = tieout(*ADD, expect=2).stderr.splitlines()
    assert "TIEOUT_ATTIC_KEY is not set: set it to the key of attic" in line
    assert tieout.json(*ADD, "--no-test")["unset"] == ["TIEOUT_ATTIC_KEY"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (("--set", "colour=red"), "no option 'colour': there are place (text)"),
        (("--set", "width=wide"), "width='wide': expected a whole number"),
        (("--set", "place"), "--set takes NAME=VALUE"),
        (("--set", "place=a"), "--set place is given twice"),
        (("--set", "key=hunter2"), "key is secret: --secret key=VARIABLE"),
        (("--secret", "place=X"), "place is no secret"),
        (("--rate", "0"), "--rate"),
        (("--concurrency", "0"), "--concurrency"),
        (("--kind", "safe"), "no kind of target 'safe'"),
    ],
)
def test_what_makes_no_target_is_one_line_and_status_2(attic, changed, words):
    result = attic(*ADD, *changed, expect=2)
    (line,) = result.stderr.strip().splitlines()
    assert words in line
    assert "hunter2" not in line


@pytest.mark.parametrize("name", ["ledger", "masterdata", "The Attic", "a/b", "-x", ""])
def test_a_name_that_can_not_be_given(attic, name):
    attic("target", "add", *ADD[3:], "--", name, expect=2)


def test_a_name_is_taken_until_it_is_to_be_replaced(attic):
    attic(*ADD)
    assert "--replace" in attic(*ADD, expect=2).stderr
    replaced = attic.json("target", "add", "attic", "--kind", "shelf", "--set", "place=room 2", *ADD[7:], "--replace")
    assert replaced["replaced"] is True
    assert attic.json("target", "show", "attic")["setup"]["options"] == {"place": "room 2"}


# Posting


def test_records_are_posted_to_it_and_both_sides_tie_out(attic):
    attic(*ADD)
    assert an_expense(attic)["at_rest"] == {"reconciled": 1}
    (sheet,) = [one for one in attic.json("balance") if one["currency"] == "EUR"]
    assert {one["target"]: (one["equal"], one["target_count"]) for one in sheet["targets"]} == {
        "ledger": (True, 1),
        "attic": (True, 1),
    }
    assert attic.json("target", "show", "attic")["holds"][0]["count"] == 1


def test_without_it_records_die_and_its_addition_says_how_many_waited(attic):
    assert an_expense(attic)["at_rest"] == {"dead": 1}
    assert "tieout target add attic" in attic.json("dead", "list")[0]["message"]
    added = attic(*ADD).stdout
    assert "Routed to it: expense" in added
    assert "1 dead letter waited for it: tieout dead requeue --code NO_ROUTE" in added
    requeued = attic.json("dead", "requeue", "--code", "NO_ROUTE", "--reason", "set up")
    assert requeued["at_rest"] == {"reconciled": 1}


def test_while_it_can_not_be_opened_its_deliveries_wait_and_status_and_doctor_say_so(attic):
    attic(*ADD)
    del attic.environment["TIEOUT_ATTIC_KEY"]
    assert an_expense(attic)["at_rest"] == {"in_flight": 1}
    found = attic.json("status", expect=1)
    (one,) = found["targets"]
    assert (found["stuck"], one["unfinished"], one["guard"]) == (True, {"in_flight": 1}, None)
    assert "TIEOUT_ATTIC_KEY is not set" in one["unopened"]
    told = attic("status", expect=1).stdout
    assert "can't open it" in told
    assert "1 delivery can't go on" in told
    (problem,) = attic.json("doctor", expect=1)["problems"]
    assert problem["subject"] == "target attic"
    assert "TIEOUT_ATTIC_KEY is not set" in problem["found"]
    (sick,) = [one for one in attic.json("target", "test", expect=1) if one["error"]]
    assert (sick["target"], "TIEOUT_ATTIC_KEY" in sick["error"]) == ("attic", True)
    assert "TIEOUT_ATTIC_KEY" in attic("target", "show", "attic").stdout
    assert "can't be opened" in attic("target", "list").stdout
    attic.environment["TIEOUT_ATTIC_KEY"] = SESAME
    attic.json("recover")
    assert attic.json("ingest", attic.folder / "export.csv", "--map", attic.folder / "map.toml")["accepted"] == 0
    assert attic.json("status")["targets"][0]["unfinished"] == {}


def test_the_balance_shows_the_rest_when_a_target_does_not_answer(attic):
    attic(*ADD)
    an_expense(attic)
    Shelf.away.add("room 1")
    (sheet,) = [one for one in attic.json("balance", expect=1) if one["currency"] == "EUR"]
    attic_side, ledger_side = sorted(sheet["targets"], key=lambda one: one["target"])
    assert (sheet["balanced"], ledger_side["equal"]) == (False, True)
    assert (attic_side["count"], attic_side["target_count"], attic_side["error"]) == (1, None, "nobody gets to room 1")
    assert "attic can't be asked what it holds: nobody gets to room 1" in attic("balance", expect=1).stdout
    assert attic.json("target", "test", "attic", expect=1)[0]["error"] == "nobody gets to room 1"


# Looking


def test_the_doctor_knows_the_variables_that_hold_secrets(attic):
    (problem,) = attic.json("doctor", expect=1)["problems"]
    assert (problem["subject"], "no target keeps a secret in it" in problem["found"]) == ("TIEOUT_ATTIC_KEY", True)
    attic(*ADD)
    assert attic.json("doctor")["problems"] == []


def test_a_route_to_a_target_that_is_set_up_is_no_problem_any_more(attic):
    an_expense(attic)
    subjects = {one["subject"]: one for one in attic.json("doctor", expect=1)["problems"]}
    assert "tieout target add attic" in subjects["target attic"]["remedy"]
    attic(*ADD)
    assert attic.json("doctor")["problems"] == []


def test_a_status_without_redis_does_not_claim_to_know_the_breaker(attic):
    attic(*ADD)
    told = attic("status").stdout
    assert "not known here" in told
    assert "REDIS_URL" in told


def test_the_breaker_of_the_workers_is_shown_with_its_reason(attic, redis_url, prefix):
    attic.environment |= {"REDIS_URL": redis_url, "TIEOUT_PREFIX": prefix}
    attic(*ADD)
    told = attic("status").stdout
    assert "call it" in told
    guard = attic.json("status")["targets"][0]["guard"]
    assert (guard["state"], guard["shared"], guard["slots_in_use"]) == ("closed", True, 0)
    asyncio.run(a_worker_finds_it_down(redis_url, prefix))
    told = attic("status").stdout
    assert "leave it alone" in told
    assert "1 failure in a row: nobody gets to room 1" in told
    guard = attic.json("status")["targets"][0]["guard"]
    assert (guard["state"], guard["since"] < guard["open_until"]) == ("open", True)
    assert attic.json("target", "show", "attic")["guard"]["state"] == "open"
    # The breaker is for the workers; an operator wants to know whether it answers.
    assert attic.json("target", "test", "attic")[0]["error"] is None


async def a_worker_finds_it_down(redis_url: str, prefix: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        guard = Guard("attic", GuardLimits(failures_max=1, open_first_ms=60_000), redis, prefix)
        with pytest.raises(TransientError):
            async with guard():
                raise TransientError("nobody gets to room 1")


# Removing


def test_a_target_in_use_is_not_removed_unasked(attic):
    attic(*ADD)
    an_expense(attic)
    line = attic("target", "remove", "attic", expect=1).stderr
    assert "[[routing]] sends expense to attic" in line
    (attic.folder / "rules.toml").write_text("")
    assert attic.json("target", "remove", "attic", "--reason", "moved") == {"target": "attic", "removed": True}
    assert "attic" in attic("target", "remove", "attic", expect=1).stderr
    assert "built in" in attic("target", "remove", "ledger", expect=2).stderr
