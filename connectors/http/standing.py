"""How a guarded target stands: the limits it is called within, what a guard is told and answers, and what is shown."""

from collections.abc import Collection
from datetime import UTC, datetime
from math import ceil
from typing import Literal, Protocol

import msgspec

State = Literal["closed", "open", "half_open"]

#: `go`: slot and token are taken. `open` and `probing`: the breaker bars the way. `throttled`: not yet, by the rate or
#: because the target asked for it. `full`: every slot is in use.
Verdict = Literal["go", "open", "probing", "throttled", "full"]

#: How a call ended, as far as the target's health goes; `unknown` says nothing about it (given up, a defect of ours).
Kind = Literal["answered", "failed", "throttled", "unknown"]

#: A change of the breaker that the end of a call has caused.
Change = Literal["", "opened", "reopened", "closed"]


class GuardLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much a target is asked to bear, by all workers together, and when it is left alone.

    At most `rate_per_s` calls a second begin (None: as many as come), `burst` of them at once after a quiet while, and
    at most `concurrency` are under way. `failures_max` failures in a row open the breaker for `open_first_ms` (half
    fixed, half jitter), twice as long each time it was no use, up to `open_max_ms`. A call waits in place for its turn
    up to `wait_max_ms`; beyond that its delivery waits on the broker, up to `away_max_ms` at a time. The slot of a
    worker that has died is free again after `lease_ms`.

    Raises (when made):
      ValueError: a limit that nothing could pass.
    """

    rate_per_s: float | None = None
    burst: int = 1
    concurrency: int = 8
    failures_max: int = 5
    open_first_ms: int = 5_000
    open_max_ms: int = 60_000
    wait_max_ms: int = 5_000
    away_max_ms: int = 300_000
    lease_ms: int = 15_000

    def __post_init__(self) -> None:
        if self.rate_per_s is not None and not 0 < self.rate_per_s <= 1_000_000:
            raise ValueError(f"rate_per_s = {self.rate_per_s}: expected a number above 0, or none for no limit")
        for name in ("burst", "concurrency", "failures_max", "open_first_ms", "away_max_ms", "lease_ms"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: expected 1 or more")
        if self.open_max_ms < self.open_first_ms:
            raise ValueError(f"open_max_ms = {self.open_max_ms}: expected at least open_first_ms, {self.open_first_ms}")
        if self.wait_max_ms < 0:
            raise ValueError(f"wait_max_ms = {self.wait_max_ms}: expected 0 or more")

    @property
    def interval_us(self) -> int:
        """How far apart calls begin, in microseconds; 0 where there is no rate."""
        return ceil(1_000_000 / self.rate_per_s) if self.rate_per_s else 0


class Turn(msgspec.Struct, frozen=True):
    """The answer to a call that wants in.

    After `go` the call waits `wait_us` and asks again; refused, it may ask again after `wait_us` (0: nobody knows).
    `down_us` is how long the target has been down, `error` what it said last, where the breaker bars the way.
    """

    verdict: Verdict
    wait_us: int = 0
    down_us: int = 0
    error: str = ""


GO = Turn("go")


class End(msgspec.Struct, frozen=True):
    """How a call ended; `retry_after_ms` is how long the target wants to be left alone, if it has said so."""

    kind: Kind
    error: str = ""
    retry_after_ms: int | None = None


ANSWERED, UNKNOWN = End("answered"), End("unknown")


class Standing(msgspec.Struct, kw_only=True):
    """What is kept of a target. Moments are microseconds since 1970, and 0 where there is none.

    Bucket: it is full again at `full_at`, and shut until `shut_until`, as asked by `throttles` answers in a row.
    Breaker: closed while `openings` is 0; else it has been opened so often in a row, now until `open_until`, and the
    target has been down since `down_since`; `probe` is the call that tries it. `failures` are those in a row; the
    last of them said `error` at `error_at`. The state has been what it is since `since`. `seen` is the last moment at
    which anything was kept.
    """

    full_at: int = 0
    shut_until: int = 0
    throttles: int = 0
    failures: int = 0
    openings: int = 0
    since: int = 0
    down_since: int = 0
    open_until: int = 0
    probe: str = ""
    error: str = ""
    error_at: int = 0
    seen: int = 0

    def see(self, now: int) -> int:
        """Keep the moment. Where the clock has gone back, what is kept goes back with it, or a breaker would stay open
        and a bucket shut for as long; returns by how much, in microseconds.
        """
        back_us = max(self.seen - now, 0)
        if back_us:
            for name in MOMENTS:
                if moment := getattr(self, name):
                    setattr(self, name, moment - back_us)
        self.seen = now
        return back_us

    def state(self, now: int) -> State:
        if not self.openings:
            return "closed"
        return "open" if now < self.open_until else "half_open"


#: The fields of a `Standing` that are moments.
MOMENTS = ("full_at", "shut_until", "since", "down_since", "open_until", "error_at")


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What `tieout status` shows of a guard.

    `state` has held since `since` (None: as far back as anybody knows); an open breaker lets a probe through at
    `open_until`, and `down_since` is when it opened first, however often again since. `failures` are those in a row,
    `last_error` is the last of all, at `last_error_at`, without secrets. `tokens` are the calls that may begin at once
    (None: no rate limit), none before `throttled_until`. `shared`: this holds for all workers; else only for the
    process that was asked, since there is no Redis or it does not answer.
    """

    target: str
    state: State
    since: datetime | None
    down_since: datetime | None
    failures: int
    open_until: datetime | None
    last_error: str | None
    last_error_at: datetime | None
    tokens: int | None
    throttled_until: datetime | None
    slots_in_use: int
    slots_max: int
    shared: bool


class Keeper(Protocol):
    """Keeps the standing of one target: in this process, or in Redis for all workers (`shared`)."""

    @property
    def shared(self) -> bool: ...

    async def enter(self, lease: str, wait_max_us: int) -> Turn:
        """Take slot and token for this call, if it need not wait longer than that; a call that has them looks again
        whether it may still go, and gives them back where it may not."""

    async def leave(self, lease: str, end: End) -> Change:
        """The call is over: give its slot back and learn from its end."""

    async def renew(self, leases: Collection[str]) -> None:
        """These calls are still under way."""

    async def read(self) -> tuple[Standing, int, int]:
        """The standing, how many slots are in use, and the moment it is, in microseconds."""


def snapshot_of(
    target: str, limits: GuardLimits, standing: Standing, slots_in_use: int, now: int, *, shared: bool
) -> Snapshot:
    """The standing in a person's units."""
    state, interval = standing.state(now), limits.interval_us
    tokens = None
    if interval:
        tokens = max((limits.burst * interval - max(standing.full_at - now, 0)) // interval, 0)
    return Snapshot(
        target=target,
        state=state,
        since=_moment(standing.open_until if state == "half_open" else standing.since),
        down_since=_moment(standing.down_since),
        failures=standing.failures,
        open_until=_moment(standing.open_until) if state == "open" else None,
        last_error=standing.error or None,
        last_error_at=_moment(standing.error_at),
        tokens=tokens if now >= standing.shut_until or tokens is None else 0,
        throttled_until=_moment(standing.shut_until) if now < standing.shut_until else None,
        slots_in_use=slots_in_use,
        slots_max=limits.concurrency,
        shared=shared,
    )


def _moment(us: int) -> datetime | None:
    return datetime.fromtimestamp(us / 1_000_000, UTC) if us else None
