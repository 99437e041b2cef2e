"""The guard of a target: rate, calls at once and circuit breaker, decided in one step for all workers together.

    gate = Guard("erp", GuardLimits(rate_per_s=50), shared=redis, prefix="tieout")
    client = HttpClient(config, auth=auth, gate=gate)

A call comes through when the breaker lets it, a slot is free and the bucket has a token, and all three are one
decision: a probe that found no slot would keep everybody else out, a token taken for a call that is then barred is
lost. No library that was looked at decides them together, and what each does alone falls short of what is asked here:

- `limits`, `pyrate-limiter`: windows, no token bucket that can be shut for all; the latter by the client's clock;
- `throttled-py`: a token bucket in whole seconds, and not for the redis-py that is locked here;
- `aiolimiter`: one process; `redis-rate-limiters`, `self-limiters`: no longer kept, and a refusal only after waiting;
- `pybreaker`, `aiobreaker`, `purgatory`: the state is read, then written: every worker probes at once after a break.

So the rules are ours: `throttle` and `breaker`, kept by one of `keepers` or by `keeper_in_redis`.
"""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from loguru import logger
from redis.asyncio import Redis

from connectors.http.keeper_in_redis import InRedis
from connectors.http.keepers import InProcess, WhileItAnswers
from connectors.http.outcome import LoginFailed, NoConnection, NotLoggedIn, TargetBusy, Unreachable
from connectors.http.secrets import Redactor
from connectors.http.standing import ANSWERED, UNKNOWN, Change, End, GuardLimits, Keeper, Snapshot, Turn, snapshot_of
from pipeline.errors import PermanentError, TransientError

__all__ = ["Guard", "GuardLimits", "Snapshot"]

error_length_max = 300
#: How soon to look again for a slot that another process may give back: the longer it takes, the seldomer.
look_again_first_ms, look_again_max_ms = 25, 500
#: A delivery that is sent back stays away for so long at least, and for a quarter of the time that the target has been
#: down by then: each look is written down, and an outage of hours should not be written down by the second.
away_min_ms, away_part_of_down = 1_000, 4
#: Up to so much is added, so that what was sent back together does not all come back together.
away_spread = 0.2


