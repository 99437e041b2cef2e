"""Live work is heard of by whoever does bulk work, in every process of a deployment, and by no other deployment."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.binding import bind
from broker.rabbitmq import RabbitBroker
from tests.conformance.transport.conftest import STAGES, Rig, a_message, a_stage, until


@asynccontextmanager
async def another_process(amqp_url: str, prefix: str) -> AsyncIterator[RabbitBroker]:
    """One that consumes nothing, as an import does."""
    other = RabbitBroker(amqp_url, prefix=prefix)
    bind(other, [a_stage(name) for name in STAGES], lambda stage, body, info: None)
    await other.open()
    try:
        yield other
    finally:
        await other.aclose()


async def test_an_import_hears_of_live_work_and_not_of_bulk_work(rabbit: Rig, amqp_url: str) -> None:
    seen: list[str] = []
    await rabbit.open(lambda stage, body, info: seen.append(stage))
    async with another_process(amqp_url, rabbit.broker.prefix) as importing:
        await importing.listen()
        await rabbit.publisher.publish([a_message(number, lane="bulk") for number in range(20)])
        await until(lambda: len(seen) == 20)
        assert not importing.live_at_work
        await rabbit.publisher.publish([a_message("live")])
        await until(lambda: importing.live_at_work)
        await until(lambda: rabbit.broker.live_at_work)


async def test_an_import_that_comes_and_goes_disturbs_no_search(rabbit: Rig, amqp_url: str) -> None:
    await rabbit.open(lambda stage, body, info: None)
    await rabbit.consumed("first.live")
    async with another_process(amqp_url, rabbit.broker.prefix) as asking:
        search = await asking.search(["first.live"])
        async with another_process(amqp_url, rabbit.broker.prefix) as importing:
            await importing.listen()
        assert await search.finish(timeout_s=20)
        assert search.hindrance == ""
        await search.close()
