"""Asking the server itself, past the broker under test: what it holds, how it was declared, what it gives up.

Everything here blocks: `await asyncio.to_thread(get, ...)`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from broker.topology import Queue, Topology

wait_s_max = 30


class Got(NamedTuple):
    """A message as it lies in a queue."""

    method: Any
    properties: pika.BasicProperties
    body: bytes


@contextmanager
def channel_to(amqp_url: str) -> Iterator[BlockingChannel]:
    """A channel of its own; closing it gives back what was got and not acknowledged."""
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        yield connection.channel()


def look_into(amqp_url: str, queue: str) -> Got:
    """The first message of the queue, which stays there."""
    with channel_to(amqp_url) as channel:
        return get(channel, queue)


def get(channel: BlockingChannel, queue: str) -> Got:
    """The next message of the queue, waited for; it stays unacknowledged."""
    deadline = time.monotonic() + wait_s_max
    while time.monotonic() < deadline:
        method, properties, body = channel.basic_get(queue)
        if method is not None:
            return Got(method, properties, body)
        time.sleep(0.02)
    raise AssertionError(f"nothing came to {queue} within {wait_s_max} s")


def refusal_of(amqp_url: str, queue: Queue, **changed: Any) -> str:
    """What the server says when the queue is declared with other arguments: it names the one it has itself."""
    arguments = queue.arguments | {name.replace("_", "-"): value for name, value in changed.items()}
    with channel_to(amqp_url) as channel:
        try:
            channel.queue_declare(queue.name, durable=True, arguments=arguments)
        except ChannelClosedByBroker as error:
            return error.reply_text
    raise AssertionError(f"{queue.name} is declared with {arguments}")


def give_up(amqp_url: str, topology: Topology, stage: str, body: bytes, **properties: Any) -> None:
    """A message that came back from its workers too often, so that the server dead-letters it as a stage's queue would.

    The limit of the stages' own queues is the operator's policy, hence a queue beside them, with theirs as an argument.
    """
    queue = f"{topology.prefix}.{stage}.limited"
    arguments = topology.work_queue(f"{stage}.live").arguments | {"x-delivery-limit": 1}
    with channel_to(amqp_url) as channel:
        watch = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(watch, topology.dead, f"{stage}.#")
        channel.queue_declare(queue, durable=True, arguments=arguments)
        channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2, **properties))
        for _ in range(2):
            channel.basic_reject(get(channel, queue).method.delivery_tag, requeue=True)
        # The queue keeps it until the dead-letter exchange has confirmed it, so not before may it be deleted.
        get(channel, watch)
        channel.queue_delete(queue)