class Guard:
    """A `connectors.http.client.Gate`; one for each target in a process.

    Args:
      target: its name; with `prefix`, the deployment's, it names what is shared.
      shared: a Redis that all workers use. Without it, or while it is away, each process keeps the limits for itself.
      keeper: who keeps the target's standing instead.
    """

    def __init__(
        self,
        target: str,
        limits: GuardLimits | None = None,
        shared: Redis | None = None,
        prefix: str = "tieout",
        *,
        keeper: Keeper | None = None,
    ) -> None:
        self.target, self.limits = target, limits or GuardLimits()
        self._keeper = keeper or InProcess(self.limits)
        if shared is not None:
            in_redis = InRedis(shared, f"{prefix}:guard:{target}", self.limits)
            self._keeper = WhileItAnswers(target, in_redis, self._keeper)
        self._line = asyncio.Lock()
        self._somebody_left = asyncio.Event()
        self._held: set[str] = set()
        self._renewing: asyncio.Task[None] | None = None
        self._redactor = Redactor()

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        """Around one request: waits for its turn, and learns from its end.

        What reached nobody, or was not let in, burns no attempt of the delivery's.

        Raises:
          TransientError: it is not to be made now, and that is nobody's attempt; `retry_after_ms` says when.
        """
        lease, end = uuid.uuid4().hex, UNKNOWN
        try:
            await self._enter(lease)
        except TransientError:
            self._let_go(lease)
            raise
        except BaseException:
            # Given up: whether it had been let in by then is for the keeper to know.
            await self._leave(lease, end)
            raise
        try:
            yield
            end = ANSWERED
        except (PermanentError, TransientError) as error:
            end = self._end(error)
            raise
        finally:
            await self._leave(lease, end)

    async def snapshot(self) -> Snapshot:
        """How the target stands. Redis being away is no error: `shared` is False then."""
        standing, slots, now = await self._keeper.read()
        return snapshot_of(self.target, self.limits, standing, slots, now, shared=self._keeper.shared)

    async def _enter(self, lease: str) -> None:
        """Wait for slot, token and a closed breaker. Raises TransientError when it would take too long."""
        deadline = asyncio.get_running_loop().time() + self.limits.wait_max_ms / 1000
        while True:
            turn = await self._turn(lease, deadline)
            self._hold(lease)
            if not turn.wait_us:
                return
            await asyncio.sleep(turn.wait_us / 1_000_000)
            # Since the token was taken the target may have been found down, or have asked to be left alone.
            if (await self._keeper.enter(lease, 0)).verdict == "go":
                return

    async def _turn(self, lease: str, deadline: float) -> Turn:
        """First come, first served within this process: only the first in line asks."""
        loop = asyncio.get_running_loop()
        in_line = await self._stand_in_line(deadline)
        try:
            look_again_ms = look_again_first_ms
            while True:
                self._somebody_left.clear()
                left_us = max(int((deadline - loop.time()) * 1_000_000), 0)
                turn = await self._keeper.enter(lease, left_us)
                if turn.verdict == "go":
                    return turn
                if turn.wait_us >= left_us:
                    raise self._refused(turn)
                wait_us = turn.wait_us or min(int(look_again_ms * random.uniform(500, 1_000)), left_us)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._somebody_left.wait(), wait_us / 1_000_000)
                look_again_ms = min(look_again_ms * 2, look_again_max_ms)
        finally:
            if in_line:
                self._line.release()

    async def _stand_in_line(self, deadline: float) -> bool:
        """Whether it came to be the first in time; who did not asks once all the same, to be told why not."""
        try:
            async with asyncio.timeout_at(deadline):
                return await self._line.acquire()
        except TimeoutError:
            return False

    def _refused(self, turn: Turn) -> TransientError:
        match turn.verdict:
            case "open" | "probing":
                text = f"{self.target} is down and left alone for now; it was last heard to fail with: {turn.error}"
            case "full":
                text = f"{self.target} has no room: as many calls as it may have are under way"
            case _:
                text = f"{self.target} takes no more calls for now: the rate it may be called at is used up"
        away_ms = max(turn.wait_us, turn.down_us // away_part_of_down) / 1_000 * random.uniform(1, 1 + away_spread)
        away_ms = min(max(away_ms, away_min_ms), self.limits.away_max_ms)
        return TransientError(text, retry_after_ms=int(away_ms), burns_attempt=False)

    def _end(self, error: PermanentError | TransientError) -> End:
        """Whether the target is there: what it refuses it has read, and who is busy lives."""
        if isinstance(error, PermanentError):
            return ANSWERED
        if isinstance(error, NoConnection | NotLoggedIn):
            error.burns_attempt = False
            return UNKNOWN
        if isinstance(error, TargetBusy):
            return ANSWERED if error.burns_attempt else End("throttled", retry_after_ms=error.retry_after_ms)
        # Not being let in is counted too: some systems lock the account after a few attempts.
        if isinstance(error, Unreachable | LoginFailed):
            # Whatever the document is. And it will not be tried without end: the breaker sees to that.
            error.burns_attempt = False
        text = self._redactor.excerpt(str(error))[:error_length_max]
        return End("failed", text, error.retry_after_ms)

    async def _leave(self, lease: str, end: End) -> None:
        self._let_go(lease)
        change = await self._keeper.leave(lease, end)
        self._somebody_left.set()
        _log(change, self.target, end)

    def _hold(self, lease: str) -> None:
        self._held.add(lease)
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew_while_held())

    def _let_go(self, lease: str) -> None:
        self._held.discard(lease)
        if not self._held and self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None

    async def _renew_while_held(self) -> None:
        while True:
            await asyncio.sleep(self.limits.lease_ms / 3_000)
            await self._keeper.renew(tuple(self._held))


def _log(change: Change, target: str, end: End) -> None:
    log = logger.bind(event=f"breaker_{change}", target=target)
    match change:
        case "opened":
            log.warning("{} is down: it is called no more until a probe comes through ({})", target, end.error)
        case "reopened":
            log.info("{} is still down ({})", target, end.error)
        case "closed":
            log.info("{} is up again", target)
