"""What becomes of each call, drawn from a seed and the call's number alone: the same seed disturbs the same calls."""

from random import Random

import msgspec

#: What becomes of all other calls.
PASSED = "passed"
#: Every fault, in the order of the draw and of tables; FaultPlan says what each does.
FAULTS = (
    *("reset_before", "reset_mid_answer", "lost_after_commit", "slow", "unavailable", "throttled", "throttled_until"),
    *("garbage", "html", "expired", "hang", "late"),
)
#: The server gets the calls that these befall; with those of `MAYBE_CALLED` either may be.
CALLED = frozenset({PASSED, "reset_mid_answer", "lost_after_commit", "slow", "late"})
MAYBE_CALLED = frozenset({"garbage", "html", "hang", "expired"})


class FaultPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How many calls are disturbed, and how. Shares are of all calls, between 0 and 1.

    `share` is the whole; a fault without a share of its own gets an equal part of what the others leave of it. So
    `FaultPlan(share=0.1, lost_after_commit=0.03)` loses 3 % of the answers and disturbs another 7 % in all other ways,
    and `FaultPlan(share=1, hang=1)` does nothing else.

    Faults:
      reset_before: the connection is reset; the server was not called.
      reset_mid_answer: the server has done its work; a part of its answer arrives, then the connection is reset.
      lost_after_commit: the server has done its work; instead of its answer the connection is closed.
      slow: the answer is late, by up to `slow_ms_max`.
      unavailable: 503; the server was not called.
      throttled, throttled_until: 429; the server was not called. The second says `Retry-After: retry_after_s`.
      garbage: 200 with bytes that mean nothing; whether the server was called is drawn.
      html: 200 with a page, as of a gateway that wants somebody to log in; whether the server was called is drawn.
      expired: the call's session is ended first, so that the server itself refuses the call.
      hang: no answer until the client leaves, or for `hang_ms_max`; whether the server was called is drawn.
      late: as `hang`, and only when the client has left does the server get the call.
    """

    share: float
    reset_before: float | None = None
    reset_mid_answer: float | None = None
    lost_after_commit: float | None = None
    slow: float | None = None
    unavailable: float | None = None
    throttled: float | None = None
    throttled_until: float | None = None
    garbage: float | None = None
    html: float | None = None
    expired: float | None = None
    hang: float | None = None
    late: float | None = None
    slow_ms_max: int = 500
    hang_ms_max: int = 60_000
    retry_after_s: int = 1

    def __post_init__(self) -> None:
        given = [share for fault in FAULTS if (share := getattr(self, fault)) is not None]
        if not 0 <= self.share <= 1 or any(share < 0 for share in given):
            raise ValueError("shares are between 0 and 1")
        if sum(given) > self.share + 1e-9:
            raise ValueError(f"the faults' own shares are {sum(given):g} together, more than the whole, {self.share:g}")

    def shares(self) -> dict[str, float]:
        """The share of every fault; together they are `share`, unless each has one of its own."""
        given = {fault: getattr(self, fault) for fault in FAULTS}
        left = self.share - sum(share for share in given.values() if share is not None)
        without = sum(share is None for share in given.values())
        return {fault: left / without if share is None else share for fault, share in given.items()}


class Fate(msgspec.Struct, frozen=True):
    """What becomes of one call: `fault` is one of FAULTS, or PASSED; `called` says whether the server gets the call.

    `draw`, in [0, 1), is where an answer is cut, or how late it is.
    """

    fault: str
    called: bool
    draw: float = 0.5

    @classmethod
    def of(cls, fault: str, called: bool = True, draw: float = 0.5) -> "Fate":
        """`called` counts where the fault leaves it open."""
        return cls(fault, fault in CALLED or (called and fault in MAYBE_CALLED), draw)


def fate_of(plan: FaultPlan, seed: int, number: int) -> Fate:
    """What becomes of call number `number`, whatever became of those before it."""
    random = Random(f"{seed} {number}")
    where, called, draw = random.random(), random.random() < 0.5, random.random()
    for fault, share in plan.shares().items():
        if where < share:
            return Fate.of(fault, called, draw)
        where -= share
    return Fate.of(PASSED)
