"""Declaring actors and sending to them, as Dramatiq's own tests have it; differences are in docs/dramatiq.md."""

import asyncio
from typing import Any

import pytest
from dramatiq.middleware import CurrentMessage

from broker.delivery import Outgoing, whole_number
from broker.encoding import MessageTooLarge, encode_message
from tests.conformance.transport.actors import QUEUE, acknowledged, declaring, opened, send
from tests.conformance.transport.conftest import Rig, until
from tests.conformance.transport.server import channel_to


@pytest.fixture
def actor(rig: Rig) -> Any:
    return declaring(rig)


async def test_arguments_arrive_as_they_were_sent(rig: Rig, actor: Any) -> None:
    got: list[Any] = []

    @actor
    def notice(*args: Any, **kwargs: Any) -> None:
        got.append((args, kwargs))

    await opened(rig)
    await send(notice, 1, "zwei", [3.5, None], {"four": True}, kwargs={"five": "5"})
    await acknowledged(rig, 1)
    assert got == [((1, "zwei", [3.5, None], {"four": True}), {"five": "5"})]


async def test_a_hundred_messages_are_worked_off_once_each(rig: Rig, actor: Any) -> None:
    got: list[int] = []
    notice = actor(lambda number: got.append(number), actor_name="notice")
    await opened(rig)
    await asyncio.to_thread(lambda: [notice.send(number) for number in range(100)])
    await acknowledged(rig, 100)
    assert sorted(got) == list(range(100))
    await rig.at_rest()


async def test_one_thread_works_messages_off_in_the_order_they_were_sent(rig: Rig, actor: Any) -> None:
    got: list[int] = []
    notice = actor(lambda number: got.append(number), actor_name="notice")
    await rig.broker.open()
    await asyncio.to_thread(lambda: [notice.send(number) for number in range(20)])
    rig.work(threads=1)
    await acknowledged(rig, 20)
    assert got == list(range(20))


async def test_an_actor_may_have_a_queue_of_any_name(rig: Rig, actor: Any) -> None:
    got: list[int] = []
    notice = actor(lambda number: got.append(number), actor_name="notice", queue_name="reports")
    await opened(rig)
    await send(notice, 1)
    await acknowledged(rig, 1)
    assert (await rig.broker.depths())["reports"].ready == 0


async def test_a_queue_declared_after_opening_can_be_sent_to(rig: Rig, actor: Any) -> None:
    got: list[int] = []
    await rig.broker.open()
    late = actor(lambda number: got.append(number), actor_name="late", queue_name="late")
    await send(late, 1)
    rig.work()
    await acknowledged(rig, 1)
    assert got == [1]


async def test_delays_do_not_hold_each_other_up(rig: Rig, actor: Any) -> None:
    got: list[int] = []
    notice = actor(lambda number: got.append(number), actor_name="notice")
    await opened(rig)
    await send(notice, 2, delay=2_500)
    await send(notice, 1, delay=1_000.0)
    await acknowledged(rig, 2)
    assert got == [1, 2]


@pytest.mark.parametrize("delay_ms", [2_500, 2_500.5], ids=repr)
async def test_a_delay_is_a_number_of_milliseconds_of_either_kind(rig: Rig, actor: Any, delay_ms: float) -> None:
    got: list[float] = []
    loop = asyncio.get_running_loop()
    notice = actor(lambda: got.append(loop.time()), actor_name="notice")
    await opened(rig)
    sent = loop.time()
    await send(notice, delay=delay_ms)
    await acknowledged(rig, 1)
    assert got[0] - sent >= 1.9, "due after the first tier it waited on"


@pytest.mark.parametrize("eta", [None, "soon"], ids=repr)
async def test_an_eta_that_is_none_is_not_waited_for(rig: Rig, actor: Any, eta: Any) -> None:
    notice = actor(lambda: None, actor_name="notice")
    await opened(rig)
    body = encode_message(notice.message_with_options(eta=eta))
    await rig.broker.put([Outgoing(queue=QUEUE, body=body, message_id="m-1")])
    await acknowledged(rig, 1)


@pytest.mark.parametrize("value", [None, "7", float("nan"), float("inf"), b"7"], ids=repr)
def test_a_header_that_is_no_number_counts_for_nothing(value: object) -> None:
    assert whole_number(value) == 0


async def test_options_of_the_message_travel_with_it(rig: Rig, actor: Any) -> None:
    got: list[Any] = []

    @actor
    def notice() -> None:
        message = CurrentMessage.get_current_message()
        assert message is not None
        got.append((message.message_id, message.options))

    await opened(rig)
    sent = await send(notice, tenant="north")
    await acknowledged(rig, 1)
    assert got == [(sent.message_id, {"tenant": "north"})]
    assert CurrentMessage.get_current_message() is None


async def test_what_no_worker_would_take_is_not_sent(rig: Rig, actor: Any) -> None:
    rig.broker.body_bytes_max = 1_000
    notice = actor(lambda text: None, actor_name="notice")
    await opened(rig)
    with pytest.raises(MessageTooLarge, match="1,000 at most"):
        await send(notice, "x" * 1_000)


async def test_an_option_that_nobody_knows_is_refused(actor: Any) -> None:
    with pytest.raises(ValueError, match="min_backoff"):
        actor(lambda: None, actor_name="notice", min_backoff=1_000)


async def test_two_actors_of_one_name_are_refused(actor: Any) -> None:
    actor(lambda: None, actor_name="notice")
    with pytest.raises(ValueError, match="already registered"):
        actor(lambda: None, actor_name="notice")


async def test_a_queue_name_that_no_server_takes_is_refused(actor: Any) -> None:
    with pytest.raises(ValueError, match="Queue names"):
        actor(lambda: None, actor_name="notice", queue_name="$2@!@#")


async def test_an_actor_is_still_a_function(actor: Any) -> None:
    assert actor(lambda x, y: x + y, actor_name="add")(1, 2) == 3


async def test_nobody_empties_a_queue_or_waits_for_it_from_a_thread(rabbit: Rig) -> None:
    for call in (rabbit.broker.flush_all, lambda: rabbit.broker.flush(QUEUE), lambda: rabbit.broker.join(QUEUE)):
        with pytest.raises(NotImplementedError):
            call()


# What somebody else does to the server


async def test_a_queue_that_somebody_has_removed_is_declared_by_sending_to_it(rabbit: Rig, amqp_url: str) -> None:
    notice = declaring(rabbit)(lambda: None, actor_name="notice")
    await rabbit.broker.open()
    await asyncio.to_thread(_remove, amqp_url, f"{rabbit.broker.prefix}.{QUEUE}")
    await send(notice)
    assert (await rabbit.broker.depths())[QUEUE].ready == 1


def _remove(amqp_url: str, queue: str) -> None:
    with channel_to(amqp_url) as channel:
        channel.queue_delete(queue)


async def test_sending_goes_on_when_the_connection_was_lost(rabbit: Rig) -> None:
    got: list[int] = []
    notice = declaring(rabbit)(lambda number: got.append(number), actor_name="notice")
    await opened(rabbit)
    await send(notice, 1)
    await until(lambda: got == [1])
    await rabbit.lose_channels()
    await send(notice, 2)
    await until(lambda: 2 in got)
