"""Control: the notes by which the workers of a deployment say what they have in hand. RabbitMQ tells nobody.

    <prefix>.control            fanout   whoever asks publishes here, whoever works listens here
    <prefix>.control.<worker>   exclusive queue of a worker, gone with its connection
    <prefix>.control.<asker>    exclusive queue of whoever asks, for the answers

A marker is a message that is asked after in the same way: put into a work queue (or into a retry tier, for a work
queue), it says when it comes out, and thereby that everything in front of it has been handed to some worker. It has
the form of a stage's message without records, so a worker too old to know it runs the stage over nothing and
acknowledges it. It has no priority, as all our messages: RabbitMQ 4 keeps a queue in order among equals only.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec
import pika
from loguru import logger

from broker.connection import AmqpChannel
from broker.delivery import Outgoing
from broker.encoding import UNREADABLE, encode_batch
from broker.publishing import ConfirmedPublisher
from contracts.envelope import Batch, Envelope

#: The AMQP type of a marker, and the header that says whom to tell.
MARKER_TYPE = "marker.v1"
REPLY_TO = "x-reply-to"

#: A record's id, and the target it is on its way to ("" before it has been routed).
Part = tuple[str, str]


class RollCall(msgspec.Struct, frozen=True, tag="roll_call.v1"):
    """What do you have in hand, and what have you put back within the last `since_s` seconds?"""

    number: str
    reply_to: str
    since_s: float


class Joined(msgspec.Struct, frozen=True, tag="joined.v1"):
    """A worker is about to consume."""

    worker: str


class Present(msgspec.Struct, frozen=True, tag="present.v1"):
    """A worker's answer to a roll call.

    `consumes` names a queue for each of its consumers. `losses` counts the channels it has lost, with everything that
    was delivered on them. `whole` is false when it has forgotten some of what it had put back.
    """

    number: str
    worker: str
    consumes: tuple[str, ...]
    losses: int
    held: tuple[Part, ...]
    put_back: tuple[Part, ...]
    whole: bool = True


class MarkerOut(msgspec.Struct, frozen=True, tag="marker_out.v1"):
    """A marker has come out of its queue."""

    marker: str


class LiveAtWork(msgspec.Struct, frozen=True, tag="live_at_work.v1"):
    """A worker has just been given live work: whoever does bulk work stands back."""


Note = RollCall | Joined | Present | MarkerOut | LiveAtWork

_notes = msgspec.json.Decoder(Note)


class _Item(msgspec.Struct):
    id: str
    target: str | None = None


class _Batch(msgspec.Struct):
    items: tuple[_Item, ...]


class _Message(msgspec.Struct):
    """Just enough of a stage's message to see which records it drives."""

    args: tuple[_Batch, ...]


_messages = msgspec.json.Decoder(_Message)


def parts_in(body: bytes) -> tuple[Part, ...]:
    """What a message drives; nothing if it is no stage's message."""
    try:
        return tuple((item.id, item.target or "") for batch in _messages.decode(body).args for item in batch.items)
    except UNREADABLE:
        return ()


def read_note(body: bytes) -> Note | None:
    """None for a note of a version that we do not know."""
    try:
        return _notes.decode(body)
    except UNREADABLE as error:
        logger.bind(event="unknown_note").warning("a note on the control exchange can't be read: {}", error)
        return None


def a_marker(queue: str, reply_to: str, delay_ms: int | None = None) -> Outgoing:
    """A marker for a work queue (short name), on its way to it through the tier of this delay."""
    stage, _, lane = queue.partition(".")
    marker = uuid4().hex
    envelope = Envelope(id=marker, source="recover", type=MARKER_TYPE, time=datetime.now(UTC), lane=lane)
    return Outgoing(
        queue=queue,
        body=encode_batch(queue, stage, Batch(envelope=envelope, items=())),
        message_id=marker,
        type=MARKER_TYPE,
        headers={REPLY_TO: reply_to},
        delay_ms=delay_ms,
    )


class Control:
    """The control exchange, as both sides use it."""

    def __init__(self, prefix: str, publisher: ConfirmedPublisher) -> None:
        self.exchange = f"{prefix}.control"
        self._publisher = publisher

    def queue_of(self, name: str) -> str:
        return f"{self.exchange}.{name}"

    async def listen(self, channel: AmqpChannel, name: str, receive: Callable[[Note], None]) -> None:
        """From now on everything told to all, or to `name`, reaches `receive`; until the channel is gone.

        Raises:
          ConnectionLost: the channel or its connection went away.
        """

        def received(_: Any, __: Any, ___: Any, body: bytes) -> None:
            if (note := read_note(body)) is not None:
                receive(note)

        queue = self.queue_of(name)
        await channel.call("exchange_declare", exchange=self.exchange, exchange_type="fanout", durable=True)
        await channel.call("queue_declare", queue=queue, exclusive=True, auto_delete=True)
        await channel.call("queue_bind", queue=queue, exchange=self.exchange, routing_key="")
        await channel.call("basic_consume", queue=queue, on_message_callback=received, auto_ack=True)

    async def tell_all(self, note: Note) -> None:
        """Raises NotConfirmed."""
        await self._publish(self.exchange, "", note)

    async def tell(self, queue: str, note: Note) -> None:
        """Raises NotConfirmed: Unroutable when nobody waits for it any more."""
        await self._publish("", queue, note)

    async def _publish(self, exchange: str, key: str, note: Note) -> None:
        properties = pika.BasicProperties(message_id=uuid4().hex, content_type="application/json", delivery_mode=1)
        await self._publisher.publish(exchange, key, msgspec.json.encode(note), properties)
