"""The doctor names every setting, masks every secret, and says how to mend what is wrong."""

import pytest
from pika.exceptions import AMQPConnectionError

from broker.topology import Topology
from ops.broker_check import mismatch_found
from ops.doctor import settings_found, strays_found
from ops.findings import OK, PROBLEM, first_line, masked
from pipeline.settings import VARIABLES, read_settings


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("amqp://u:p%40ss@one/v,amqps://u:other@two/v", "amqp://u:***@one/v,amqps://u:***@two/v"),
        ("redis://:pw@host:1/0", "redis://:***@host:1/0"),
        (
            "postgresql://host/db?user=a&password=pw&sslmode=require",
            "postgresql://host/db?user=a&password=***&sslmode=require",
        ),
        ("sqlite:///var/tieout.db", "sqlite:///var/tieout.db"),
        ("postgresql://u@host/db", "postgresql://u@host/db"),
    ],
)
def test_passwords_are_masked_wherever_a_url_carries_them(text, shown):
    assert masked(text) == shown


def test_every_setting_is_listed_with_where_it_comes_from():
    environment = {"CLOUDAMQP_URL": "amqp://u:pw@host/", "TIEOUT_PREFIX": "blue"}
    found = {one.subject: one for one in settings_found(environment, read_settings(environment))}
    assert {names[0] for names in VARIABLES.values()} == found.keys()
    assert found["AMQP_URL"].source == "environment (CLOUDAMQP_URL)"
    assert "pw" not in found["AMQP_URL"].found
    assert (found["TIEOUT_PREFIX"].found, found["PORT"].source) == ("blue", "default")
    assert {one.level for one in found.values()} == {OK}


def test_a_mistyped_variable_is_a_problem_with_its_cure():
    environment = {"TIEOUT_RULE": "rules.toml"}
    for used in (set(), None):
        (problem,) = strays_found(environment, used)
        assert (problem.level, "TIEOUT_RULES" in (problem.remedy or "")) == (PROBLEM, True)


def test_what_may_hold_the_secret_of_a_target_is_told_only_when_the_targets_can_be_asked():
    environment = {"TIEOUT_ERP_PASSWORD": "x", "TIEOUT_SPARE": "y"}
    assert strays_found(environment, None) == []
    assert [one.subject for one in strays_found(environment, {"TIEOUT_ERP_PASSWORD"})] == ["TIEOUT_SPARE"]


def test_an_embedded_installation_is_healthy(ingested):
    report = ingested.json("doctor")
    assert (report["healthy"], report["problems"]) == (True, [])
    assert {"schema", "target ledger"} <= {one["subject"] for one in report["findings"]}


def test_several_processes_on_sqlite_are_a_problem(tieout):
    tieout.environment["AMQP_URL"] = "amqp://guest:hidden@127.0.0.1:1/"
    result = tieout("doctor", expect=1)
    assert "DATABASE_URL=postgresql://" in result.stdout
    assert "AMQP_URL" in result.stdout
    assert "hidden" not in result.stdout + result.stderr


def test_rules_that_contradict_themselves_are_a_problem(tieout):
    rules = tieout.folder / "rules.toml"
    rules.write_text('default_legal_entity = "FR01"\n[legal_entities.DE01]\ncurrency = "EUR"\n')
    tieout.environment["TIEOUT_RULES"] = str(rules)
    said = " ".join(problem["found"] for problem in tieout.json("doctor", expect=1)["problems"])
    assert "FR01" in said


def test_a_route_to_a_target_that_is_not_there_is_a_problem(ingested):
    rules = ingested.folder / "rules.toml"
    rules.write_text('[[routing]]\ndocument_type = "expense"\ntargets = ["sap"]\n')
    (problem,) = ingested.json("doctor", expect=1)["problems"]
    assert problem["subject"] == "target sap"


@pytest.mark.parametrize(
    ("variable", "value", "cure"),
    [
        ("DATABASE_URL", "postgresql://tieout:secret@127.0.0.1:1/tieout", "start the server"),
        ("AMQP_URL", "amqp://tieout:secret@127.0.0.1:1/", "start the server"),
        ("AMQP_URL", "http://tieout:secret@127.0.0.1/", "correct AMQP_URL"),
        ("REDIS_URL", "redis://:secret@127.0.0.1:1/0", "start the server"),
    ],
)
def test_a_server_out_of_reach_comes_with_its_cure_and_without_its_password(tieout, variable, value, cure):
    tieout.environment[variable] = value
    result = tieout("doctor", expect=1)
    assert cure in result.stdout
    assert "secret" not in result.stdout + result.stderr


def test_an_error_without_words_says_what_caused_it():
    outer = OSError(ConnectionRefusedError(111, "Connection refused"))
    assert first_line(AMQPConnectionError(outer)) == first_line(outer)
    assert first_line(KeyError()) == "KeyError"


def test_a_level_of_logging_that_there_is_none_of_is_a_warning(tieout):
    tieout.environment["TIEOUT_LOG_LEVEL"] = "loud"
    (warning,) = tieout.json("doctor")["warnings"]
    assert (warning["subject"], "INFO" in warning["remedy"]) == ("TIEOUT_LOG_LEVEL", True)


def test_a_queue_of_another_make_is_told_apart_from_how_to_remove_it():
    queue = Topology("tieout", ("validate.bulk",)).work_queue("validate.bulk")
    finding = mismatch_found(queue, "/", "PRECONDITION_FAILED - inequivalent arg. Or so")
    assert finding.found.endswith("Or so")
    assert finding.remedy is not None
    assert "rabbitmqctl delete_queue -p / --if-empty tieout.validate.bulk" in finding.remedy
