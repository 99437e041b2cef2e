"""Redis is a help and no need: while it is away each process keeps the limits alone, and no call fails for it."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import pytest
from loguru import logger
from redis.asyncio import Redis

from connectors.http.guard import Guard, GuardLimits
from connectors.http.keeper_in_redis import InRedis
from connectors.http.keepers import InProcess, WhileItAnswers, away_for_ms
from pipeline.errors import TransientError
from tests.conformance.guard.test_workers_together import DOWN, call
from tests.conformance.transport.proxy import Proxy

LIMITS = GuardLimits(concurrency=2, failures_max=2, wait_max_ms=0)


@pytest.fixture
async def network(redis_url: str) -> AsyncIterator[Proxy]:
    server = urlsplit(redis_url)
    proxy = Proxy(server.hostname or "127.0.0.1", server.port or 6379)
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture
async def client(network: Proxy, redis_url: str, prefix: str) -> AsyncIterator[Redis]:
    """Through the network that breaks."""
    server = urlsplit(redis_url)
    user = f"{server.netloc.rpartition('@')[0]}@" if "@" in server.netloc else ""
    url = urlunsplit(server._replace(netloc=f"{user}127.0.0.1:{network.port}"))
    async with Redis.from_url(url) as client:
        yield client
    async with Redis.from_url(redis_url) as past_it:
        await past_it.delete(f"{{{prefix}:guard:erp}}", f"{{{prefix}:guard:erp}}:slots")


class Clock:
    """Moves when it is told to."""

    now = 1_790_000_000_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guard(client: Redis, prefix: str, clock: Clock) -> Guard:
    """As `Guard` puts it together, with a clock of ours for how long Redis is left alone."""
    shared = InRedis(client, f"{prefix}:guard:erp", LIMITS)
    return Guard("erp", LIMITS, keeper=WhileItAnswers("erp", shared, InProcess(LIMITS), clock))


@pytest.mark.parametrize("how", ["gone", "silent"])
async def test_a_call_goes_on_when_redis_is_lost_in_the_middle_of_it(guard, network, how):
    async with guard():
        if how == "gone":
            await network.stop()
        else:
            network.fall_silent()
    assert await call(guard) is None
    assert not (await guard.snapshot()).shared


async def test_without_redis_the_limits_hold_in_this_process(guard, network):
    await network.stop()
    async with guard(), guard():
        refused = await call(guard)
        assert isinstance(refused, TransientError)
        assert "no room" in str(refused)
    for _ in range(2):
        await call(guard, DOWN)
    shown = await guard.snapshot()
    assert (shown.state, shown.shared) == ("open", False)


async def test_when_redis_is_back_the_limits_are_shared_again_and_each_turn_is_said_once(guard, network, clock):
    said: list[str] = []
    sink = logger.add(lambda line: said.append(line.record["extra"]["event"]), level="INFO")
    try:
        await call(guard, DOWN)
        await network.stop()
        for _ in range(3):
            assert await call(guard) is None
        await network.start()
        assert not (await guard.snapshot()).shared, "it is left alone for a while"
        clock.now += 1_000 * away_for_ms
        shown = await guard.snapshot()
        for _ in range(2):
            assert await call(guard) is None
    finally:
        logger.remove(sink)
    assert (shown.shared, shown.failures) == (True, 1), "what it knew before, it knows still"
    assert said == ["guard_alone", "guard_shared"]


async def test_a_redis_that_never_was_costs_no_call(prefix):
    async with Redis.from_url("redis://127.0.0.1:1/0") as nobody:
        guard = Guard("erp", LIMITS, nobody, prefix)
        assert await call(guard) is None
        assert not (await guard.snapshot()).shared
