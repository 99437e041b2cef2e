"""Dead consumer: hands what is in the dead-letter queue to the archive, and answers for it when the roll is called."""

from collections.abc import Callable
from typing import Any

from broker.connection import AmqpConnection
from broker.delivery import DeadDelivery, Outgoing
from broker.roll import Roll
from broker.subscription import Redeclare, Subscription


class DeadConsumer:
    """Consumes from the moment it is made. Whatever `receive` is given stays in hand until it is acknowledged."""

    def __init__(
        self,
        connection: AmqpConnection,
        queue: str,
        prefetch: int,
        roll: Roll,
        receive: Callable[[DeadDelivery], None],
        redeclare: Redeclare,
    ) -> None:
        self._roll, self._receive = roll, receive
        roll.hands[self] = {}
        self._subscription = Subscription(connection, queue, prefetch, self._received, redeclare, self._lost)

    async def close(self) -> None:
        """What is not acknowledged goes back to the queue."""
        await self._subscription.close()
        del self._roll.hands[self]

    def _received(self, epoch: int, method: Any, properties: Any, body: bytes) -> None:
        tag, message_id = method.delivery_tag, properties.message_id

        def lost() -> bool:
            return epoch != self._subscription.epoch

        def acknowledge() -> None:
            if not lost():
                self._roll.hands[self].pop(tag, None)
                self._subscription.acknowledge(epoch, tag)

        self._roll.hands[self][tag] = Outgoing(queue="dead", body=body, message_id=message_id or "")
        self._receive(
            DeadDelivery(
                body=body,
                headers=properties.headers or {},
                routing_key=method.routing_key,
                message_id=message_id,
                type=properties.type,
                acknowledge=acknowledge,
                lost=lost,
            )
        )

    def _lost(self, _: int) -> None:
        self._roll.lost(self)
