"""The guard as the gate of a client: what it lets through, what it sends back, and what it learns from each end."""

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime

import httpx
import pytest
from loguru import logger

from connectors.http.errors import Fault
from connectors.http.guard import Guard, GuardLimits
from connectors.http.keepers import InProcess
from connectors.http.outcome import LoginFailed, NotLoggedIn, error_for, error_without_answer
from connectors.http.standing import End, Turn
from pipeline.codes import TARGET_REFUSED
from pipeline.errors import PermanentError, TransientError
from tests.unit.connectors.http.calling import calling
from tests.unit.connectors.http.server import Hangup, Reply, Request, serving


class Clock:
    """Microseconds since 1970, moved by hand."""

    now = 1_790_000_000_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Watched(InProcess):
    """Says in `steps` what it has just been asked."""

    def __init__(self, limits: GuardLimits, clock: Clock | None = None) -> None:
        super().__init__(limits, clock, lambda: 0.5)
        self.steps: asyncio.Queue[str] = asyncio.Queue()

    async def enter(self, lease: str, wait_max_us: int) -> Turn:
        turn = await super().enter(lease, wait_max_us)
        self.steps.put_nowait(turn.verdict)
        return turn

    async def renew(self, leases: Collection[str]) -> None:
        await super().renew(leases)
        self.steps.put_nowait("renewed")

    async def until(self, *steps: str) -> None:
        for step in steps:
            while await self.steps.get() != step:
                pass


def watching(clock: Clock | None = None, **limits: object) -> tuple[Guard, Watched]:
    chosen = GuardLimits(**{"wait_max_ms": 0, **limits})
    keeper = Watched(chosen, clock)
    return Guard("erp", chosen, keeper=keeper), keeper


def guarding(clock: Clock | None = None, **limits: object) -> Guard:
    return watching(clock, **limits)[0]


async def call(guard: Guard, error: BaseException | None = None) -> BaseException | None:
    """Make a call that ends so; what comes of it."""
    try:
        async with guard():
            if error is not None:
                raise error
    except BaseException as raised:
        return raised
    return None


def fault(status: int) -> Exception:
    return error_for(Fault(status=status), "erp", writes=True)


#: How a call ended, and whether its target is down as far as that tells.
ENDS = [
    (None, False),
    (PermanentError(TARGET_REFUSED, "no such account"), False),
    *((fault(status), False) for status in (400, 403, 404, 408, 409, 422, 423, 425, 429)),
    *((fault(status), True) for status in (401, 500, 502, 503, 504)),
    (error_without_answer(httpx.ConnectError("refused"), "erp", writes=True), True),
    (error_without_answer(httpx.ReadTimeout(""), "erp", writes=True), True),
    (error_without_answer(httpx.ReadError(""), "erp", writes=False), True),
    (error_without_answer(httpx.PoolTimeout(""), "erp", writes=True), False),
    (LoginFailed("the log-in got no answer"), True),
    (NotLoggedIn("another call has just tried to log in"), False),
]


@pytest.mark.parametrize(("error", "down"), ENDS, ids=lambda value: repr(value)[:60])
async def test_only_who_reaches_nobody_or_gets_a_5xx_or_is_not_let_in_finds_the_target_down(error, down, clock):
    guard = guarding(clock, failures_max=1)
    assert await call(guard, error) is error
    assert (await guard.snapshot()).state == ("open" if down else "closed")


@pytest.mark.parametrize("error", [ValueError("a defect"), asyncio.CancelledError(), KeyboardInterrupt()])
async def test_what_is_no_end_of_the_call_says_nothing_and_gives_the_slot_back(error, clock):
    guard = guarding(clock, failures_max=1)
    assert await call(guard, error) is error
    shown = await guard.snapshot()
    assert (shown.state, shown.slots_in_use, shown.last_error) == ("closed", 0, None)


