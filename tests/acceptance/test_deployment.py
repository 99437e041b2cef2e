"""The Procfile run for real: release, then every process under honcho, stopped inside the grace with nothing lost."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.declarations import MAPPING, a_small_file, truth_of
from tests.acceptance.product import REPOSITORY, Product, wait_until
from tests.acceptance.test_main_job import assert_ties_out

pytestmark = [pytest.mark.timeout(900), pytest.mark.alone]

grace_s = 10


def honcho(product: Product, log: Path) -> subprocess.Popen[bytes]:
    executable = Path(sys.executable).with_name("honcho")
    environment = product.environment | {"PATH": f"{executable.parent}{os.pathsep}{product.environment['PATH']}"}
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(executable), "-f", str(REPOSITORY / "Procfile"), "start", "worker", "bulk", "clock"],
            cwd=product.folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def test_the_procfile_s_processes_do_the_job_and_stop_inside_the_grace(tmp_path, servers):
    product = Product(tmp_path, **servers)
    path = a_small_file(tmp_path / "declarations.csv")
    product.run("migrate")
    log = tmp_path / "honcho.log"
    processes = honcho(product, log)
    try:
        product.run("ingest", path, "--map", MAPPING, "--lane", "live")
        wait_until(lambda: product.sheets(expect=None) != {}, "work is under way")
        processes.send_signal(signal.SIGTERM)
        processes.wait(timeout=grace_s)
        assert "Traceback" not in log.read_text()
        assert "SIGKILL" not in log.read_text(), "honcho had to kill a process that did not leave by itself"
        processes = honcho(product, log)
        wait_until(lambda: product.unfinished() == 0, "the next processes finish what is left")
    finally:
        processes.send_signal(signal.SIGTERM)
        processes.wait(timeout=30)
    assert_ties_out(product, truth_of(path))


def test_doctor_finds_nothing_wrong_with_a_migrated_deployment(tmp_path, servers):
    product = Product(tmp_path, **servers)
    product.run("migrate")
    report = product.json("doctor")
    assert report["problems"] == []


def test_doctor_says_how_to_mend_a_broker_that_is_not_there(tmp_path, servers):
    product = Product(tmp_path, **(servers | {"AMQP_URL": "amqp://guest:secret@127.0.0.1:1/"}))
    product.run("migrate")
    done = product.run("doctor", expect=1)
    assert "AMQP_URL" in done.stdout
    assert "secret" not in done.stdout + done.stderr
