"""Guards of several workers over one Redis, whose keys are gone when the test is over."""

from collections.abc import AsyncIterator, Callable

import pytest
from redis.asyncio import Redis

from connectors.http.guard import Guard, GuardLimits

#: Makes the guard of another worker: a connection of its own, the same target unless it is named.
Worker = Callable[..., Guard]


@pytest.fixture
async def worker(redis_url: str, prefix: str) -> AsyncIterator[Worker]:
    clients: list[Redis] = []

    def worker(target: str = "erp", prefix: str = prefix, **limits: object) -> Guard:
        clients.append(Redis.from_url(redis_url))
        return Guard(target, GuardLimits(**limits), clients[-1], prefix)

    yield worker
    async with Redis.from_url(redis_url) as client:
        if keys := [key async for key in client.scan_iter(f"*{prefix}*")]:
            await client.delete(*keys)
    for client in clients:
        await client.aclose()
