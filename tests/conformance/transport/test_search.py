"""Searching the broker for records, in calls as short as the clock's."""

import asyncio
from concurrent.futures import Future

from broker.connection import AmqpConnection, nodes_of
from broker.delivery import DeliveryInfo
from contracts.envelope import BULK
from tests.conformance.transport.conftest import PREFETCH, Rig, a_message

QUEUE = "first.bulk"

#: Shorter than the time after which a marker that is nowhere counts as lost.
CALL_S = 0.2


async def purge(amqp_url: str, queue: str) -> None:
    connection = AmqpConnection(nodes_of(amqp_url), "test")
    await connection.open(timeout_s=10)
    channel = await connection.channel()
    await channel.call("queue_purge", queue=queue)
    await connection.aclose()


async def test_a_marker_lost_with_its_queue_is_noticed_however_short_the_calls_are(
    rabbit: Rig, amqp_url: str, prefix: str
) -> None:
    pending: list[Future[None]] = []

    def handle(stage: str, body: bytes, info: DeliveryInfo) -> Future[None]:
        pending.append(Future())
        return pending[-1]

    await rabbit.open(handle)
    held, waiting = PREFETCH[BULK], 3
    await rabbit.publisher.publish([a_message(number, lane=BULK) for number in range(held + waiting)])
    await rabbit.ready(QUEUE, waiting)
    search = await rabbit.broker.search([QUEUE])
    while not search.hindrance.startswith("still waiting"):
        assert not await search.finish(CALL_S)
    await purge(amqp_url, f"{prefix}.{QUEUE}")
    async with asyncio.timeout(30):
        while not await search.finish(CALL_S):
            pass
    assert len(search.held) == held, "what a worker has in hand is found; what was purged is not"
    await search.close()
