"""Stale deliveries: not worth starting, since the broker has already given the message to somebody else."""

import dramatiq
from dramatiq.broker import MessageProxy
from dramatiq.middleware import Middleware, SkipMessage

from broker.delivery import Delivery


class StaleDeliveries(Middleware):
    """Skips a message whose channel was lost while it waited for a thread, and notes the ones that do start."""

    def before_process_message(self, broker: dramatiq.Broker, message: MessageProxy) -> None:
        assert isinstance(message, Delivery)  # nobody else consumes here
        if message.stale or message.consumer.draining:
            raise SkipMessage(f"{message.message_id} has gone back to {message.queue_name}")
        message.consumer.started.add(message)