async def test_what_reached_nobody_burns_no_attempt_and_what_may_be_the_document_s_doing_does():
    guard = guarding(failures_max=100)
    unreachable = error_without_answer(httpx.ConnectError("refused"), "erp", writes=True)
    for error, burns in [(unreachable, False), (LoginFailed("401"), False), (fault(503), True), (fault(500), True)]:
        await call(guard, error)
        assert error.burns_attempt is burns


async def test_a_client_s_target_that_fails_is_left_alone_then_probed_then_called_again(clock):
    up = False

    def handler(request: Request) -> Reply:
        if not up:
            raise Hangup
        return Reply(body=[])

    guard = guarding(clock, failures_max=3)
    async with serving(handler) as server, calling(server.url, gate=guard) as client:
        for _ in range(3):
            with pytest.raises(TransientError, match="has not answered"):
                await client.call("POST", "/", json={})
        with pytest.raises(TransientError, match=r"is down and left alone for now.*has not answered") as refused:
            await client.call("POST", "/", json={})
        assert not refused.value.burns_attempt
        assert 3_750 <= refused.value.retry_after_ms <= 4_500
        assert len(server.requests) == 3, "nothing was sent"
        up = True
        clock.now += 3_750_000
        assert (await guard.snapshot()).state == "half_open"
        await client.call("POST", "/", json={})
        await client.call("POST", "/", json={})
    shown = await guard.snapshot()
    assert (shown.state, shown.failures, shown.open_until) == ("closed", 0, None)


async def test_how_long_a_delivery_stays_away_grows_with_the_outage_and_has_a_bound(clock):
    guard = guarding(clock, failures_max=1, away_max_ms=300_000)
    await call(guard, fault(503))
    away: list[int] = []
    began = clock.now
    while clock.now < began + 6 * 3_600_000_000:
        refused = await call(guard, fault(503))
        if refused.burns_attempt:  # it was let in, as the probe
            continue
        away.append(refused.retry_after_ms)
        clock.now += 1_000 * refused.retry_after_ms
    assert away[0] <= 5_000 * 1.2
    assert max(away) == 300_000
    assert len(away) < 120, "an outage of hours is not written down by the second"


async def test_a_short_wait_for_the_rate_is_waited_out_in_place_and_a_long_one_on_the_broker():
    guard = guarding(rate_per_s=20, wait_max_ms=1_000)
    began = asyncio.get_running_loop().time()
    for number in range(4):
        async with guard():
            assert asyncio.get_running_loop().time() - began >= number / 20
    slow = guarding(rate_per_s=0.01, wait_max_ms=1_000)
    await call(slow)
    refused = await call(slow)
    assert isinstance(refused, TransientError)
    assert "rate" in str(refused)
    assert (refused.burns_attempt, 99_000 < refused.retry_after_ms <= 120_000) == (False, True)


async def test_a_call_that_waits_for_its_token_looks_again_before_it_goes():
    guard, keeper = watching(rate_per_s=5, wait_max_ms=1_000, failures_max=1)
    went = False

    async def late() -> BaseException | None:
        nonlocal went
        try:
            async with guard():
                went = True
        except TransientError as error:
            return error
        return None

    async with guard():
        waiting = asyncio.create_task(late())
        await keeper.until("go", "go")
        await keeper.leave("somebody else", End("failed", "503"))
    refused = await waiting
    assert not went
    assert "is down" in str(refused)


async def test_those_who_wait_for_a_slot_come_in_as_they_came():
    guard = guarding(concurrency=1, wait_max_ms=60_000)
    order: list[int] = []

    async def calls(number: int) -> None:
        async with guard():
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(calls(number) for number in range(20)))
    assert order == list(range(20))


async def test_who_finds_no_slot_in_time_is_sent_back_and_so_are_all_behind():
    guard = guarding(concurrency=1, wait_max_ms=50)
    async with guard():
        refused = await asyncio.gather(*(call(guard) for _ in range(5)))
    assert [str(error) for error in refused] == ["erp has no room: as many calls as it may have are under way"] * 5
    assert {error.burns_attempt for error in refused} == {False}
    assert await call(guard) is None, "nobody was left in line"


