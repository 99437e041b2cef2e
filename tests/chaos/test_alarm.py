"""An operator's view of a memory alarm: status shows it, ingestion says that it waits, and goes on by itself."""

from pathlib import Path

import pytest

from tests.acceptance.declarations import MAPPING, a_small_file, truth_of
from tests.acceptance.product import Product, wait_until
from tests.acceptance.test_main_job import assert_ties_out
from tests.chaos.cluster import running_cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def test_an_alarm_is_shown_and_waited_out(postgresql_url: str, prefix: str, tmp_path: Path) -> None:
    file = a_small_file(tmp_path / "declarations.csv", declarations=900)
    with running_cluster(1) as cluster:
        (node,) = cluster.nodes
        product = Product(
            tmp_path,
            DATABASE_URL=postgresql_url.replace("postgresql+psycopg:", "postgresql:", 1),
            AMQP_URL=node.url,
            TIEOUT_PREFIX=prefix,
        )
        product.run("migrate")
        assert product.json("status")["alarm"] is None
        node.control("set_vm_memory_high_watermark", "0.000001")
        found = product.json("status", expect=1)
        assert (found["alarm"], found["stuck"]) == ("low on memory", True)
        assert "RabbitMQ takes no messages: low on memory" in product.run("status", expect=1).stdout
        ingest = product.start("ingest", file, "--map", MAPPING)
        log = tmp_path / "ingest.log"
        wait_until(lambda: "low on memory. Waiting" in log.read_text(), "ingestion says that it waits")
        # Accepted as far as there is room for what is under way; nothing of it on its way.
        assert all(sheet["reconciled"] == 0 for sheet in product.sheets(expect=None).values())
        assert ingest.poll() is None
        node.control("set_vm_memory_high_watermark", "0.4")
        assert ingest.wait(timeout=60) == 0, log.read_text()
        assert "takes messages again" in log.read_text()
        assert product.json("status", expect=None)["owed"] == 0
        with product.running("worker"):
            wait_until(lambda: product.unfinished() == 0, "every record is at rest")
        assert_ties_out(product, truth_of(file))
        assert product.json("status")["alarm"] is None
