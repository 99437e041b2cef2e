"""`tieout worker` in several processes on real servers: crashes, stops and starts, and none of them loses anything."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from ops.readiness import Member, look
from ops.signals import same_request_s
from tests.acceptance.declarations import MAPPING, a_small_file, truth_of
from tests.acceptance.product import Product, wait_until
from tests.acceptance.test_main_job import assert_ties_out, steps_written

pytestmark = [pytest.mark.timeout(600), pytest.mark.alone]

#: What a PaaS gives a process between SIGTERM and SIGKILL.
grace_s = 10

RULES = "[mappings.expense_account]\n'*' = \"6200\"\n"


class Workers:
    """A deployment whose workers run in two processes, with logs in JSON and a file that says when they are ready."""

    def __init__(self, folder: Path, servers: dict[str, str], **environment: str) -> None:
        self.ready_file, self.log = folder / "ready", folder / "worker.log"
        self.rules = folder / "rules.toml"
        self.rules.write_text(RULES)
        # The clock is a deployment's other process: it would need a ready file of its own.
        self.others = Product(folder, **servers, TIEOUT_RULES=str(self.rules))
        self.product = Product(
            folder,
            **servers,
            TIEOUT_WORKER_PROCESSES="2",
            TIEOUT_READY_FILE=str(self.ready_file),
            TIEOUT_LOG_FORMAT="json",
            TIEOUT_RULES=str(self.rules),
            **environment,
        )
        self.product.run("migrate")

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """The workers, ready, for the length of the block; killed after it if they are still there."""
        process = self.product.start("worker")
        try:
            wait_until(lambda: self.is_ready() or process.poll() is not None, "ready")
            assert process.poll() is None, self.log.read_text()[-3000:]
            yield process
        finally:
            with suppress(ProcessLookupError):  # nobody of its group is left
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def is_ready(self) -> bool:
        return look(self.ready_file).ready

    def members(self) -> dict[str, Member]:
        return {member.name: member for member in look(self.ready_file).workers}

    def said(self, event: str) -> list[dict[str, Any]]:
        """Log lines of this event; every line must be JSON."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line.get("event") == event]

    def finish(self, path: Path) -> None:
        """Two other processes do the rest, and everything ties out."""
        with self.running() as process, self.others.running("clock"):
            wait_until(lambda: self.product.unfinished() == 0, "everything is at rest")
            assert stopped(process) == 0
        assert_ties_out(self.product, truth_of(path))