async def test_a_call_given_up_while_it_waits_leaves_neither_slot_nor_place_in_line():
    guard, keeper = watching(concurrency=1, wait_max_ms=60_000)
    async with guard():
        waiting = [asyncio.create_task(call(guard)) for _ in range(3)]
        await keeper.until("full")
        for task in waiting:
            task.cancel()
        ends = await asyncio.gather(*waiting)
        assert [type(end) for end in ends] == [asyncio.CancelledError] * 3
    assert await call(guard) is None
    assert (await guard.snapshot()).slots_in_use == 0


async def test_a_call_given_up_while_it_waits_for_its_token_gives_its_slot_back():
    guard, keeper = watching(rate_per_s=0.1, wait_max_ms=60_000)
    await call(guard)
    waiting = asyncio.create_task(call(guard))
    await keeper.until("go", "go")
    waiting.cancel()
    assert isinstance(await waiting, asyncio.CancelledError)
    assert (await guard.snapshot()).slots_in_use == 0


async def test_a_slot_is_kept_as_long_as_its_call_lasts_and_no_longer(clock):
    guard, keeper = watching(clock, concurrency=1, lease_ms=60)
    async with guard():
        for _ in range(4):
            clock.now += 40_000
            await keeper.until("renewed")
            assert (await guard.snapshot()).slots_in_use == 1
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)
    assert (await guard.snapshot()).slots_in_use == 0


async def test_the_snapshot_shows_what_an_operator_asks_for(clock):
    guard = guarding(clock, failures_max=2, rate_per_s=1, burst=5, concurrency=3, open_first_ms=8_000)
    quiet = await guard.snapshot()
    assert (quiet.state, quiet.since, quiet.last_error, quiet.tokens, quiet.shared) == ("closed", None, None, 5, False)
    await call(guard, TransientError("erp answered 503: Busy, token=s3cr3tvalue " + "x" * 1_000))
    async with guard():
        shown = await guard.snapshot()
    assert (shown.slots_in_use, shown.slots_max, shown.tokens, shown.failures) == (1, 3, 3, 1)
    await call(guard, TransientError("erp answered 503: Busy, token=s3cr3tvalue " + "x" * 1_000))
    await call(guard, TransientError("erp answered 503: Busy, token=s3cr3tvalue " + "x" * 1_000))
    shown = await guard.snapshot()
    now = datetime.fromtimestamp(clock.now / 1_000_000, UTC)
    assert (shown.state, shown.since, shown.last_error_at) == ("open", now, now)
    assert shown.open_until is not None
    assert (shown.open_until - now).total_seconds() == 6
    assert shown.last_error is not None
    assert shown.last_error.startswith("erp answered 503: Busy, token=***")
    assert len(shown.last_error) <= 300


async def test_an_operator_reads_in_the_log_when_a_target_goes_down_and_when_it_comes_back(clock):
    said: list[tuple[str, str]] = []
    sink = logger.add(lambda line: said.append((line.record["level"].name, line.record["message"])), level="INFO")
    try:
        guard = guarding(clock, failures_max=1)
        for error in (fault(503), fault(503), None):
            await call(guard, error)
            clock.now += 60_000_000
    finally:
        logger.remove(sink)
    text = "erp answered 503, without a word of why"
    assert said == [
        ("WARNING", f"erp is down: it is called no more until a probe comes through ({text})"),
        ("INFO", f"erp is still down ({text})"),
        ("INFO", "erp is up again"),
    ]


@pytest.mark.parametrize(
    "limits",
    [
        {"rate_per_s": 0},
        {"rate_per_s": -1},
        {"rate_per_s": float("nan")},
        {"burst": 0},
        {"concurrency": 0},
        {"failures_max": 0},
        {"open_first_ms": 0},
        {"open_max_ms": 1},
        {"wait_max_ms": -1},
        {"away_max_ms": 0},
        {"lease_ms": 0},
    ],
)
def test_limits_that_nothing_could_pass_are_refused_by_name(limits):
    with pytest.raises(ValueError, match=next(iter(limits))):
        GuardLimits(**limits)
