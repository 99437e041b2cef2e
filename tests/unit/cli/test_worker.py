"""How many processes work, and what their log lines look like."""

import io
import json

import pytest
from loguru import logger

from commands.logs import configure_logging
from commands.worker import process_count
from contracts.envelope import BULK, LANES, LIVE
from pipeline.settings import InvalidSetting, Settings, read_settings
from tests.unit.cli.conftest import CommandLine

SERVERS = {"DATABASE_URL": "postgresql://db/tieout", "AMQP_URL": "amqp://broker/"}


def settings(**changed: str) -> Settings:
    return read_settings(SERVERS | changed)


@pytest.mark.parametrize(("cpus", "processes"), [(1, 1), (2, 2), (4, 4), (64, 4)])
def test_by_default_there_is_one_process_per_processor_within_bounds(cpus, processes):
    assert process_count(settings(), LANES, None, cpus) == processes


@pytest.mark.parametrize(("cpus", "processes"), [(1, 1), (2, 1), (4, 2), (64, 4)])
def test_a_worker_of_the_bulk_lane_alone_leaves_half_of_them_to_live_work(cpus, processes):
    assert process_count(settings(), (BULK,), None, cpus) == processes
    assert process_count(settings(), (LIVE,), None, cpus) == min(cpus, 4)


def test_what_is_asked_for_counts_and_the_option_before_the_variable():
    assert process_count(settings(TIEOUT_WORKER_PROCESSES="6"), LANES, None, 2) == 6
    assert process_count(settings(TIEOUT_WORKER_PROCESSES="6"), LANES, 3, 2) == 3


def test_a_number_that_a_platform_means_for_web_servers_is_not_ours():
    assert process_count(settings(WEB_CONCURRENCY="12"), LANES, None, 2) == 2


@pytest.mark.parametrize("changed", [{"AMQP_URL": ""}, {"DATABASE_URL": "sqlite:///tieout.db"}])
def test_embedded_or_on_sqlite_there_is_only_one(changed):
    assert process_count(settings(TIEOUT_WORKER_PROCESSES="6", **changed), LANES, 3, 8) == 1


@pytest.mark.parametrize("number", ["0", "many", "-1"])
def test_a_number_of_processes_that_makes_no_sense_is_refused(number):
    with pytest.raises(InvalidSetting, match="TIEOUT_WORKER_PROCESSES"):
        settings(TIEOUT_WORKER_PROCESSES=number)


def test_a_log_format_that_there_is_not_is_refused():
    with pytest.raises(InvalidSetting, match="TIEOUT_LOG_FORMAT='xml': expected text or json"):
        settings(TIEOUT_LOG_FORMAT="xml")


def test_a_probe_without_a_file_to_look_at_says_so(tieout: CommandLine):
    assert "TIEOUT_READY_FILE is not set" in tieout("ready", expect=2).stderr


def test_in_json_a_line_is_an_object_with_the_fields_beside_the_message(monkeypatch):
    lines = io.StringIO()
    monkeypatch.setattr("sys.stderr", lines)
    configure_logging("INFO", "json", process="live-1")
    try:
        logger.bind(event="odd", path=SERVERS).info("two\nlines {}", "ü")
        try:
            raise ZeroDivisionError("by zero")
        except ZeroDivisionError as error:
            logger.opt(exception=error).error("failed")
    finally:
        configure_logging("ERROR")
    first, second = (json.loads(line) for line in lines.getvalue().splitlines())
    assert (first["level"], first["message"], first["event"], first["process"]) == (
        "INFO",
        "two\nlines ü",
        "odd",
        "live-1",
    )
    assert first["path"] == SERVERS
    assert "ZeroDivisionError: by zero" in second["exception"]
