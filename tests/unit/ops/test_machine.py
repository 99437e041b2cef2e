"""What the machine gives a process."""

import os
import subprocess
import sys

import pytest

from ops.machine import rss_mb, usable_cpus

ALL = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.mark.parametrize(
    ("quota", "cpus"), [("max 100000", ALL), ("50000 100000", 1), ("100000 100000", 1), ("6400000 100000", ALL)]
)
def test_a_container_s_quota_bounds_the_processors(tmp_path, quota, cpus):
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert usable_cpus(tmp_path) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("-1", ALL), ("50000", 1)])
def test_so_does_the_older_kind_of_quota(tmp_path, quota, cpus):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cpus(tmp_path) == cpus


def test_without_control_groups_every_processor_counts(tmp_path):
    assert usable_cpus(tmp_path) == ALL


def test_memory_grows_with_what_is_held():
    before = rss_mb()
    held = bytearray(b"x" * 64 * 2**20)
    assert rss_mb() >= before + 60
    del held


def test_giving_way_goes_back_and_never_comes_forward():
    code = (
        "import os; from ops.machine import give_way; give_way(); first = os.nice(0); "
        "os.nice(5); give_way(); print(first, os.nice(0))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    here = os.nice(0)
    assert [int(one) for one in said.split()] == [max(here, 10), min(max(here, 10) + 5, 19)]
