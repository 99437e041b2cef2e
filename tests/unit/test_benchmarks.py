"""The arithmetic behind the benchmarks: what is counted, which medians and ratios follow, what the report holds."""

import io
import json
import multiprocessing
import re
import threading
import tomllib
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rich.console import Console

from benchmarks.__main__ import main
from benchmarks.contenders import ENTRANTS
from benchmarks.events import EVENT_BYTES, encoded, event, number_of, time_entry
from benchmarks.figures import FIGURES, Round, Target, percentile, ratio, spread, summary
from benchmarks.plan import FULL, GROWTH_AT_MOST, QUICK, TARGETS
from benchmarks.report import Measured, report
from benchmarks.table import print_report
from benchmarks.tally import Tally, TallyReader
from contracts.decoding import decode_document

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


# Events


@pytest.mark.parametrize("number", [0, 1, 99_999, 10_000_000])
def test_every_event_has_the_same_size_and_carries_its_number(number):
    assert len(encoded(number)) == EVENT_BYTES == 600
    assert number_of(event(number)["id"]) == number


def test_what_the_others_carry_is_the_time_entry_that_we_carry():
    assert decode_document("time_entry.v1", json.dumps(event(7)).encode()) == time_entry(7)


# Tally


def test_what_threads_and_processes_count_is_all_read_once(tmp_path):
    tally = Tally(tmp_path, slots=1_000)
    threads = [threading.Thread(target=_count, args=(tally, range(start, start + 100))) for start in (0, 100, 200)]
    for thread in threads:
        thread.start()
    process = multiprocessing.get_context("spawn").Process(target=_count_alone, args=(tmp_path, range(300, 400)))
    process.start()
    for one in (*threads, process):
        one.join()
    reader = TallyReader(tmp_path)
    reader.refresh()
    assert reader.done.keys() == set(range(400))
    assert reader.repeated == 0


def _count(tally: Tally, numbers: range) -> None:
    for number in numbers:
        tally.count(number)


def _count_alone(folder: Path, numbers: range) -> None:
    _count(Tally(folder, slots=1_000), numbers)


def test_threads_that_count_first_at_the_same_moment_share_one_file(tmp_path):
    threads_count = 8
    for attempt in range(50):
        (folder := tmp_path / str(attempt)).mkdir()
        tally, together = Tally(folder, slots=100), threading.Barrier(threads_count)

        def count(number: int, tally: Tally = tally, together: threading.Barrier = together) -> None:
            together.wait()
            tally.count(number)

        threads = [threading.Thread(target=count, args=(number,)) for number in range(threads_count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        reader = TallyReader(folder)
        reader.refresh()
        assert reader.done.keys() == set(range(threads_count))


def test_an_event_that_comes_twice_was_done_the_first_time(tmp_path):
    tally, reader = Tally(tmp_path, slots=10), TallyReader(tmp_path)
    tally.count(5)
    reader.refresh()
    first = reader.done[5]
    tally.count(5)
    tally.count(6)
    reader.refresh()
    assert reader.done.keys() == {5, 6}
    assert reader.done[5] == first
    assert reader.repeated == 1


# Figures


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1), (0.001, 1)])
def test_a_percentile_is_a_value_that_was_measured(share, expected):
    assert percentile(range(100, 0, -1), share) == expected


def test_no_values_have_no_percentile_and_no_spread():
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)
    with pytest.raises(ValueError, match="no values"):
        spread([])


def test_spread_is_the_largest_by_the_smallest():
    assert spread([2.0, 3.0, 1.5]) == 2.0


def test_a_summary_has_the_medians_and_adds_up_what_was_repeated():
    rounds = [
        Round(events_per_s=100, p50_ms=5, servers_cpu_s_per_1000={"rabbitmq": 1.0}, repeated=1),
        Round(events_per_s=300, p50_ms=None, servers_cpu_s_per_1000={"rabbitmq": 3.0}, repeated=2),
        Round(events_per_s=120, p50_ms=7),
    ]
    found = summary(rounds)
    assert (found["events_per_s"], found["p50_ms"], found["p99_ms"]) == (120, 6, None)
    assert found["servers_cpu_s_per_1000"] == {"rabbitmq": 2.0}
    assert found["repeated"] == 3


FASTER = Target(name="ours / theirs", ours="us", theirs=("slow", "fast"), at_least=4)


def test_a_peer_is_taken_at_its_best_row():
    figures = {"us": {"events_per_s": 800}, "slow": {"events_per_s": 100}, "fast": {"events_per_s": 200}}
    found = ratio(FASTER, figures)
    assert found is not None
    assert (found["theirs"], found["value"], found["reached"]) == ("fast", 4, True)


def test_where_less_is_better_the_best_row_is_the_lowest():
    target = Target(name="p50", ours="us", theirs=("slow", "fast"), at_most=1, figure="p50_ms")
    figures = {"us": {"p50_ms": 6.0}, "slow": {"p50_ms": 9.0}, "fast": {"p50_ms": 5.0}}
    found = ratio(target, figures)
    assert found is not None
    assert (found["theirs"], found["value"], found["reached"]) == ("fast", 1.2, False)


