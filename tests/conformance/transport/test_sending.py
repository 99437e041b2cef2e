"""Plain actors: what `send` means inside an actor, outside of one, and on the event loop."""

import asyncio
from concurrent.futures import Future

import dramatiq
import pytest

from broker.delivery import DeliveryInfo
from tests.conformance.transport.conftest import Rig, a_message, until


async def test_a_message_sent_from_a_thread_is_confirmed_when_send_returns(rig: Rig) -> None:
    got: list[tuple[int, str]] = []

    @dramatiq.actor(broker=rig.broker, queue_name="notices.live")
    def notice(number: int, *, text: str) -> None:
        got.append((number, text))

    await rig.open(lambda stage, body, info: None, work=False)
    await asyncio.to_thread(notice.send, 1, text="closed")
    assert (await rig.broker.depths())["notices.live"].ready == 1
    rig.work()
    await until(lambda: rig.broker.counts.acknowledged == 1)
    assert got == [(1, "closed")]


async def test_a_message_sent_within_an_actor_joins_its_acknowledgement(rig: Rig) -> None:
    @dramatiq.actor(broker=rig.broker, queue_name="notices.live")
    def notice(number: int) -> None:
        pass

    requeues: list[int] = []

    def handle(stage: str, body: bytes, info: DeliveryInfo) -> None:
        requeues.append(info.requeues)
        if info.requeues == 0:
            # Nobody has declared this queue: the confirm fails, and the message that sent it must come back.
            notice.broker.enqueue(notice.message(1).copy(queue_name="nobody.live"))
        else:
            notice.send(2)

    await rig.open(handle)
    await rig.publisher.publish([a_message(1)])
    await until(lambda: rig.broker.counts.acknowledged == 2)
    assert requeues == [0, 1]
    await rig.at_rest()


async def test_a_message_sent_by_an_actors_coroutine_joins_its_acknowledgement(rig: Rig) -> None:
    loop = asyncio.get_running_loop()

    @dramatiq.actor(broker=rig.broker, queue_name="notices.live")
    def notice(number: int) -> None:
        pass

    def handle(stage: str, body: bytes, info: DeliveryInfo) -> Future[None]:
        async def work() -> None:
            notice.send(1)

        return asyncio.run_coroutine_threadsafe(work(), loop)

    await rig.open(handle)
    await rig.publisher.publish([a_message(1)])
    await until(lambda: rig.broker.counts.acknowledged == 2)


async def test_sending_on_the_event_loop_outside_an_actor_is_refused(rig: Rig) -> None:
    @dramatiq.actor(broker=rig.broker, queue_name="notices.live")
    def notice(number: int) -> None:
        pass

    await rig.open(lambda stage, body, info: None)
    with pytest.raises(RuntimeError, match=r"await broker\.put"):
        notice.send(1)
