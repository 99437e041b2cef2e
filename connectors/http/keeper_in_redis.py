"""The standing of a target in Redis, the same for all workers: each step is one script, at the server's own time."""

import random
from collections.abc import Awaitable, Callable, Collection
from typing import Any, cast

import msgspec
from redis.asyncio import Redis

from connectors.http.standing import GO, MOMENTS, Change, End, GuardLimits, Standing, Turn
from connectors.http.throttle import shut_first_us, shut_max_us

#: A target that nobody has called for so long is forgotten.
forgotten_after_ms = 86_400_000

#: KEYS: the standing (a hash), the slots (a sorted set of calls by the end of their lease).
#: ARGV: what to do, the moment (0: the server's), the lease, and what `InRedis` adds.
#: Line for line what `throttle`, `breaker` and `keepers.InProcess` do; one test drives both and compares.
SCRIPT = """
local what, now, lease = ARGV[1], tonumber(ARGV[2]), ARGV[3]
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

local kept = {}
local flat = redis.call('HGETALL', KEYS[1])
for place = 1, #flat, 2 do kept[flat[place]] = flat[place + 1] end
local function number(name) return tonumber(kept[name] or 0) end
local function text(name) return kept[name] or '' end
local function keep(name, value)
  if type(value) == 'number' then value = string.format('%.0f', value) end
  kept[name] = value
  redis.call('HSET', KEYS[1], name, value)
end
local function holds(call) return call ~= '' and redis.call('ZSCORE', KEYS[2], call) ~= false end
local function done(answer)
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
  return answer
end

if what == 'read' then
  -- Nothing is kept: who looks may ask a copy that can only be read.
  local seen = math.max(now, number('seen'))
  return {flat, redis.call('ZCOUNT', KEYS[2], '(' .. string.format('%.0f', seen), '+inf'), string.format('%.0f', now)}
end

local back = number('seen') - now
if back > 0 then
  for _, name in ipairs({MOMENTS}) do
    if number(name) > 0 then keep(name, number(name) - back) end
  end
  local held = redis.call('ZRANGE', KEYS[2], 0, -1)
  for _, call in ipairs(held) do redis.call('ZINCRBY', KEYS[2], string.format('%.0f', -back), call) end
end
keep('seen', now)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)

local lease_until = string.format('%.0f', now + tonumber(ARGV[5]))
if what == 'renew' then
  for place = 6, #ARGV do redis.call('ZADD', KEYS[2], 'XX', lease_until, ARGV[place]) end
  return done('')
end

local burst_us, interval = tonumber(ARGV[6]), tonumber(ARGV[7])
if what == 'enter' then
  local concurrency, wait_max = tonumber(ARGV[8]), tonumber(ARGV[9])
  local verdict, wait, down, why = 'go', 0, 0, ''
  if number('openings') > 0 and now < number('open_until') then
    verdict, wait = 'open', number('open_until') - now
  elseif number('openings') > 0 and text('probe') ~= lease and holds(text('probe')) then
    verdict = 'probing'
  elseif now < number('shut_until') then
    verdict, wait = 'throttled', number('shut_until') - now
  end
  if verdict == 'open' or verdict == 'probing' then
    down, why = now - number('down_since'), text('error')
  end
  if verdict ~= 'go' then
    redis.call('ZREM', KEYS[2], lease)
    if text('probe') == lease then keep('probe', '') end
    return done({verdict, wait, down, why})
  end
  if not holds(lease) then
    if redis.call('ZCARD', KEYS[2]) >= concurrency then return done({'full', 0, 0, ''}) end
    wait = math.max(number('full_at') - burst_us - now, 0)
    if wait > wait_max then return done({'throttled', wait, 0, ''}) end
    keep('full_at', math.max(number('full_at'), now) + interval)
  end
  redis.call('ZADD', KEYS[2], lease_until, lease)
  if number('openings') > 0 then keep('probe', lease) end
  return done({'go', wait, 0, ''})
end

-- leave
local kind, why, retry_after = ARGV[8], ARGV[9], tonumber(ARGV[10])
redis.call('ZREM', KEYS[2], lease)

if kind == 'answered' then keep('throttles', 0) end
local shut = math.max(retry_after, 0)
if kind == 'throttled' and now >= number('shut_until') then
  keep('throttles', number('throttles') + 1)
  if retry_after < 0 then
    shut = math.min(tonumber(ARGV[11]) * 2 ^ math.min(number('throttles') - 1, 30), tonumber(ARGV[12]))
  end
end
if shut > 0 then
  keep('shut_until', math.max(number('shut_until'), now + shut))
  keep('full_at', math.max(number('full_at'), number('shut_until') + burst_us))
end

local closed = number('openings') == 0
local probed = not closed and text('probe') == lease
if text('probe') == lease then keep('probe', '') end
if kind == 'failed' then
  keep('error', why)
  keep('error_at', now)
  keep('failures', number('failures') + 1)
  if probed or (closed and number('failures') >= tonumber(ARGV[13])) then
    keep('openings', number('openings') + 1)
    local ceiling = math.min(tonumber(ARGV[14]) * 2 ^ math.min(number('openings') - 1, 30), tonumber(ARGV[15]))
    keep('open_until', now + math.floor(ceiling * 500 * (1 + tonumber(ARGV[16]))))
    keep('since', now)
    if closed then keep('down_since', now) end
    return done(closed and 'opened' or 'reopened')
  end
elseif kind ~= 'unknown' and closed then
  if number('failures') > 0 then keep('failures', 0) end
elseif kind ~= 'unknown' and probed then
  for _, name in ipairs({'failures', 'openings', 'down_since', 'open_until'}) do keep(name, 0) end
  keep('since', now)
  return done('closed')
end
return done('')
""".replace("{MOMENTS}", "{" + ", ".join(map(repr, MOMENTS)) + "}")


