"""Real servers for the acceptance tests: a database of its own, names of its own on the broker, removed afterwards."""

from collections.abc import Iterator

import pika
import pytest

from actors import STAGES
from broker.binding import queue_of
from broker.topology import Topology
from contracts.envelope import LANES


@pytest.fixture
def servers(postgresql_url: str, amqp_url: str, prefix: str) -> Iterator[dict[str, str]]:
    """Environment variables of a deployment of its own on the real servers."""
    database_url = postgresql_url.replace("postgresql+psycopg:", "postgresql:", 1)
    yield {"DATABASE_URL": database_url, "AMQP_URL": amqp_url, "TIEOUT_PREFIX": prefix}
    remove(amqp_url, prefix)


def remove(amqp_url: str, prefix: str) -> None:
    """Take a deployment's queues and exchanges off the broker."""
    topology = Topology(prefix, tuple(queue_of(stage.name, lane) for stage in STAGES for lane in LANES))
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel = connection.channel()
        for queue in topology.queues:
            channel.queue_delete(queue.name)
        for exchange in topology.exchanges:
            channel.exchange_delete(exchange.name)
