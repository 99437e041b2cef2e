"""What every transport promises about one message: delivered, and acknowledged when all it caused is durable."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future

import dramatiq
import pytest

from broker.backoff import FAULTS_MAX
from broker.delivery import FAULTS, REQUEUES, DeliveryInfo, NotConfirmed, Outgoing
from broker.embedded import EmbeddedBroker
from broker.encoding import encode_batch
from contracts.envelope import BULK
from pipeline.codes import UNDECODABLE
from pipeline.errors import PermanentError, TransientError
from tests.conformance.transport.conftest import Rig, a_message, subject_of, until


async def test_what_is_published_is_delivered_once_to_its_stage(rig: Rig) -> None:
    seen: list[tuple[str, str, str]] = []

    def handle(stage: str, body: bytes, info: DeliveryInfo) -> None:
        seen.append((stage, info.lane, subject_of(body)))

    await rig.open(handle)
    await rig.publisher.publish([a_message(1), a_message(2, "second"), a_message(3, lane=BULK)])
    await until(lambda: rig.broker.counts.acknowledged == 3)
    assert sorted(seen) == [("first", "bulk", "3"), ("first", "live", "1"), ("second", "live", "2")]
    await rig.at_rest()


async def test_a_message_is_not_acknowledged_before_its_completion(rig: Rig) -> None:
    completion: Future[None] = Future()
    seen: list[str] = []

    def handle(stage: str, body: bytes, info: DeliveryInfo) -> Future[None]:
        seen.append(subject_of(body))
        return completion

    await rig.open(handle)
    await rig.publisher.publish([a_message(1)])
    await until(lambda: seen)
    await rig.lose_channels()
    await until(lambda: len(seen) == 2)
    assert rig.broker.counts.acknowledged == 0
    completion.set_result(None)
    await until(lambda: rig.broker.counts.acknowledged == 1)
    await until(lambda: rig.broker.counts.stale == 1)
    await rig.at_rest()


async def test_a_late_acknowledgement_does_not_reach_another_message(rig: Rig) -> None:
    completions: dict[str, list[Future[None]]] = {"1": [], "2": []}

    def handle(stage: str, body: bytes, info: DeliveryInfo) -> Future[None]:
        completion: Future[None] = Future()
        completions[subject_of(body)].append(completion)
        return completion

    await rig.open(handle)
    await rig.publisher.publish([a_message(1)])
    await until(lambda: completions["1"])
    await rig.lose_channels()
    await until(lambda: len(completions["1"]) == 2)
    await rig.publisher.publish([a_message(2)])
    await until(lambda: completions["2"])
    late = completions["1"][0]
    late.set_result(None)
    await until(lambda: rig.broker.counts.stale == 1)
    assert rig.broker.counts.acknowledged == 0
    await rig.stop(grace_ms=0)
    await rig.ready("first.live", 2)


async def test_a_failed_completion_brings_the_message_back(rig: Rig) -> None:
    requeues: list[int] = []

    def handle(stage: str, body: bytes, info: DeliveryInfo) -> Future[None]:
        requeues.append(info.requeues)
        completion: Future[None] = Future()
        if info.requeues:
            completion.set_result(None)
        else:
            completion.set_exception(TransientError("the ledger is locked"))
        return completion

    await rig.open(handle)
    await rig.publisher.publish([a_message(1)])
    await until(lambda: rig.broker.counts.acknowledged == 1)
    assert requeues == [0, 1]
    await rig.at_rest()


async def test_an_exception_in_the_actor_brings_the_message_back(rig: Rig) -> None:
    requeues: list[int] = []

    def handle(stage: str, body: bytes, info: DeliveryInfo) -> None:
        requeues.append(info.requeues)
        if not info.requeues:
            raise ZeroDivisionError("a defect")

    await rig.open(handle)
    await rig.publisher.publish([a_message(1)])
    await until(lambda: rig.broker.counts.acknowledged == 1)
    assert requeues == [0, 1]
    await rig.at_rest()


async def test_an_asyncio_completion_counts_like_any_other(rig: Rig) -> None:
    loop = asyncio.get_running_loop()
    gate = asyncio.Event()

    def handle(stage: str, body: bytes, info: DeliveryInfo) -> Future[None]:
        async def wait() -> None:
            await gate.wait()

        return asyncio.run_coroutine_threadsafe(wait(), loop)

    await rig.open(handle)
    await rig.publisher.publish([a_message(number) for number in range(20)])
    await until(lambda: sum(len(consumer.started) for consumer in rig.broker.consumers) == 20)
    assert rig.broker.counts.acknowledged == 0
    gate.set()
    await until(lambda: rig.broker.counts.acknowledged == 20)
    await rig.at_rest()


async def test_a_permanent_error_goes_to_the_dead_letters(rig: Rig) -> None:
    def handle(stage: str, body: bytes, info: DeliveryInfo) -> None:
        raise PermanentError(UNDECODABLE, "not a batch")

    await rig.open(handle)
    await rig.publisher.publish([a_message(1)])
    await until(lambda: rig.broker.counts.rejected == 1)
    await rig.ready("dead", 1)
    await rig.stop()
    assert (await rig.broker.depths())["first.live"].ready == 0


@pytest.mark.parametrize("body", [b"\xff\x00 not json", b"{}", b'{"queue_name":"first.live"'], ids=repr)
async def test_an_undecodable_body_is_dead_lettered_and_nothing_else_stops(rig: Rig, body: bytes) -> None:
    await rig.open(lambda stage, body, info: None)
    await rig.broker.put([Outgoing(queue="first.live", body=body, message_id="odd")])
    await rig.publisher.publish([a_message(1)])
    await until(lambda: rig.broker.counts.acknowledged == 1)
    await rig.ready("dead", 1)


async def test_a_message_for_an_actor_nobody_declared_is_dead_lettered(rig: Rig) -> None:
    await rig.open(lambda stage, body, info: None)
    stranger = dramatiq.Message(queue_name="first.live", actor_name="stranger", args=(), kwargs={}, options={})
    await rig.broker.put([Outgoing(queue="first.live", body=stranger.encode(), message_id="stranger")])
    await rig.ready("dead", 1)


async def test_a_delayed_message_comes_not_before_its_time(rig: Rig) -> None:
    loop = asyncio.get_running_loop()
    arrived: list[float] = []
    await rig.open(lambda stage, body, info: arrived.append(loop.time()))
    published = loop.time()
    await rig.publisher.publish([a_message(1, delay_ms=1_000)])
    assert sum(depth.ready for name, depth in (await rig.broker.depths()).items() if name.startswith("retry")) == 1
    await until(lambda: rig.broker.counts.acknowledged == 1)
    assert arrived[0] - published >= 0.95


async def test_a_delay_between_two_tiers_goes_round_again(rig: Rig) -> None:
    loop = asyncio.get_running_loop()
    arrived: list[float] = []
    await rig.open(lambda stage, body, info: arrived.append(loop.time()))
    published = loop.time()
    await rig.publisher.publish([a_message(1, delay_ms=2_200)])
    await until(lambda: rig.broker.counts.acknowledged == 1)
    assert len(arrived) == 1
    assert arrived[0] - published >= 1.7


async def test_publishing_to_a_stage_without_a_queue_fails_loudly(rig: Rig) -> None:
    await rig.open(lambda stage, body, info: None)
    with pytest.raises(TransientError, match="nowhere"):
        await rig.publisher.publish([a_message(1), a_message(2, "nowhere")])


async def test_prefetch_bounds_what_is_unsettled(rig: Rig) -> None:
    completions: list[Future[None]] = []

    def handle(stage: str, body: bytes, info: DeliveryInfo) -> Future[None]:
        completions.append(Future())
        return completions[-1]

    await rig.open(handle)
    await rig.publisher.publish([a_message(number, lane=BULK) for number in range(12)])
    await until(lambda: len(completions) == 8)
    for completion in completions[:4]:
        completion.set_result(None)
    await until(lambda: len(completions) == 12)
    for completion in completions[4:]:
        completion.set_result(None)
    await until(lambda: rig.broker.counts.acknowledged == 12)


async def test_a_stop_lets_running_messages_finish_and_loses_none(rig: Rig) -> None:
    running, release = threading.Event(), threading.Event()
    finished: list[str] = []

    def handle(stage: str, body: bytes, info: DeliveryInfo) -> None:
        running.set()
        release.wait(30)
        finished.append(subject_of(body))

    await rig.open(handle, work=False)
    rig.work(threads=1)
    await rig.publisher.publish([a_message(number) for number in range(50)])
    await until(running.is_set)
    stopping = asyncio.create_task(rig.stop(grace_ms=20_000))
    await until(lambda: all(consumer.draining for consumer in rig.broker.consumers))
    release.set()
    await stopping
    done = rig.broker.counts.acknowledged
    assert done == len(finished) >= 1
    await rig.ready("first.live", 50 - done)
    rig.work()
    await until(lambda: rig.broker.counts.acknowledged == 50)
    assert len(finished) == len(set(finished)) == 50


async def test_what_outlives_the_grace_is_delivered_again(rig: Rig) -> None:
    seen: list[bool] = []

    def handle(stage: str, body: bytes, info: DeliveryInfo) -> Future[None] | None:
        seen.append(info.redelivered)
        return Future() if len(seen) == 1 else None

    await rig.open(handle)
    await rig.publisher.publish([a_message(1)])
    await until(lambda: seen)
    await rig.stop(grace_ms=50)
    rig.work()
    await until(lambda: rig.broker.counts.acknowledged == 1)
    assert seen == [False, True]


async def test_a_defect_that_never_ends_is_dead_lettered_after_so_many_times(rig: Rig) -> None:
    def handle(stage: str, body: bytes, info: DeliveryInfo) -> None:
        raise ZeroDivisionError("a defect")

    await rig.open(handle)
    body = encode_batch("first.live", "first", a_message(1).batch)
    tired = Outgoing(queue="first.live", body=body, message_id="tired", headers={FAULTS: FAULTS_MAX})
    await rig.broker.put([tired])
    await rig.ready("dead", 1)


async def test_an_outage_never_makes_a_dead_letter(rig: Rig) -> None:
    def handle(stage: str, body: bytes, info: DeliveryInfo) -> None:
        raise TransientError("the database is away")

    await rig.open(handle)
    body = encode_batch("first.live", "first", a_message(1).batch)
    tired = Outgoing(
        queue="first.live", body=body, message_id="tired", headers={REQUEUES: FAULTS_MAX, FAULTS: FAULTS_MAX}
    )
    await rig.broker.put([tired])
    await until(lambda: rig.broker.counts.requeued == 1)
    async with asyncio.timeout(30):
        while True:
            depths = await rig.broker.depths()
            if sum(depth.ready for name, depth in depths.items() if name.startswith("retry")) == 1:
                break
            await asyncio.sleep(0.05)
    assert depths["dead"].ready == 0


async def test_a_stop_waits_for_completions_too(rig: Rig) -> None:
    completion: Future[None] = Future()
    await rig.open(lambda stage, body, info: completion)
    await rig.publisher.publish([a_message(1)])
    await until(lambda: any(consumer.started for consumer in rig.broker.consumers))
    stopping = asyncio.create_task(rig.stop(grace_ms=20_000))
    await asyncio.sleep(0.6)
    assert not stopping.done()
    completion.set_result(None)
    await stopping
    assert rig.broker.counts.acknowledged == 1
    assert not await rig.busy()


async def test_a_message_knows_how_often_it_came_back_and_an_outage_does_not_count(rig: Rig) -> None:
    seen: list[int] = []

    def handle(stage: str, body: bytes, info: DeliveryInfo) -> None:
        seen.append(info.setbacks)
        if len(seen) == 1:
            raise TransientError("the database is away")
        if len(seen) == 2:
            raise ZeroDivisionError("a defect")

    await rig.open(handle)
    await rig.publisher.publish([a_message(1)])
    await until(lambda: rig.broker.counts.acknowledged == 1)
    assert seen == [0, 0, 1]


async def test_a_worker_that_gives_no_answer_counts_too(rig: Rig) -> None:
    seen: list[int] = []

    def handle(stage: str, body: bytes, info: DeliveryInfo) -> Future[None] | None:
        seen.append(info.setbacks)
        return Future() if len(seen) == 1 else None

    await rig.open(handle)
    await rig.publisher.publish([a_message(1)])
    await until(lambda: seen)
    await rig.lose_channels()
    await until(lambda: len(seen) == 2)
    assert seen == [0, 1]


class _FullAtFirst(EmbeddedBroker):
    """Takes nothing back the first two times, as a server with a memory alarm."""

    refusals = 2

    async def put(self, messages: Sequence[Outgoing]) -> None:
        if self.refusals and any(message.delay_ms for message in messages):
            self.refusals -= 1
            raise NotConfirmed("the server is blocked by a memory or disk alarm")
        await super().put(messages)


async def test_what_cannot_be_put_back_is_held_and_not_given_back_to_its_queue() -> None:
    rig, seen = Rig(_FullAtFirst()), []

    def handle(stage: str, body: bytes, info: DeliveryInfo) -> None:
        seen.append((info.requeues, info.redelivered))
        if len(seen) == 1:
            raise TransientError("the database is away")

    await rig.open(handle)
    await rig.publisher.publish([a_message(1)])
    await until(lambda: rig.broker.counts.acknowledged == 1)
    assert seen == [(0, False), (1, False)]
    await rig.stop()
    await rig.broker.aclose()
