"""scripts/servers.py hands the tests real servers, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from containers import docker_answers
from instances import CannotStart, Instance, free_ports, installed
from probes import Refused, probe_redis

ROOT = Path(__file__).parents[2]
SERVERS = [sys.executable, str(ROOT / "scripts/servers.py"), "run"]
REDIS = "TIEOUT_TEST_REDIS_URL"

PRINT_REDIS = f"import os; print(os.environ['{REDIS}'], flush=True)"

can_start_redis = pytest.mark.skipif(
    not (installed("redis-server") or docker_answers()), reason="neither Redis' package nor Docker is here to start one"
)


@pytest.fixture
def environment(amqp_url: str, postgres_server: str) -> dict[str, str]:
    """Names the RabbitMQ and the PostgreSQL of this run, so that Redis alone is left to be started."""
    given = {name: value for name, value in os.environ.items() if name != REDIS}
    return given | {"TIEOUT_TEST_AMQP_URL": amqp_url, "TIEOUT_TEST_DATABASE_URL": postgres_server}


@can_start_redis
def test_a_server_of_our_own_answers_while_the_command_runs_and_is_gone_afterwards(environment):
    script = PRINT_REDIS + "; import redis; assert redis.Redis.from_url(os.environ['TIEOUT_TEST_REDIS_URL']).ping()"
    run = subprocess.run(
        [*SERVERS, "--own", "--", sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    url = run.stdout.strip()
    assert url != "redis://127.0.0.1:6379/0"
    with pytest.raises(Refused):
        probe_redis(url)


@can_start_redis
def test_a_server_of_our_own_is_stopped_when_the_run_is_terminated(environment):
    script = PRINT_REDIS + "; import signal; signal.pause()"
    with subprocess.Popen(
        [*SERVERS, "--own", "--", sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        url = run.stdout.readline().strip()
        assert probe_redis(url)
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 128 + signal.SIGTERM
    with pytest.raises(Refused):
        probe_redis(url)


def test_the_exit_status_is_the_commands_own(environment, redis_url):
    run = subprocess.run(
        [*SERVERS, "--", sys.executable, "-c", "raise SystemExit(7)"], env=environment | {REDIS: redis_url}, check=False
    )
    assert run.returncode == 7


def test_the_command_is_kept_from_the_callers_own_deployment(environment, redis_url):
    deployment = {"DATABASE_URL": "postgresql://production/db", "AMQP_URL": "amqp://production", "TIEOUT_PREFIX": "p"}
    run = subprocess.run(
        [*SERVERS, "--", sys.executable, "-c", "import os; print(sorted(os.environ))"],
        env=environment | {REDIS: redis_url} | deployment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"'{REDIS}'" in run.stdout
    assert [name for name in deployment if f"'{name}'" in run.stdout] == []


def test_a_server_that_is_named_and_does_not_answer_is_one_clear_error(environment):
    (port,) = free_ports(1)
    named = {"TIEOUT_TEST_AMQP_URL": f"amqp://guest:secret@127.0.0.1:{port}/"}
    run = subprocess.run(
        [*SERVERS, "--", sys.executable, "-c", "print('ran')"], env=environment | named, capture_output=True, text=True
    )
    assert run.returncode == 2
    assert run.stdout == ""
    assert f"TIEOUT_TEST_AMQP_URL names amqp://guest@127.0.0.1:{port}/, which can't be used" in run.stderr
    assert "Traceback" not in run.stderr
    assert "secret" not in run.stderr


def test_a_server_that_ends_while_it_starts_leaves_its_last_words():
    instance = Instance("Tiny", user=None, stop_signal=signal.SIGTERM)
    try:
        instance.spawn(sys.executable, "-c", "raise SystemExit('no room on the disk')")
        with pytest.raises(CannotStart, match=r"Tiny ended while it started:\n.*no room on the disk"):
            instance.wait_until(lambda: False)
    finally:
        instance.stop()
    assert not instance.directory.exists()
