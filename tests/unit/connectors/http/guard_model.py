"""The guard's rules told plainly, with fractions of tokens and lists of what happened, and a machine that compares."""

import asyncio
from collections.abc import Callable
from fractions import Fraction
from math import ceil
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from connectors.http.standing import ANSWERED, UNKNOWN, End, GuardLimits, Keeper, snapshot_of

START = 1_790_000_000_000_000
SECOND = 1_000_000

LIMITS = st.builds(
    GuardLimits,
    rate_per_s=st.sampled_from([None, 0.5, 1, 3, 7.5, 400]),
    burst=st.integers(1, 3),
    concurrency=st.integers(1, 3),
    failures_max=st.integers(1, 3),
    open_first_ms=st.just(1_000),
    open_max_ms=st.sampled_from([1_000, 3_000, 60_000]),
    lease_ms=st.sampled_from([500, 15_000]),
)
ENDS = st.sampled_from(
    [
        ANSWERED,
        UNKNOWN,
        *(End("failed", f"reset {number}") for number in range(4)),
        End("failed", "503", retry_after_ms=1_500),
        End("throttled"),
        End("throttled", retry_after_ms=0),
        End("throttled", retry_after_ms=2_000),
    ]
)


class Model:
    """What should come of it. Moments are microseconds."""

    def __init__(self, limits: GuardLimits) -> None:
        self.limits = limits
        self.now = self.refilled_at = START
        self.tokens = Fraction(limits.burst)
        self.shut_until = self.throttled_in_a_row = 0
        self.leases: dict[str, int] = {}
        #: The ends in a row that were failures.
        self.failures: list[str] = []
        #: While it is open: when it will let somebody through, one for each time it was opened.
        self.openings: list[int] = []
        self.down_since = 0
        self.probe = ""

    def pass_time(self, us: int) -> None:
        self.now += us
        self.leases = {lease: until for lease, until in self.leases.items() if until > self.now}
        if self.limits.rate_per_s:
            self.tokens += Fraction(self.now - self.refilled_at, self.limits.interval_us)
            self.tokens = min(self.tokens, Fraction(self.limits.burst))
        self.refilled_at = self.now

    def set_back(self, us: int) -> None:
        """Whoever holds the clock puts it back: nothing is nearer or farther for it."""
        self.now -= us
        self.refilled_at -= us
        self.shut_until -= us if self.shut_until else 0
        self.down_since -= us
        self.leases = {lease: until - us for lease, until in self.leases.items()}
        self.openings = [until - us for until in self.openings]

    @property
    def state(self) -> str:
        if not self.openings:
            return "closed"
        return "open" if self.now < self.openings[-1] else "half_open"

    def enter(self, lease: str, wait_max: int) -> tuple[str, int]:
        refused = None
        if self.state == "open":
            refused = ("open", self.openings[-1] - self.now)
        elif self.state == "half_open" and self.probe in self.leases and self.probe != lease:
            refused = ("probing", 0)
        elif self.now < self.shut_until:
            refused = ("throttled", self.shut_until - self.now)
        if refused:
            # It gives back what it had, the right to be the probe included.
            self.leases.pop(lease, None)
            self.probe = "" if self.probe == lease else self.probe
            return refused
        wait = 0
        if lease not in self.leases:
            if len(self.leases) == self.limits.concurrency:
                return "full", 0
            if self.limits.rate_per_s:
                wait = max(ceil((1 - self.tokens) * self.limits.interval_us), 0)
                if wait > wait_max:
                    return "throttled", wait
                self.tokens -= 1
        self.leases[lease] = self.now + 1_000 * self.limits.lease_ms
        if self.openings:
            self.probe = lease
        return "go", wait

    def leave(self, lease: str, end: End, draw: float) -> str:
        self.leases.pop(lease, None)
        self._shut(end)
        probed, self.probe = self.probe == lease, "" if self.probe == lease else self.probe
        match end.kind, bool(self.openings):
            case "failed", _:
                self.failures.append(end.error)
            case (("answered" | "throttled"), False):
                self.failures.clear()
        if end.kind == "failed" and (probed or (not self.openings and len(self.failures) == self.limits.failures_max)):
            self.down_since = self.down_since if self.openings else self.now
            longest = min(self.limits.open_first_ms * 2 ** len(self.openings), self.limits.open_max_ms) * 1_000
            self.openings.append(self.now + int(longest / 2 * (1 + draw)))
            return "opened" if len(self.openings) == 1 else "reopened"
        if end.kind in ("answered", "throttled") and probed:
            self.openings.clear()
            self.failures.clear()
            return "closed"
        return ""

    def _shut(self, end: End) -> None:
        wait = (end.retry_after_ms or 0) * 1_000
        if end.kind == "answered":
            self.throttled_in_a_row = 0
        if end.kind == "throttled" and self.now >= self.shut_until:
            self.throttled_in_a_row += 1
            if end.retry_after_ms is None:
                wait = min(2 ** (self.throttled_in_a_row - 1), 60) * SECOND
        if wait:
            self.shut_until = max(self.shut_until, self.now + wait)
            if self.limits.rate_per_s:
                # One token when it opens again, however many there were.
                then = 1 - Fraction(self.shut_until - self.now, self.limits.interval_us)
                self.tokens = min(self.tokens, then)


