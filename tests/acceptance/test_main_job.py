"""The main job on real input: every finally approved declaration is posted once, and both sides tie out."""

import os
import signal
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.declarations import MAPPING, Truth, a_small_file, real_file, truth_of
from tests.acceptance.product import Product, wait_until

pytestmark = pytest.mark.timeout(900)

kills = 10


@pytest.fixture(scope="module")
def declarations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real file where it is present, else one of the same shape."""
    return real_file() or a_small_file(tmp_path_factory.mktemp("export") / "declarations.csv", declarations=4_000)


def assert_ties_out(product: Product, truth: Truth) -> None:
    """Every declaration is in the target once with its amount; those worth nothing wait for a person."""
    product.run("balance")
    sheet = product.sheets()["expense.v1", "EUR"]
    assert sheet["balanced"]
    assert sheet["read"] == sheet["accepted"] == truth.approvals
    assert sheet["reconciled"] == len(truth.amounts) - truth.zero
    assert sheet["dead"] == truth.zero
    assert sheet["duplicate"] + sheet["superseded"] == truth.approvals - len(truth.amounts)
    assert Decimal(sheet["amounts"]["reconciled"]) == truth.total
    assert sheet["stranded"] == 0


def test_the_known_truth_of_the_real_file():
    path = real_file()
    if path is None:
        pytest.skip("the real file is not beside this checkout: the tests below run on one of the same shape")
    truth = truth_of(path)
    assert (truth.rows, len(truth.amounts), truth.total, truth.zero) == (70_727, 6_091, Decimal("4879943.38"), 26)


def test_embedded_the_file_ties_out_and_a_second_run_accepts_nothing_new(tmp_path, declarations):
    product, truth = Product(tmp_path), truth_of(declarations)
    first = product.json("ingest", declarations, "--map", MAPPING)
    assert (first["rows"], first["read"], first["accepted"]) == (truth.rows, truth.approvals, truth.approvals)
    assert_ties_out(product, truth)
    second = product.json("ingest", declarations, "--map", MAPPING)
    assert (second["accepted"], second["seen_before"]) == (0, truth.approvals)
    assert_ties_out(product, truth)


def test_embedded_killed_half_way_and_run_again_loses_nothing(tmp_path, declarations):
    product, truth = Product(tmp_path), truth_of(declarations)
    product.run("migrate")
    process = product.start("ingest", declarations, "--map", MAPPING)
    wait_until(lambda: product.json("balance", expect=None) != [], "the first records are accepted")
    process.send_signal(signal.SIGKILL)
    process.wait()
    product.run("ingest", declarations, "--map", MAPPING)
    assert_ties_out(product, truth)


def test_on_rabbitmq_and_postgresql_with_the_worker_killed_ten_times(tmp_path, declarations, servers):
    product, truth = Product(tmp_path, **servers), truth_of(declarations)
    product.run("migrate")
    # Before the workers, which might have done it all by the time the last record is accepted.
    product.run("ingest", declarations, "--map", MAPPING)
    worker = product.start("worker")
    try:
        steps_per_kill = 5 * truth.approvals // (kills + 5)
        for killed in range(kills):
            wait_until(
                lambda killed=killed: steps_written(servers) >= (killed + 1) * steps_per_kill,
                "the worker makes progress",
            )
            os.killpg(worker.pid, signal.SIGKILL)  # with every process of it: left alone, they would leave in order
            worker.wait()
            assert product.unfinished(expect=0) > 0, "killed on the way, not afterwards; and the balance holds"
            worker = product.start("worker")
        with product.running("clock"):
            wait_until(lambda: product.unfinished() == 0, "everything is at rest", within_s=240)
        assert_ties_out(product, truth)
    finally:
        worker.terminate()
        assert worker.wait(timeout=20) == 0


def steps_written(servers: dict[str, str]) -> int:
    """How far the run has come, asked of the database itself."""
    with psycopg.connect(servers["DATABASE_URL"]) as connection:
        row = connection.execute("select count(*) from steps where stage <> 'ingest'").fetchone()
    return row[0] if row else 0


def test_ingest_killed_half_way_on_the_servers_is_finished_by_the_second_run(tmp_path, declarations, servers):
    product, truth = Product(tmp_path, **servers), truth_of(declarations)
    product.run("migrate")
    with product.running("worker"):
        process = product.start("ingest", declarations, "--map", MAPPING)
        wait_until(lambda: product.json("balance", expect=None) != [], "the first records are accepted")
        process.send_signal(signal.SIGKILL)
        process.wait()
        product.run("ingest", declarations, "--map", MAPPING)
        product.run("recover")
        wait_until(lambda: product.unfinished() == 0, "everything is at rest")
    assert_ties_out(product, truth)
