"""Does a server let us in? One real handshake per kind: log in, and be allowed to do what tests do."""

from collections.abc import Callable
from uuid import uuid4

import pika
import psycopg
import redis

#: Takes a URL; returns a word about the server that answers there.
Probe = Callable[[str], str]

probe_timeout_s = 5


class Refused(Exception):
    """Nothing answers under this URL, or what answers does not let us in; the text says which."""


def probe_amqp(url: str) -> str:
    """Log in and declare a quorum queue.

    Raises:
      Refused: no RabbitMQ here that lets us in and has quorum queues.
    """
    try:
        parameters = pika.URLParameters(url)
        parameters.socket_timeout = parameters.stack_timeout = parameters.blocked_connection_timeout = probe_timeout_s
        with pika.BlockingConnection(parameters) as connection:
            queue, channel = f"tieout-probe-{uuid4().hex}", connection.channel()
            channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum", "x-expires": 60_000})
            channel.queue_delete(queue)
    except Exception as error:  # whatever pika trips over on a server that speaks another protocol
        raise Refused(_one_line(error)) from error
    return "RabbitMQ with quorum queues"


def probe_postgres(url: str) -> str:
    """Log in as someone who may create databases.

    Raises:
      Refused: no PostgreSQL here that lets us in and make databases.
    """
    ask = "select current_setting('server_version'), rolsuper or rolcreatedb from pg_roles where rolname = current_user"
    try:
        with psycopg.connect(url, connect_timeout=probe_timeout_s) as connection:
            row = connection.execute(ask).fetchone()
    except (psycopg.Error, ValueError) as error:
        raise Refused(_one_line(error)) from error
    if row is None or not row[1]:
        raise Refused("its user may not create databases")
    return f"PostgreSQL {str(row[0]).split()[0]}"


def probe_redis(url: str) -> str:
    """Ask for the server's version.

    Raises:
      Refused: no Redis here that lets us in.
    """
    bounds = {"socket_timeout": probe_timeout_s, "socket_connect_timeout": probe_timeout_s}
    try:
        with redis.Redis.from_url(url, retry=None, **bounds) as client:
            return f"Redis {client.info('server')['redis_version']}"
    except (redis.RedisError, OSError, ValueError) as error:
        raise Refused(_one_line(error)) from error


def _one_line(error: Exception) -> str:
    return (" ".join(str(error).split()) or repr(error))[:200]
