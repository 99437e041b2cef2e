"""Dramatiq's middleware on either broker: what it does after an actor belongs to what the message caused."""

import asyncio
from typing import Any

import dramatiq
import pytest
from dramatiq.middleware import (
    AgeLimit,
    AsyncIO,
    Callbacks,
    CurrentMessage,
    GroupCallbacks,
    Middleware,
    Pipelines,
    SkipMessage,
)
from dramatiq.rate_limits.backends import StubBackend as StubLimits
from dramatiq.results import ResultFailure, Results
from dramatiq.results.backends import StubBackend as StubResults

from broker.delivery import Delivery, NotConfirmed, Outgoing
from broker.encoding import encode_message
from tests.conformance.transport.actors import QUEUE, acknowledged, dead, declaring, opened, send
from tests.conformance.transport.conftest import Rig, until


@pytest.fixture
def actor(rig: Rig) -> Any:
    return declaring(rig)


async def test_middleware_may_skip_a_message(rig: Rig, actor: Any) -> None:
    skipped: list[str] = []

    class Skipping(Middleware):
        def before_process_message(self, broker: Any, message: Any) -> None:
            raise SkipMessage("not today")

        def after_skip_message(self, broker: Any, message: Any) -> None:
            skipped.append(message.message_id)

    rig.broker.add_middleware(Skipping())
    notice = actor(lambda: pytest.fail("was not skipped"), actor_name="notice")
    await opened(rig)
    sent = await send(notice)
    await acknowledged(rig, 1)
    assert skipped == [sent.message_id]
    await rig.at_rest()


async def test_a_message_that_is_too_old_is_a_dead_letter(rig: Rig, actor: Any) -> None:
    rig.broker.add_middleware(AgeLimit())
    notice = actor(lambda: pytest.fail("was too old"), actor_name="notice", max_age=1)
    await rig.broker.open()
    old = notice.message().copy(message_timestamp=0)
    await rig.broker.put([Outgoing(queue=QUEUE, body=encode_message(old), message_id="old")])
    rig.work()
    await dead(rig)


async def test_an_actor_may_fail_its_message_without_an_error(rig: Rig, actor: Any) -> None:
    @actor
    def notice() -> None:
        message = CurrentMessage.get_current_message()
        assert isinstance(message, Delivery)
        message.fail()

    await opened(rig)
    await send(notice)
    await dead(rig)
    await rig.stop(grace_ms=60_000)


async def test_middleware_that_fails_before_an_actor_does_not_stop_it(rig: Rig, actor: Any) -> None:
    class Broken(Middleware):
        def before_process_message(self, broker: Any, message: Any) -> None:
            raise RuntimeError("broken")

    rig.broker.add_middleware(Broken())
    notice = actor(lambda: None, actor_name="notice")
    await opened(rig)
    await send(notice)
    await acknowledged(rig, 1)


async def test_middleware_that_fails_after_an_actor_brings_the_message_back(rig: Rig, actor: Any) -> None:
    class BrokenOnce(Middleware):
        runs = 0

        def after_process_message(
            self, broker: Any, message: Any, *, result: Any = None, exception: Any = None
        ) -> None:
            self.runs += 1
            if self.runs == 1:
                raise RuntimeError("broken")

    broken = BrokenOnce()
    rig.broker.add_middleware(broken)
    notice = actor(lambda: None, actor_name="notice")
    await opened(rig)
    await send(notice)
    await acknowledged(rig, 1)
    assert broken.runs == 2


async def test_a_pipeline_hands_results_on(rig: Rig, actor: Any) -> None:
    rig.broker.add_middleware(Pipelines())
    sums: list[int] = []
    add = actor(lambda x, y: x + y, actor_name="add")
    keep = actor(lambda x: sums.append(x), actor_name="keep")
    await opened(rig)
    pipeline = dramatiq.pipeline([add.message(1, 2), add.message(4), keep.message()], broker=rig.broker)
    await asyncio.to_thread(pipeline.run)
    await acknowledged(rig, 3)
    assert sums == [7]
    await rig.at_rest()


async def test_a_pipeline_whose_next_message_is_not_confirmed_does_not_end(rig: Rig, actor: Any) -> None:
    rig.broker.add_middleware(Pipelines())
    runs: list[int] = []

    @actor
    def first() -> int:
        runs.append(1)
        return 1

    second = actor(lambda x: None, actor_name="second")
    refusing = _RefusingOnce(rig, "second")
    await opened(rig)
    await asyncio.to_thread(dramatiq.pipeline([first.message(), second.message()], broker=rig.broker).run)
    await acknowledged(rig, 2)
    assert (len(runs), refusing.refused) == (2, 1)