def test_a_ratio_short_of_its_target_is_not_reached():
    found = ratio(FASTER, {"us": {"events_per_s": 799}, "fast": {"events_per_s": 200}})
    assert found is not None
    assert not found["reached"]


def test_there_is_no_ratio_of_what_was_not_measured():
    assert ratio(FASTER, {"us": {"events_per_s": 800}, "fast": {"events_per_s": None}}) is None
    assert ratio(FASTER, {"slow": {"events_per_s": 100}}) is None


# The report


def a_round(events_per_s: float) -> Round:
    return Round(events_per_s=events_per_s, p50_ms=4, p99_ms=9, cpu_s_per_1000=0.5, rss_mb=70)


def a_report() -> dict:
    measured = Measured(
        rounds={
            "broker": [a_round(1_000), a_round(2_000), a_round(1_400)],
            "dramatiq": [a_round(200)],
            "dramatiq-quorum": [a_round(250)],
            "celery": [a_round(9_000)],
            "broker-bulk": [a_round(14_000)],
        },
        about={"broker": {"queue_type": "quorum", "settings": {"prefetch": "why"}}},
        failed={"celery": "worker 1 ended with 1"},
        growth={
            "broker": {
                "queued": {"1000": {"events_per_s": 9.0, "cpu_s_per_1000": 1.0}},
                "cost_spread": 1.0,
                "flat": True,
            }
        },
        lanes={
            "live_per_s": 50.0,
            "idle": {"events": 9, "p50_ms": 4.0, "p99_ms": 8.0},
            "during_import": {"events": 9, "p50_ms": 5.0, "p99_ms": 12.0},
            "import_records": 1_000,
            "import_records_per_s": 2_000.0,
            "p99_ratio": 1.5,
            "at_most": 3.0,
            "reached": True,
        },
    )
    machine = {
        "date": "2026-01-01",
        "commit": None,
        "cpus": 2,
        "model": "x",
        "memory_gb": 4,
        "kernel": "k",
        "python": "3",
    }
    return report(measured, plan=msgspec.to_builtins(FULL), machine=machine, versions={"pika": "1"}, seconds=1.0)


def test_the_report_has_one_object_per_contender_with_the_medians_of_its_rounds():
    contenders = a_report()["contenders"]
    assert list(contenders) == ["broker", "dramatiq", "dramatiq-quorum", "celery"]
    assert {name: contenders["broker"][name] for name in FIGURES} == {
        "events_per_s": 1_400,
        "p50_ms": 4,
        "p99_ms": 9,
        "cpu_s_per_1000": 0.5,
        "rss_mb": 70,
    }
    assert [one["events_per_s"] for one in contenders["broker"]["rounds"]] == [1_000, 2_000, 1_400]


def test_the_ratios_are_those_of_the_medians_and_leave_out_who_failed():
    ratios = a_report()["ratios"]
    assert ratios["broker / dramatiq"]["value"] == 1_400 / 250
    assert ratios["bulk / live, broker"]["value"] == 10
    assert "broker / celery" not in ratios
    assert a_report()["contenders"]["celery"]["failed"] == "worker 1 ended with 1"


def test_the_report_survives_json():
    read = json.loads(json.dumps(a_report()))
    assert read["contenders"] == a_report()["contenders"]
    assert read.keys() >= {"bulk", "ratios", "growth", "lanes", "failed", "versions", "machine", "plan", "seconds"}


def test_the_tables_show_every_part_of_the_report():
    shown = io.StringIO()
    print_report(a_report(), Console(file=shown, width=120))
    text = shown.getvalue()
    for part in ("1,400", "14,000", "broker / dramatiq", "5.60", "x 1.00", "1.50", "celery failed: worker 1 ended"):
        assert part in text


# The plan


def test_every_target_and_every_entrant_names_something_that_is_there():
    assert {name for target in TARGETS for name in (target.ours, *target.theirs)} <= ENTRANTS.keys()
    assert all(target.theirs for target in TARGETS)
    assert [entrant.module for entrant in ENTRANTS.values() if find_spec(entrant.module) is None] == []


def test_a_quick_run_measures_the_same_things_as_a_full_one():
    assert QUICK.parts == FULL.parts
    assert GROWTH_AT_MOST > 1


def test_an_unknown_contender_is_a_usage_error_that_names_the_known_ones():
    done = CliRunner().invoke(main, ["--contenders", "broker,nobody"])
    assert done.exit_code == 2
    assert "nobody: expected some of tieout" in " ".join(re.sub(r"[│╭╮╰╯─]", "", done.output).split())


# What it needs


def locked(path: Path) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", path.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def test_the_lock_file_of_the_benchmarks_has_what_pyproject_asks_for_and_agrees_with_the_other_one():
    mine, main_ones = locked(ROOT / "benchmarks/requirements.lock"), locked(ROOT / "requirements.lock")
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["bench"]]
    for requirement in map(Requirement, wanted):
        version = mine.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in benchmarks/requirements.lock: run make lock"
        assert requirement.specifier.contains(version)
    assert {name: mine[name] for name in mine.keys() & main_ones.keys()} == {
        name: main_ones[name] for name in mine.keys() & main_ones.keys()
    }
    assert "://" not in (ROOT / "benchmarks/requirements.lock").read_text()
