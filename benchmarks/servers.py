"""The servers of a run: names of its own on them, what they cost, and a clean-up that leaves them as they were."""

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import msgspec
import pika
import psycopg
from pika.exceptions import ChannelClosedByBroker
from psycopg import sql
from sqlalchemy.engine import make_url

from benchmarks.processes import cpu_s, listening_on
from store.database import migrate


def own_name() -> str:
    """A name that nobody else uses on these servers."""
    return f"tieout_bench_{secrets.token_hex(4)}"


class Servers(msgspec.Struct, frozen=True):
    """Where they are, and their processes where they are ours to see."""

    amqp_url: str
    database_url: str
    pids: dict[str, int]

    @classmethod
    def at(cls, amqp_url: str, database_url: str) -> "Servers":
        ports = {"rabbitmq": urlsplit(amqp_url).port or 5672, "postgresql": urlsplit(database_url).port or 5432}
        found = {name: listening_on(port) for name, port in ports.items()}
        return cls(amqp_url, database_url, {name: pid for name, pid in found.items() if pid})

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds by server, whoever they worked for."""
        return {name: cpu_s([pid]) for name, pid in self.pids.items()}

    def versions(self) -> dict[str, str]:
        with amqp(self.amqp_url) as connection:
            properties = connection._impl.server_properties
        with psycopg.connect(self._libpq()) as database:
            postgresql = database.info.parameter_status("server_version") or "unknown"
        return {"rabbitmq": _text(properties.get("version")), "postgresql": postgresql.split()[0]}

    @contextmanager
    def database(self) -> Iterator[str]:
        """A new database with the current schema, dropped at the end whoever may still be connected."""
        name = own_name()
        with psycopg.connect(self._libpq(), autocommit=True, connect_timeout=10) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            url = make_url(self.database_url).set(drivername="postgresql+psycopg", database=name)
            migrate(url.render_as_string(hide_password=False))
            yield url.render_as_string(hide_password=False)
        finally:
            with psycopg.connect(self._libpq(), autocommit=True, connect_timeout=10) as admin:
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _libpq(self) -> str:
        return make_url(self.database_url).set(drivername="postgresql").render_as_string(hide_password=False)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@contextmanager
def amqp(url: str) -> Iterator[pika.BlockingConnection]:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield connection
    finally:
        connection.close()


def standing(connection: pika.BlockingConnection, queue: str) -> tuple[int, int] | None:
    """How many messages are ready in a queue and how many consumers it has; None when it is not there."""
    try:
        channel = connection.channel()
        answer = channel.queue_declare(queue, passive=True).method
        channel.close()
        return answer.message_count, answer.consumer_count
    except ChannelClosedByBroker:
        return None


def exchange_exists(connection: pika.BlockingConnection, name: str) -> bool:
    try:
        channel = connection.channel()
        channel.exchange_declare(name, passive=True)
        channel.close()
        return True
    except ChannelClosedByBroker:
        return False


def remove(url: str, queues: Iterable[str], exchanges: Iterable[str]) -> None:
    """Delete them; what is not there is fine."""
    with amqp(url) as connection:
        channel = connection.channel()
        for queue in queues:
            channel.queue_delete(queue)
        for exchange in exchanges:
            channel.exchange_delete(exchange)