class KeeperMachine(RuleBasedStateMachine):
    """Does whatever comes to mind with a keeper and with the model; both must say the same all the way."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.calls: list[str] = []
        self.draw = 0.0

    def keeper(self, limits: GuardLimits, clock: Callable[[], int], draw: Callable[[], float]) -> Keeper:
        """The one to be tried."""
        raise AssertionError("a subclass says which")

    @initialize(limits=LIMITS)
    def begin(self, limits: GuardLimits) -> None:
        self.model = Model(limits)
        self.tried = self.keeper(limits, lambda: self.model.now, lambda: self.draw)

    @rule(us=st.one_of(st.integers(0, 3 * SECOND), st.integers(0, 90 * SECOND)))
    def time_passes(self, us: int) -> None:
        self.model.pass_time(us)

    @rule(choice=st.randoms(use_true_random=False), besides=st.integers(-1, 1))
    def time_passes_up_to_an_edge(self, choice: Any, besides: int) -> None:
        edges = [self.model.shut_until, *self.model.openings[-1:], *self.model.leases.values()]
        ahead = [edge - self.model.now + besides for edge in edges if edge + besides >= self.model.now]
        if ahead:
            self.model.pass_time(choice.choice(ahead))

    @rule(us=st.integers(1, 3_600 * SECOND))
    def the_clock_is_put_back(self, us: int) -> None:
        # Time counts as far as it has been seen: before, and after.
        self.runner.run(self.tried.renew([]))
        self.model.set_back(us)
        self.runner.run(self.tried.renew([]))

    @rule(wait_max=st.sampled_from([0, SECOND // 2, 5 * SECOND]))
    def a_call_wants_in(self, wait_max: int) -> None:
        self.calls.append(f"call-{len(self.calls)}")
        self.enters(self.calls[-1], wait_max)

    @precondition(lambda self: self.calls)
    @rule(choice=st.randoms(use_true_random=False))
    def a_call_looks_again(self, choice: Any) -> None:
        self.enters(choice.choice(self.calls[-6:]), 0)

    def enters(self, call: str, wait_max: int) -> None:
        turn = self.runner.run(self.tried.enter(call, wait_max))
        assert (turn.verdict, turn.wait_us) == self.model.enter(call, wait_max)
        if turn.verdict in ("open", "probing"):
            assert (turn.error, turn.down_us) == (self.model.failures[-1], self.model.now - self.model.down_since)

    @precondition(lambda self: self.calls)
    @rule(choice=st.randoms(use_true_random=False), end=ENDS, draw=st.floats(0, 1, exclude_max=True))
    def a_call_ends(self, choice: Any, end: End, draw: float) -> None:
        # Also one that was refused, or whose lease has run out long ago.
        self.draw, call = draw, choice.choice(self.calls[-6:])
        assert self.runner.run(self.tried.leave(call, end)) == self.model.leave(call, end, draw)

    @precondition(lambda self: self.calls)
    @rule(choice=st.randoms(use_true_random=False))
    def calls_are_still_under_way(self, choice: Any) -> None:
        calls = choice.sample(self.calls, min(2, len(self.calls)))
        self.runner.run(self.tried.renew(calls))
        until = self.model.now + 1_000 * self.model.limits.lease_ms
        self.model.leases |= {call: until for call in calls if call in self.model.leases}

    @invariant()
    def both_stand_the_same(self) -> None:
        if not hasattr(self, "model"):
            return
        model = self.model
        standing, slots, now = self.runner.run(self.tried.read())
        shown = snapshot_of("erp", model.limits, standing, slots, now, shared=False)
        assert (shown.state, shown.failures, shown.slots_in_use) == (
            model.state,
            len(model.failures),
            len(model.leases),
        )
        assert standing.shut_until == model.shut_until
        if model.limits.rate_per_s:
            whole = max(int(model.tokens), 0)
            assert shown.tokens == (whole if now >= model.shut_until else 0)

    def teardown(self) -> None:
        self.runner.close()
