"""Many messages through three stages: none is lost, whatever happens to the connections on the way."""

import asyncio
import threading

import msgspec
import pytest

from broker.delivery import Begin, DeliveryInfo
from contracts.envelope import Batch
from pipeline.ports import Message
from tests.conformance.transport.conftest import Rig, a_message, until

NEXT = {"first": "second", "second": "third"}
MESSAGES = 2_000


class Chain:
    """Hands each message on to the next stage; its acknowledgement waits for that publish."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self.ended: set[str] = set()
        self.runs = 0

    def handle(self, stage: str, body: bytes, info: DeliveryInfo) -> Begin | None:
        batch = msgspec.json.decode(body, type=Batch)
        with self._lock:
            self.runs += 1
            if stage not in NEXT:
                self.ended.update(item.id for item in batch.items)
                return None
        onward = Message(stage=NEXT[stage], batch=batch)
        return lambda: [asyncio.ensure_future(self._rig.publisher.publish([onward]))]


async def publish_all(rig: Rig, count: int) -> None:
    for start in range(0, count, 200):
        await rig.publisher.publish([a_message(number) for number in range(start, min(start + 200, count))])


async def test_two_thousand_messages_pass_three_stages(rig: Rig) -> None:
    chain = Chain(rig)
    await rig.open(chain.handle)
    await publish_all(rig, MESSAGES)
    await until(lambda: rig.broker.counts.acknowledged == 3 * MESSAGES, timeout_s=60)
    assert len(chain.ended) == MESSAGES
    assert chain.runs == 3 * MESSAGES
    await rig.at_rest()


@pytest.mark.slow
async def test_none_is_lost_when_the_connections_break_on_the_way(rig: Rig) -> None:
    chain = Chain(rig)
    await rig.open(chain.handle, work=False)
    await publish_all(rig, MESSAGES)
    rig.work()
    for share in (0.3, 0.6):
        await until(lambda share=share: len(chain.ended) >= share * MESSAGES, timeout_s=60)
        await rig.lose_channels()
    await until(lambda: len(chain.ended) == MESSAGES, timeout_s=60)
    await rig.at_rest()


async def test_ingestion_waits_until_there_is_room(rig: Rig) -> None:
    chain = Chain(rig)
    await rig.open(chain.handle)
    for number in range(1_500):
        await rig.broker.has_room()
        await rig.publisher.publish([a_message(number)])
    await until(lambda: len(chain.ended) == 1_500, timeout_s=60)
    await rig.at_rest()
