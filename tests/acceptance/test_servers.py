"""The servers that `make test` found or started are real, and do what the tests ask of them."""

from uuid import uuid4

import pika
import psycopg
import pytest
import redis


def test_rabbitmq_keeps_a_confirmed_message_in_a_quorum_queue(amqp_url: str):
    queue = f"tieout-test-{uuid4().hex}"
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
        try:
            channel.basic_publish("", queue, b"tie out", mandatory=True)
            _, _, body = next(channel.consume(queue, auto_ack=True, inactivity_timeout=30))
            channel.cancel()
            assert body == b"tie out"
        finally:
            channel.queue_delete(queue)


def test_postgresql_lets_the_tests_make_databases_of_their_own(postgres_server: str):
    name = f"tieout_test_{uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"create database {name}")  # a name made here, and no parameter goes there
        connection.execute(f"drop database {name}")
        with pytest.raises(psycopg.errors.InvalidCatalogName):
            connection.execute(f"drop database {name}")


def test_redis_remembers(redis_url: str):
    key = f"tieout-test-{uuid4().hex}"
    with redis.Redis.from_url(redis_url) as client:
        client.set(key, b"tie out", ex=60)
        assert client.get(key) == b"tie out"
        client.delete(key)
