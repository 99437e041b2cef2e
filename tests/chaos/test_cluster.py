"""A cluster of three loses a node, gets it back, loses another, then its majority: nothing is lost or posted twice."""

import asyncio
import csv
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from broker.connection import BrokerUnreachable
from broker.rabbitmq import RabbitBroker
from pipeline.errors import TransientError
from tests.acceptance.declarations import MAPPING, a_small_file, truth_of
from tests.acceptance.product import Product, wait_until
from tests.acceptance.test_main_job import assert_ties_out
from tests.chaos.cluster import Cluster, Node, running_cluster
from tests.conformance.transport.conftest import PREFETCH, Rig, a_message, until
from tests.conformance.transport.test_pipeline import Chain

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

#: What must be confirmed after a node was killed, and before it is started again.
confirmed_meanwhile = 500
window = 50
declarations = 2_400


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Started once for the file; each test leaves it whole."""
    with running_cluster() as cluster:
        yield cluster


@asynccontextmanager
async def broker_on(cluster: Cluster, prefix: str) -> AsyncIterator[Rig]:
    rig = Rig(RabbitBroker(cluster.url, prefix=prefix, prefetch=PREFETCH))
    try:
        yield rig
    finally:
        await rig.stop(grace_ms=0)
        await rig.broker.aclose()


class Load:
    """Publishes one window after the other; one that is not confirmed is published again, as the outbox would."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._wanted = True
        self.confirmed = 0
        self.failures: list[str] = []
        self._task = asyncio.create_task(self._publish())

    async def _publish(self) -> None:
        while self._wanted:
            messages = [a_message(number) for number in range(self.confirmed, self.confirmed + window)]
            try:
                await self._rig.publisher.publish(messages)
                self.confirmed += window
            except TransientError as error:
                self.failures.append(str(error))

    async def goes_on(self) -> None:
        """Wait until so many more are confirmed from now on."""
        aim = self.confirmed + confirmed_meanwhile
        try:
            await until(lambda: self.confirmed >= aim or self._task.done(), timeout_s=60)
        except TimeoutError:
            raise AssertionError(f"{self.confirmed:,} of {aim:,} confirmed after 60 s: {self.failures}") from None
        assert not self._task.done()

    async def end(self) -> set[str]:
        """The records that were confirmed."""
        self._wanted = False
        await self._task
        return {f"record-{number}" for number in range(self.confirmed)}


def node_of(cluster: Cluster, address: str) -> Node:
    """The node with this address."""
    (node,) = [node for node in cluster.nodes if address.endswith(f":{node.port}")]
    return node


async def bring_back(cluster: Cluster, *nodes: Node) -> None:
    for node in nodes:
        node.start()
    for node in nodes:
        await asyncio.to_thread(node.wait)
    await asyncio.to_thread(cluster.wait_in_sync, nodes[0])


async def test_publishing_goes_on_while_one_node_after_the_other_is_killed(cluster: Cluster, prefix: str) -> None:
    async with broker_on(cluster, prefix) as rig:
        chain = Chain(rig)
        await rig.open(chain.handle)
        load = Load(rig)
        await load.goes_on()
        for _ in range(2):
            # The one that takes our messages: the queues that it has declared are led by it as well.
            victim = node_of(cluster, rig.broker._publishing.node)
            await asyncio.to_thread(victim.kill)
            await load.goes_on()
            assert not await asyncio.to_thread(victim.answers)
            assert node_of(cluster, rig.broker._publishing.node) is not victim
            await bring_back(cluster, victim)
        confirmed = await load.end()
        await until(lambda: confirmed <= chain.ended, timeout_s=60)
        await rig.at_rest()
        print(f"{len(confirmed):,} messages, {chain.runs:,} runs, {len(load.failures)} windows sent again")


async def test_a_cluster_without_a_majority_is_waited_for(cluster: Cluster, prefix: str) -> None:
    async with broker_on(cluster, prefix) as rig:
        chain = Chain(rig)
        await rig.open(chain.handle)
        load = Load(rig)
        await load.goes_on()
        first, second, _ = cluster.nodes
        for node in (first, second):
            await asyncio.to_thread(node.kill)
        # The last node pauses itself, once it has noticed: nobody is let in until it has company again.
        async with asyncio.timeout(60):
            while await lets_in(cluster, prefix):
                pass
        await until(lambda: not rig.broker._publishing.is_open and not rig.broker._consuming.is_open)
        confirmed_before = load.confirmed
        await bring_back(cluster, first, second)
        await until(lambda: load.confirmed > confirmed_before, timeout_s=60)
        confirmed = await load.end()
        await until(lambda: confirmed <= chain.ended, timeout_s=60)
        await rig.at_rest()


async def lets_in(cluster: Cluster, prefix: str) -> bool:
    """Whether a process that starts now gets a connection."""
    broker = RabbitBroker(cluster.url, prefix=prefix)
    try:
        await broker.open(timeout_s=2)
    except BrokerUnreachable:
        return False
    await broker.aclose()
    return True


def parts_of(path: Path, count: int) -> list[Path]:
    """The file as several; the events of a declaration stay together."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    numbers = {row[0]: number for number, row in enumerate(rows)}
    bounds = sorted(numbers.values())
    ends = [bounds[len(bounds) * part // count - 1] + 1 for part in range(1, count + 1)]
    parts = []
    for start, end in pairwise([0, *ends]):
        parts.append(path.with_suffix(f".{len(parts)}.csv"))
        with parts[-1].open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows[start:end]])
    return parts


def test_workers_post_every_record_once_while_nodes_are_killed(
    cluster: Cluster, prefix: str, postgresql_url: str, tmp_path: Path
) -> None:
    whole = a_small_file(tmp_path / "declarations.csv", declarations=declarations)
    database_url = postgresql_url.replace("postgresql+psycopg:", "postgresql:", 1)
    product = Product(tmp_path, DATABASE_URL=database_url, AMQP_URL=cluster.url, TIEOUT_PREFIX=prefix)
    product.run("migrate")
    parts = iter(parts_of(whole, 4))
    with (
        psycopg.connect(database_url, autocommit=True) as ledger,
        product.running("worker"),
        product.running("clock"),
    ):

        def count(states: str) -> int:
            found = ledger.execute(f"SELECT count(*) FROM deliveries WHERE state IN ({states})").fetchone()  # no input
            assert found is not None
            return int(found[0])

        for victim in cluster.nodes[:2]:
            before = count("'reconciled'")
            ingest = product.start("ingest", next(parts), "--map", MAPPING, "--lane", "live")
            wait_until(lambda before=before: count("'reconciled'") > before, "the first of these records are posted")
            victim.kill()
            assert count("'in_flight', 'submitted', 'posted'") > 0, "all was over before the node was killed"
            # Accepted, published, worked on and posted without the node.
            product.run("ingest", next(parts), "--map", MAPPING, "--lane", "live")
            assert ingest.wait(timeout=120) == 0, (tmp_path / "ingest.log").read_text()
            wait_until(lambda: product.unfinished() == 0, "every record is at rest")
            assert not victim.answers()
            victim.start()
            victim.wait()
            cluster.wait_in_sync(victim)
    assert_ties_out(product, truth_of(whole))
