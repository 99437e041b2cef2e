"""Failures: what becomes of a message whose actor raised, and what its author may say about that in Dramatiq's words.

    @dramatiq.actor(max_retries=3)      dead-lettered when it has failed a fourth time; None: tried again for ever
    @dramatiq.actor(throws=KeyError)    dead-lettered at once
    raise Retry(delay=5_000)            tried again when the author says, on the retry tier below that

Without a word it is tried again FAULTS_MAX times. The waits in between are the transport's, so Dramatiq's options for
them (`min_backoff`, `retry_when`, ...) are not known here, and declaring an actor with one fails.
"""

import dramatiq
from dramatiq.broker import MessageProxy
from dramatiq.errors import RateLimitExceeded, Retry
from dramatiq.middleware import Middleware, Shutdown

from broker.backoff import FAULTS_MAX, REQUEUE_PAUSES_MS
from broker.delivery import Delivery
from pipeline.errors import PermanentError, TransientError

#: No fault of the message, however often it happens: an outage, a limit on the rate, a worker that has to leave.
BLAMELESS = (TransientError, RateLimitExceeded, Shutdown)


class Failures(Middleware):
    """Marks a message as failed where trying again is out of the question, so that other middleware knows."""

    @property
    def actor_options(self) -> set[str]:
        return {"max_retries", "throws"}

    def after_process_message(
        self, broker: dramatiq.Broker, message: MessageProxy, *, result: object = None, exception: object = None
    ) -> None:
        assert isinstance(message, Delivery)  # nobody else consumes here
        if isinstance(exception, BaseException) and why_dead(message, exception, broker):
            message.fail()


def why_dead(delivery: Delivery, error: BaseException | None, broker: dramatiq.Broker) -> str | None:
    """Why a message is dead-lettered after this error, or after none; None when it is not."""
    if isinstance(error, PermanentError):
        return f"{error.code.name}: {error}"
    options = broker.get_actor(delivery.actor_name).options
    if error is not None and not isinstance(error, BLAMELESS):
        retries_max = delivery.options.get("max_retries", options.get("max_retries", FAULTS_MAX))
        if isinstance(error, options.get("throws") or ()):
            return f"its actor throws {error!r}"
        if retries_max is not None and delivery.faults >= retries_max:
            return f"failed {delivery.faults + 1} times, last for {error!r}"
    return "failed by its actor or a middleware" if delivery.failed else None


def faults_after(delivery: Delivery, error: BaseException) -> int:
    """How many faults the message has to its name, this one included."""
    return delivery.faults + (not isinstance(error, BLAMELESS))


def pause_ms_after(delivery: Delivery, error: BaseException) -> int:
    """How long to wait before it is tried again: what the error says, else longer each time."""
    asked_ms = error.delay if isinstance(error, Retry) else getattr(error, "retry_after_ms", None)
    if asked_ms is not None:
        return max(0, int(asked_ms))
    return REQUEUE_PAUSES_MS[min(delivery.requeues, len(REQUEUE_PAUSES_MS) - 1)]
