"""Delivery: one message in one worker's hands, until everything it caused is durable."""

import asyncio
import concurrent.futures
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import dramatiq
import msgspec
from dramatiq.broker import MessageProxy
from dramatiq.middleware import CurrentMessage

from pipeline.errors import TransientError

if TYPE_CHECKING:
    from broker.consumer import LaneConsumer

Completion = asyncio.Future[Any] | concurrent.futures.Future[Any]

#: What is still to be begun once the actor has returned: called on the event loop, it gives the futures to wait for.
Begin = Callable[[], Iterable[Completion]]

#: How often the message has been put back on a retry tier because its worker could not finish it.
REQUEUES = "x-requeues"

#: How many of those times for an error that nobody planned for.
FAULTS = "x-faults"

#: How often a quorum queue has got the message back without an answer.
DELIVERY_COUNT = "x-delivery-count"

#: Why it was put back last.
REQUEUE_REASON = "x-requeue-reason"

#: Numbers of others end here: beyond 64 bits none can be sent again, and one more must still fit.
NUMBER_MAX = 2**62

#: How many records the message carries.
RECORDS = "records"

#: When a message whose delay is longer than its tier is due, in milliseconds since 1970.
DUE = "x-due"

#: Headers of ours or of the publisher survive a requeue; the server's own account of a message does not.
_SERVER_HEADERS = ("x-death", "x-first-death-", "x-last-death-", DELIVERY_COUNT, "x-acquired-count")


class NotConfirmed(TransientError):
    """The broker did not say that it has the message; it may have it nevertheless."""


class ConfirmLost(NotConfirmed):
    """The connection was lost before the broker could say so."""


class Unroutable(NotConfirmed):
    """No queue takes this routing key: nobody has declared the stage."""


def own_headers(headers: dict[str, Any]) -> dict[str, Any]:
    """The headers that may be published again."""
    return {name: value for name, value in headers.items() if not name.startswith(_SERVER_HEADERS)}


def whole_number(value: object) -> int:
    """A header's number; 0 when it is missing or something else, for anybody may publish to us.

    Always a plain `int`: pika's own kind of it (`long`) can't be encoded.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return 0
    return max(-NUMBER_MAX, min(NUMBER_MAX, int(value))) if isinstance(value, int | float) else 0


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A message to be put where it survives: `queue` is a short name (`validate.live`), `type` the document type."""

    queue: str
    body: bytes
    message_id: str
    type: str | None = None
    correlation_id: str | None = None
    headers: dict[str, Any] = {}
    delay_ms: int | None = None


class DeliveryInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage's handler may know about the message besides its batch.

    `setbacks`: how often it came back because it raised something unplanned, or its worker gave no answer.
    """

    message_id: str
    stage: str
    lane: str
    requeues: int
    redelivered: bool
    setbacks: int = 0


class Delivery(MessageProxy):
    """A Dramatiq message and where its acknowledgement goes: to `tag` on the channel of `epoch`, and nowhere else.

    Dramatiq says "acknowledge" when the actor has returned. The broker hears of it once every future the actor left
    here has resolved; one that fails puts the message back.
    """

    def __init__(
        self, message: dramatiq.Message[Any], consumer: "LaneConsumer", epoch: int, tag: int, origin: Outgoing
    ) -> None:
        super().__init__(message)
        self.consumer = consumer
        self.epoch = epoch
        self.tag = tag
        self.origin = origin
        self.redelivered = False
        self.in_hand = False
        #: How many records it carries, as its sender says; a message that says nothing is one.
        self.records = max(1, whole_number(origin.headers.get(RECORDS)))
        self.settled = False
        self.error: BaseException | None = None
        self.unfinished: list[Completion] = []
        self._begins: tuple[Begin, ...] = ()

    def finish_with(self, completion: Completion) -> None:
        """The message is done when this future is, at the earliest. Call it before the actor returns."""
        self.unfinished.append(completion)

    def finish_by(self, begin: Begin) -> None:
        """The same for work on the event loop, begun there once the actor has returned: one crossing, not two."""
        self._begins += (begin,)

    def begin(self) -> None:
        """Begin what the actor has left to be done on the loop; after an error there is nothing to finish."""
        begins, self._begins = self._begins, ()
        if self.error is None:
            for begin in begins:
                self.unfinished += begin()

    def stuff_exception(self, exception: BaseException) -> None:
        """The actor raised: whatever Dramatiq makes of it, the message is not done."""
        super().stuff_exception(exception)
        self.error = exception

    @property
    def stale(self) -> bool:
        """The channel it came through is gone, and the broker has given the message to somebody else."""
        return self.epoch != self.consumer.epoch

    @property
    def requeues(self) -> int:
        return whole_number(self.origin.headers.get(REQUEUES))

    @property
    def faults(self) -> int:
        return whole_number(self.origin.headers.get(FAULTS))

    @property
    def info(self) -> DeliveryInfo:
        stage, _, lane = self.origin.queue.partition(".")
        unanswered = whole_number(self.origin.headers.get(DELIVERY_COUNT)) or int(self.redelivered)
        return DeliveryInfo(
            message_id=self.message_id,
            stage=stage,
            lane=lane,
            requeues=self.requeues,
            redelivered=self.redelivered,
            setbacks=self.faults + unanswered,
        )

    # A delivery is itself, not its message: the same message may be delivered twice.
    __eq__ = object.__eq__
    __hash__ = object.__hash__


def current_delivery() -> Delivery | None:
    """The delivery this code runs for, in the actor and in whatever the actor has started; None elsewhere."""
    message = CurrentMessage.get_current_message()
    return message if isinstance(message, Delivery) else None


class DeadDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """A message of the dead-letter queue. `lost()` is true once the queue has taken it back."""

    body: bytes
    headers: dict[str, Any]
    routing_key: str
    message_id: str | None
    type: str | None
    acknowledge: Callable[[], None]
    lost: Callable[[], bool]
