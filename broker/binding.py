"""Binding: each stage becomes one Dramatiq actor with a queue per lane, and the pipeline's publisher a broker's."""

from collections.abc import Awaitable, Callable, Iterable, Sequence

import dramatiq

from broker.delivery import RECORDS, Begin, Completion, DeliveryInfo, Outgoing, current_delivery
from broker.encoding import encode_batch
from broker.transport import Transport
from contracts.envelope import LANES, LIVE
from contracts.failure import DeadLetter
from pipeline.ports import Message
from pipeline.stage import Stage

#: (stage name, the encoded Batch, what else is known) -> what the acknowledgement waits for, or what begins that
Handle = Callable[[str, bytes, DeliveryInfo], Completion | Begin | None]


def queue_of(stage: str, lane: str) -> str:
    """The short name of a work queue, which is also its routing key."""
    return f"{stage}.{lane}"


def bind(broker: Transport, stages: Iterable[Stage], handle: Handle) -> None:
    """Declare every stage's actor and queues; before `broker.open()`, which declares them on the server.

    `handle` is called on a worker thread. The message is acknowledged when it has returned and the future it returned
    has resolved (or those that what it returned has begun on the event loop); when any fails the message is put back.
    """
    for stage in stages:
        _bind_one(broker, stage.name, handle)


def _bind_one(broker: Transport, stage: str, handle: Handle) -> None:
    def run(batch: bytes) -> None:
        delivery = current_delivery()
        assert delivery is not None  # the CurrentMessage middleware is always there
        rest = handle(stage, batch, delivery.info)
        if callable(rest):
            delivery.finish_by(rest)
        elif rest is not None:
            delivery.finish_with(rest)

    dramatiq.actor(actor_name=stage, queue_name=queue_of(stage, LIVE), broker=broker, raw=True)(run)
    for lane in LANES:
        broker.declare_queue(queue_of(stage, lane))


class BrokerPublisher:
    """`pipeline.ports.Publisher` on either broker."""

    def __init__(self, broker: Transport) -> None:
        self._broker = broker

    def publish(self, messages: Sequence[Message]) -> Awaitable[None]:
        """Done when every message is confirmed; raises TransientError when one is not."""
        return self._broker.put([self._outgoing(message) for message in messages])

    async def publish_dead(self, letters: Sequence[DeadLetter]) -> None:
        """Return when every letter is confirmed; raises TransientError when one is not."""
        await self._broker.put_dead(letters)

    @staticmethod
    def _outgoing(message: Message) -> Outgoing:
        envelope, items = message.batch.envelope, message.batch.items
        queue = queue_of(message.stage, envelope.lane)
        headers = {"source": envelope.source, RECORDS: len(items), "attempt": envelope.attempt}
        if envelope.traceparent:
            headers["traceparent"] = envelope.traceparent
        conversations = {item.correlationid for item in items}
        return Outgoing(
            queue=queue,
            body=encode_batch(queue, message.stage, message.batch),
            message_id=envelope.id,
            type=envelope.type,
            correlation_id=conversations.pop() if len(conversations) == 1 else None,
            headers=headers,
            delay_ms=message.delay_ms,
        )
