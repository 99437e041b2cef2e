"""The scripts in Redis do what the plain telling of the rules says, as the keeper in one process does."""

import secrets

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from redis.asyncio import Redis

from connectors.http.keeper_in_redis import InRedis, forgotten_after_ms
from connectors.http.standing import ANSWERED, End, GuardLimits
from tests.unit.connectors.http.guard_model import KeeperMachine


def test_they_do_what_the_rules_say(redis_url, prefix):
    class InRedisMachine(KeeperMachine):
        def keeper(self, limits, clock, draw):
            self.client = Redis.from_url(redis_url, decode_responses=secrets.choice([True, False]))
            self.name = f"{prefix}:{secrets.token_hex(4)}"
            return InRedis(self.client, self.name, limits, clock, draw)

        def teardown(self):
            if hasattr(self, "client"):
                self.runner.run(self.client.delete(f"{{{self.name}}}", f"{{{self.name}}}:slots"))
                self.runner.run(self.client.aclose())
            super().teardown()

    run_state_machine_as_test(
        InRedisMachine,
        settings=settings(
            max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )


@pytest.fixture
async def keeper(redis_url, prefix):
    """At a time that stands still at `keeper.now`."""
    async with Redis.from_url(redis_url) as client:
        keeper = InRedis(client, f"{prefix}:erp", GuardLimits(failures_max=1), lambda: keeper.now, lambda: 0.0)
        keeper.now = 1_790_000_000_000_000
        yield keeper
        await client.delete(f"{{{prefix}:erp}}", f"{{{prefix}:erp}}:slots")


async def test_an_answer_ends_the_row_of_throttled_calls(keeper):
    pauses = []
    for end in (End("throttled"), End("throttled"), ANSWERED, End("throttled")):
        await keeper.leave("call", end)
        standing, _, now = await keeper.read()
        pauses.append(max(standing.shut_until - now, 0))
        keeper.now = max(standing.shut_until, now)
    assert pauses == [1_000_000, 2_000_000, 0, 1_000_000]


async def test_a_server_whose_clock_goes_back_bars_nobody_for_longer(keeper):
    await keeper.enter("under way", 0)
    await keeper.leave("call", End("failed", "503"))
    await keeper.leave("another", End("throttled", retry_after_ms=1_000))
    before = await keeper.enter("next", 0)
    keeper.now -= 3_600_000_000
    assert await keeper.enter("next", 0) == before
    standing, slots, now = await keeper.read()
    assert (standing.shut_until - now, slots) == (1_000_000, 1)
    keeper.now += before.wait_us
    assert (await keeper.enter("next", 0)).verdict == "go"


async def test_a_probe_that_may_not_go_after_all_is_none_any_more(keeper):
    await keeper.leave("call", End("failed", "503"))
    keeper.now += 2_500_000
    assert (await keeper.enter("probe", 0)).verdict == "go"
    await keeper.leave("another", End("throttled", retry_after_ms=1_000))
    assert (await keeper.enter("probe", 0)).verdict == "throttled"
    assert await keeper.leave("probe", ANSWERED) == ""
    standing, slots, now = await keeper.read()
    assert (standing.state(now), slots) == ("half_open", 0)


async def test_the_server_s_time_counts_and_what_nobody_calls_is_forgotten(redis_url, prefix):
    async with Redis.from_url(redis_url) as client:
        keeper = InRedis(client, f"{prefix}:erp", GuardLimits(failures_max=1))
        assert (await keeper.enter("call", 0)).verdict == "go"
        assert await keeper.leave("call", End("failed", "503")) == "opened"
        refused = await keeper.enter("another", 0)
        assert refused.verdict == "open"
        assert 0 < refused.wait_us <= 5_000_000
        seconds, micros = await client.time()
        _, _, now = await keeper.read()
        assert abs(now - (seconds * 1_000_000 + micros)) < 60_000_000
        assert 0 < await client.pttl(f"{{{prefix}:erp}}") <= forgotten_after_ms
        await client.delete(f"{{{prefix}:erp}}", f"{{{prefix}:erp}}:slots")


async def test_a_server_that_has_forgotten_the_script_is_told_again(redis_url, prefix):
    async with Redis.from_url(redis_url) as client:
        keeper = InRedis(client, f"{prefix}:erp", GuardLimits())
        await keeper.enter("call", 0)
        await client.script_flush()
        assert await keeper.leave("call", ANSWERED) == ""
        await client.delete(f"{{{prefix}:erp}}", f"{{{prefix}:erp}}:slots")