class InRedis:
    """A `Keeper` for all workers. Raises what redis-py raises: whoever asks knows what to do without it.

    Args:
      name: of the keys; the braces in it keep both on one node of a cluster.
      clock: microseconds since 1970, instead of the server's time.
      draw: a number in [0, 1), the jitter of the next opening.
    """

    shared = True

    def __init__(
        self,
        client: Redis,
        name: str,
        limits: GuardLimits,
        clock: Callable[[], int] = lambda: 0,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._keys = [f"{{{name}}}", f"{{{name}}}:slots"]
        self._script = client.register_script(SCRIPT)
        self._limits, self._clock, self._draw = limits, clock, draw
        self._bucket = ((limits.burst - 1) * limits.interval_us, limits.interval_us)

    async def enter(self, lease: str, wait_max_us: int) -> Turn:
        verdict, wait_us, down_us, error = await self._run(
            "enter", lease, *self._bucket, self._limits.concurrency, wait_max_us
        )
        turn = Turn(_text(verdict), wait_us, down_us, _text(error))
        return GO if turn == GO else turn

    async def leave(self, lease: str, end: End) -> Change:
        limits = self._limits
        retry_after_us = -1 if end.retry_after_ms is None else 1_000 * end.retry_after_ms
        breaker = (limits.failures_max, limits.open_first_ms, limits.open_max_ms, repr(self._draw()))
        answer = await self._run(
            "leave", lease, *self._bucket, end.kind, end.error, retry_after_us, shut_first_us, shut_max_us, *breaker
        )
        return cast(Change, _text(answer))

    async def renew(self, leases: Collection[str]) -> None:
        await self._run("renew", "", *leases)

    async def read(self) -> tuple[Standing, int, int]:
        flat, slots, now = await self._run("read", "")
        texts = [_text(one) for one in flat]
        kept = dict(zip(texts[::2], texts[1::2], strict=True))
        standing = msgspec.convert(kept, Standing, strict=False)
        standing.see(int(now))
        return standing, slots, int(now)

    async def _run(self, what: str, lease: str, *arguments: Any) -> Any:
        lease_us = 1_000 * self._limits.lease_ms
        given = [what, self._clock(), lease, forgotten_after_ms, lease_us, *arguments]
        return await cast(Awaitable[Any], self._script(keys=self._keys, args=given))


def _text(value: bytes | str) -> Any:
    # Whether a client decodes is its owner's choice.
    return value.decode() if isinstance(value, bytes) else value
