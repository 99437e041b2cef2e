"""A worker process that is let in, says `in`, and stays there until it is killed.

python -m tests.conformance.guard.holding REDIS_URL PREFIX LEASE_MS
"""

import asyncio
import sys

from redis.asyncio import Redis

from connectors.http.guard import Guard, GuardLimits


async def hold(redis_url: str, prefix: str, lease_ms: str) -> None:
    guard = Guard("erp", GuardLimits(concurrency=1, lease_ms=int(lease_ms)), Redis.from_url(redis_url), prefix)
    async with guard():
        print("in", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(hold(*sys.argv[1:]))