class _RefusingOnce:
    """The server refuses the first message of this type, as a full queue would."""

    def __init__(self, rig: Rig, type_: str) -> None:
        self.refused = 0
        put = rig.broker.put

        def refuse(messages: Any) -> Any:
            if not self.refused and any(message.type == type_ for message in messages):
                self.refused += 1
                failed = asyncio.get_running_loop().create_future()
                failed.set_exception(NotConfirmed("the server refused the message"))
                return failed
            return put(messages)

        rig.broker.put = refuse  # type: ignore[method-assign]


async def test_callbacks_are_sent_after_success_and_failure(rig: Rig, actor: Any) -> None:
    rig.broker.add_middleware(Callbacks())
    told: list[Any] = []
    actor(lambda message, result: told.append(result), actor_name="on_success")
    actor(lambda message, error: told.append(error["type"]), actor_name="on_failure")

    @actor(throws=KeyError)
    def notice(key: str) -> str:
        return {"there": "value"}[key]

    await opened(rig)
    for key in ("there", "gone"):
        await send(notice, key, on_success="on_success", on_failure="on_failure")
    await until(lambda: len(told) == 2)
    assert sorted(told) == ["KeyError", "value"]


async def test_a_callback_that_cannot_be_encoded_brings_the_message_back(rig: Rig, actor: Any) -> None:
    rig.broker.add_middleware(Callbacks())
    actor(lambda message, result: None, actor_name="on_success")
    results: list[Any] = [object(), "plain"]
    notice = actor(lambda: results.pop(0), actor_name="notice", on_success="on_success")
    await opened(rig)
    await send(notice)
    await acknowledged(rig, 2)
    assert results == []
    assert rig.broker.counts.requeued == 1


async def test_results_can_be_waited_for(rig: Rig, actor: Any) -> None:
    backend = StubResults()
    rig.broker.add_middleware(Results(backend=backend))
    add = actor(lambda x, y: x + y, actor_name="add", store_results=True)
    await opened(rig)
    sent = await send(add, 1, 2)
    result = await asyncio.to_thread(sent.get_result, backend=backend, block=True, timeout=30_000)
    assert result == 3


async def test_an_actor_may_be_a_coroutine_and_send_from_it(rig: Rig, actor: Any) -> None:
    rig.broker.add_middleware(AsyncIO())
    got: list[str] = []
    notice = actor(lambda text: got.append(text), actor_name="notice")

    @actor
    async def waits() -> None:
        await asyncio.sleep(0)
        message = CurrentMessage.get_current_message()
        assert message is not None
        notice.send(message.actor_name)

    await opened(rig)
    await send(waits)
    await acknowledged(rig, 2)
    assert got == ["waits"]
    await rig.stop()
    rig.work()
    await send(waits)
    await acknowledged(rig, 4)


async def test_the_result_of_a_failure_is_stored_where_the_actor_ends_with_it(rig: Rig, actor: Any) -> None:
    backend = StubResults()
    rig.broker.add_middleware(Results(backend=backend))

    @actor(store_results=True, throws=KeyError)
    def notice() -> None:
        raise KeyError("gone")

    await opened(rig)
    sent = await send(notice)
    with pytest.raises(ResultFailure, match="KeyError"):
        await asyncio.to_thread(sent.get_result, backend=backend, block=True, timeout=30_000)
    await dead(rig)


async def test_a_group_tells_when_all_of_it_is_done(rig: Rig, actor: Any) -> None:
    rig.broker.add_middleware(GroupCallbacks(StubLimits()))
    done: list[str] = []
    part = actor(lambda number: done.append(f"part {number}"), actor_name="part")
    whole = actor(lambda: done.append("whole"), actor_name="whole")
    await opened(rig)
    group = dramatiq.group([part.message(1), part.message(2)], broker=rig.broker)
    group.add_completion_callback(whole.message())
    await asyncio.to_thread(group.run)
    await acknowledged(rig, 3)
    assert sorted(done[:2]) == ["part 1", "part 2"]
    assert done[2:] == ["whole"]


async def test_the_lanes_workers_are_one_worker_to_middleware(rig: Rig) -> None:
    heard: list[str] = []

    class Listening(Middleware):
        def before_worker_boot(self, broker: Any, worker: Any) -> None:
            heard.append("booting")

        def after_worker_boot(self, broker: Any, worker: Any) -> None:
            heard.append("booted")

        def before_worker_shutdown(self, broker: Any, worker: Any) -> None:
            heard.append("stopping")

        def after_worker_shutdown(self, broker: Any, worker: Any) -> None:
            heard.append("stopped")

    rig.broker.add_middleware(Listening())
    await opened(rig)
    await rig.stop()
    assert heard == ["booting", "booted", "stopping", "stopped"]
