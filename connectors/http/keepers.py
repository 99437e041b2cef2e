"""Who keeps the standing of a target: this process, or Redis for all workers as long as it answers."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from loguru import logger
from redis.exceptions import RedisError

from connectors.http.breaker import bars, learn_of_health
from connectors.http.standing import GO, Change, End, GuardLimits, Keeper, Standing, Turn
from connectors.http.throttle import learn_of_throttling, take_token, token_wait_us

T = TypeVar("T")

#: What a server that is away, slow or broken makes of a command.
AWAY = (RedisError, OSError, TimeoutError)

#: No call waits longer than this to hear from Redis, and so long after it failed it is not asked again.
answer_timeout_ms, away_for_ms = 1_000, 5_000


def steady_clock() -> Callable[[], int]:
    """Microseconds since 1970 that never go back, whatever is done to the machine's clock."""
    offset = time.time_ns() - time.monotonic_ns()
    return lambda: (time.monotonic_ns() + offset) // 1_000


class InProcess:
    """A `Keeper` for this process alone.

    Args:
      clock: microseconds since 1970.
      draw: a number in [0, 1), the jitter of the next opening.
    """

    shared = False

    def __init__(
        self,
        limits: GuardLimits,
        clock: Callable[[], int] | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._limits, self._clock, self._draw = limits, clock or steady_clock(), draw
        self._standing = Standing()
        #: Until when each call holds its slot.
        self._slots: dict[str, int] = {}

    async def enter(self, lease: str, wait_max_us: int) -> Turn:
        now, standing, limits = self._now(), self._standing, self._limits
        barred = bars(standing, lease, self._slots, now)
        if barred is None and now < standing.shut_until:
            barred = Turn("throttled", standing.shut_until - now)
        if barred is not None:
            self._give_back(lease)
            return barred
        wait_us = 0
        if lease not in self._slots:
            if len(self._slots) >= limits.concurrency:
                return Turn("full")
            wait_us = token_wait_us(standing, limits, now)
            if wait_us > wait_max_us:
                return Turn("throttled", wait_us)
            take_token(standing, limits, now)
        self._slots[lease] = now + 1_000 * limits.lease_ms
        if standing.openings:
            standing.probe = lease
        return Turn("go", wait_us) if wait_us else GO

    async def leave(self, lease: str, end: End) -> Change:
        now = self._now()
        self._slots.pop(lease, None)
        learn_of_throttling(self._standing, self._limits, end, now)
        return learn_of_health(self._standing, self._limits, lease, end, now, self._draw())

    async def renew(self, leases: Collection[str]) -> None:
        until = self._now() + 1_000 * self._limits.lease_ms
        self._slots |= {lease: until for lease in leases if lease in self._slots}

    async def read(self) -> tuple[Standing, int, int]:
        now = self._now()
        return self._standing, len(self._slots), now

    def _now(self) -> int:
        now = self._clock()
        back_us = self._standing.see(now)
        self._slots = {lease: until - back_us for lease, until in self._slots.items() if now < until - back_us}
        return now

    def _give_back(self, lease: str) -> None:
        self._slots.pop(lease, None)
        if self._standing.probe == lease:
            self._standing.probe = ""


class WhileItAnswers:
    """A `Keeper` that asks Redis, and this process while that is away: said once, and no call fails for it."""

    def __init__(self, target: str, in_redis: Keeper, own: Keeper, clock: Callable[[], int] | None = None) -> None:
        self._target, self._in_redis, self._own, self._clock = target, in_redis, own, clock or steady_clock()
        self._away_until = 0
        self.shared = True

    async def enter(self, lease: str, wait_max_us: int) -> Turn:
        return await self._either(
            lambda: self._in_redis.enter(lease, wait_max_us), lambda: self._own.enter(lease, wait_max_us)
        )

    async def leave(self, lease: str, end: End) -> Change:
        # Wherever it had come in: a slot that is not held there costs nothing, and what it has seen is worth knowing.
        return await self._either(lambda: self._in_redis.leave(lease, end), lambda: self._own.leave(lease, end))

    async def renew(self, leases: Collection[str]) -> None:
        await self._own.renew(leases)
        await self._either(lambda: self._in_redis.renew(leases), lambda: self._own.renew(leases))

    async def read(self) -> tuple[Standing, int, int]:
        return await self._either(self._in_redis.read, self._own.read)

    async def _either(self, ask: Callable[[], Awaitable[T]], ask_own: Callable[[], Awaitable[T]]) -> T:
        if self._clock() < self._away_until:
            return await ask_own()
        try:
            async with asyncio.timeout(answer_timeout_ms / 1000):
                answer = await ask()
        except AWAY as error:
            self._away_until = self._clock() + 1_000 * away_for_ms
            self._note(False, type(error).__name__)
            return await ask_own()
        self._note(True)
        return answer

    def _note(self, answers: bool, why: str = "") -> None:
        if answers == self.shared:
            return
        self.shared = answers
        log = logger.bind(event="guard_shared" if answers else "guard_alone", target=self._target)
        if answers:
            log.info("Redis answers again: the limits of {} hold for all workers together", self._target)
        else:
            log.warning("Redis does not answer ({}): each process keeps the limits of {} alone", why, self._target)