def stopped(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> int:
    """Ask it to leave, as a platform does, which waits no longer than its grace."""
    process.send_signal(number)
    return process.wait(grace_s)


@pytest.fixture
def workers(tmp_path: Path, servers: dict[str, str]) -> Workers:
    return Workers(tmp_path, servers)


@pytest.fixture
def under_load(workers: Workers, tmp_path: Path) -> Path:
    """A file that has been accepted, with every record still to be worked on."""
    path = a_small_file(tmp_path / "declarations.csv", declarations=1_500)
    workers.product.run("ingest", path, "--map", MAPPING, "--lane", "live")
    return path


def test_a_worker_that_crashes_in_a_library_says_where_it_was(workers):
    with workers.running():
        crashed = next(iter(workers.members().values()))
        os.kill(crashed.pid, signal.SIGSEGV)
        wait_until(lambda: workers.is_ready() and workers.members()[crashed.name].pid != crashed.pid, "it is back")
        log = workers.log.read_text()
        assert "Segmentation fault" in log
        assert "commands/worker.py" in log


def test_a_killed_worker_is_started_again_while_the_other_goes_on_and_nothing_is_lost(workers, servers, under_load):
    with workers.running() as process:
        first, second = workers.members().values()
        wait_until(lambda: steps_written(servers) > 500, "work is under way")
        os.kill(first.pid, signal.SIGKILL)
        assert workers.product.unfinished(expect=0) > 0, "killed on the way, not afterwards"
        wait_until(lambda: workers.is_ready() and workers.members()[first.name].pid != first.pid, "it is back")
        assert workers.members()[second.name].pid == second.pid
        (ended,) = workers.said("worker_ended")
        assert (ended["worker"], ended["worker_pid"]) == (first.name, first.pid)
        with workers.others.running("clock"):
            wait_until(lambda: workers.product.unfinished() == 0, "everything is at rest")
        assert stopped(process) == 0
    assert_ties_out(workers.product, truth_of(under_load))


def test_asked_to_leave_under_load_they_do_within_the_grace_and_nothing_is_lost(workers, servers, under_load):
    with workers.running() as process:
        wait_until(lambda: steps_written(servers) > 500, "work is under way")
        assert stopped(process) == 0
    assert workers.product.unfinished(expect=0) > 0, "stopped on the way, not afterwards"
    assert not workers.is_ready()
    assert {line["process"] for line in workers.said("worker_stopped")} == {"live-bulk-1", "live-bulk-2"}
    workers.finish(under_load)


def test_with_its_supervisor_killed_no_worker_stays_and_nothing_is_lost(workers, servers, under_load):
    with workers.running() as process:
        wait_until(lambda: steps_written(servers) > 500, "work is under way")
        pids = [member.pid for member in workers.members().values()]
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until(lambda: not any(map(psutil.pid_exists, pids)), "the workers leave", within_s=20)
    assert not workers.is_ready()
    workers.finish(under_load)


def test_who_does_not_leave_is_killed_and_named_and_what_it_held_is_delivered_again(tmp_path, servers):
    workers = Workers(tmp_path, servers, TIEOUT_SHUTDOWN_GRACE_MS="6000")
    path = a_small_file(tmp_path / "declarations.csv", declarations=600)
    workers.product.run("ingest", path, "--map", MAPPING, "--lane", "live")
    with workers.running() as process:
        wait_until(lambda: steps_written(servers) > 200, "work is under way")
        stuck = workers.members()["live-bulk-2"]
        os.kill(stuck.pid, signal.SIGSTOP)
        assert stopped(process) == 1
    (killed,) = workers.said("worker_killed")
    assert (killed["worker"], killed["worker_pid"]) == (stuck.name, stuck.pid)
    assert not psutil.pid_exists(stuck.pid)
    workers.finish(path)


def test_a_second_signal_ends_all_at_once_and_nothing_is_lost(tmp_path, servers):
    workers = Workers(tmp_path, servers, TIEOUT_SHUTDOWN_GRACE_MS="120000")
    path = a_small_file(tmp_path / "declarations.csv")
    workers.product.run("ingest", path, "--map", MAPPING, "--lane", "live")
    with workers.running() as process:
        pids = [member.pid for member in workers.members().values()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        wait_until(lambda: workers.said("stopping") != [], "it has begun to stop")
        time.sleep(2 * same_request_s)  # sooner, it would be the same request
        assert stopped(process) == 1
        assert not any(map(psutil.pid_exists, pids))
    workers.finish(path)


def test_a_worker_that_cannot_start_again_is_tried_ever_more_rarely_until_it_can(workers):
    with workers.running() as process:
        first, second = workers.members().values()
        workers.rules.write_text("[mappings\n")
        os.kill(second.pid, signal.SIGKILL)
        wait_until(lambda: (pauses := restarts(workers)) and pauses[-1] > 2, "it is tried again and again")
        assert restarts(workers) == sorted(restarts(workers))
        assert not workers.is_ready()
        assert psutil.pid_exists(first.pid)
        workers.rules.write_text(RULES)
        wait_until(workers.is_ready, "the rules are right again")
        assert workers.members()[first.name].pid == first.pid
        assert workers.members()[second.name].restarts == len(restarts(workers))
        assert stopped(process) == 0


def restarts(workers: Workers) -> list[float]:
    """The pauses before each new start. A worker says in one plain line why it could not start."""
    lines = [json.loads(line) for line in workers.log.read_text().splitlines() if line.startswith("{")]
    return [line["restart_in_s"] for line in lines if line.get("event") == "worker_ended"]


def test_a_database_that_lets_nobody_in_does_not_end_the_deployment(workers, servers):
    name = servers["DATABASE_URL"].rpartition("/")[2]
    with workers.running() as process:
        first, second = workers.members().values()
        allow_connections(servers, name, False)
        try:
            os.kill(second.pid, signal.SIGKILL)
            wait_until(lambda: len(restarts(workers)) >= 3, "it is tried again and again")
            assert process.poll() is None
        finally:
            allow_connections(servers, name, True)
        wait_until(workers.is_ready, "the database lets everybody in again")
        assert workers.members()[first.name].pid == first.pid
        assert stopped(process) == 0


def allow_connections(servers: dict[str, str], name: str, allowed: bool) -> None:
    """Whether the database takes new connections; those it has stay."""
    with psycopg.connect(servers["DATABASE_URL"].rpartition("/")[0] + "/postgres", autocommit=True) as admin:
        admin.execute(f"alter database {name} allow_connections {str(allowed).lower()}")  # a name made by the tests


def test_a_broker_out_of_reach_is_said_once_and_ends_the_first_start(tmp_path, servers):
    product = Product(tmp_path, **(servers | {"AMQP_URL": "amqp://guest:secret@127.0.0.1:1/"}))
    product.run("migrate")
    alone = product.run("worker", "--processes", "1", expect=2)
    several = product.run("worker", "--processes", "3", expect=2)
    for done in (alone, several):
        (said,) = [line for line in done.stderr.splitlines() if line.startswith("tieout: ")]
        assert said.startswith("tieout: AMQP_URL: no RabbitMQ at 127.0.0.1:1 ")
        assert "secret" not in done.stderr


def test_asked_to_leave_while_it_waits_for_a_server_it_does(tmp_path, servers):
    product = Product(tmp_path, **(servers | {"AMQP_URL": "amqp://guest:secret@127.0.0.1:1/"}))
    product.run("migrate")
    for processes in ("1", "2"):
        log = tmp_path / "worker.log"
        log.unlink(missing_ok=True)
        process = product.start("worker", "--processes", processes)
        wait_until(lambda log=log: "connect_failed" in log.read_text(), "it tries to connect")
        assert stopped(process) == 0, log.read_text()
        assert "tieout:" not in log.read_text()


def test_a_time_limit_that_the_broker_would_not_wait_for_is_refused(tmp_path, servers):
    product = Product(tmp_path, **servers, TIEOUT_CONSUMER_TIMEOUT_MS="600000")
    product.run("migrate")
    for command in ("worker", "run"):
        done = product.run(command, expect=2)
        (said,) = done.stderr.strip().splitlines()
        assert said.startswith("tieout: TIEOUT_STAGE_TIME_LIMIT_MS=600000: ")


def test_every_process_can_be_probed(tmp_path, servers):
    workers = Workers(tmp_path, servers)
    assert workers.product.json("ready", expect=1)["ready"] is False
    for command in (("worker", "--lane", "bulk"), ("worker", "--processes", "1"), ("clock",), ("run",)):
        process = workers.product.start(*command)
        wait_until(workers.is_ready, "ready")
        found = workers.product.json("ready")
        assert all(worker["rss_mb"] > 10 for worker in found["workers"])
        assert all(psutil.pid_exists(worker["pid"]) for worker in found["workers"])
        assert stopped(process) == 0
        workers.product.run("ready", expect=1)


def test_every_line_of_the_log_says_which_process_it_is_from(workers):
    with workers.running() as process:
        pids = {member.name: member.pid for member in workers.members().values()} | {"live-bulk": process.pid}
        assert stopped(process) == 0
    lines = [json.loads(line) for line in workers.log.read_text().splitlines()]
    assert {(line["process"], line["pid"]) for line in lines} == set(pids.items())
    assert len(workers.said("ready")) == 1
