"""The file that says whether a process is at work."""

import subprocess
import sys

import pytest

from ops.readiness import Member, ReadyFile, Roster, Status, look
from pipeline.settings import InvalidSetting

WORKER = Member(name="live-1", pid=17, rss_mb=64.5)

#: Writes the file and is killed before it can take it away.
KILLED = """
import os, signal, sys
from pathlib import Path
from ops.readiness import ReadyFile
file = ReadyFile(Path(sys.argv[1]))
file.write(())
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_file_shows_the_workers_for_as_long_as_they_are_ready(tmp_path):
    file = ReadyFile(tmp_path / "run" / "ready")
    assert not look(tmp_path / "run" / "ready").ready
    file.write([WORKER])
    assert look(tmp_path / "run" / "ready").workers == (WORKER,)
    file.withdraw()
    assert list((tmp_path / "run").iterdir()) == []


def test_a_newer_one_takes_the_place_of_the_file_and_nothing_else_is_left(tmp_path):
    file = ReadyFile(tmp_path / "ready")
    file.write([])
    file.write([WORKER])
    assert look(tmp_path / "ready").workers == (WORKER,)
    assert [path.name for path in tmp_path.iterdir()] == ["ready"]
    file.withdraw()


def test_what_a_killed_process_left_there_counts_for_nothing(tmp_path):
    path = tmp_path / "ready"
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert path.exists()
    assert not look(path).ready
    ReadyFile(path)
    assert not path.exists()


def test_a_file_is_kept_by_one_process(tmp_path):
    file = ReadyFile(tmp_path / "ready")
    file.write([])
    with pytest.raises(InvalidSetting, match="another process keeps it"):
        ReadyFile(tmp_path / "ready")
    file.withdraw()


def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InvalidSetting, match="TIEOUT_READY_FILE"):
        ReadyFile(tmp_path / "file" / "ready")


def test_a_roster_is_ready_while_all_are(tmp_path):
    path = tmp_path / "ready"
    roster = Roster(["a", "b"], ReadyFile(path))
    roster.tell("a", 1, Status(ready=True, rss_mb=1))
    assert not look(path).ready
    roster.tell("b", 2, Status(ready=True, rss_mb=1))
    assert look(path).ready
    roster.tell("a", 1, Status(ready=False, rss_mb=1))
    assert not look(path).ready
    roster.tell("a", 1, Status(ready=True, rss_mb=2))
    assert [worker.rss_mb for worker in look(path).workers] == [2, 1]
    roster.close()
    roster.tell("a", 1, Status(ready=True, rss_mb=2))
    assert not look(path).ready
