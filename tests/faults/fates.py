"""Which call is disturbed how, and how often that was: the same for calls over HTTP and for calls of a port."""

import threading
from collections.abc import Callable
from typing import Any

from tests.faults.plan import FAULTS, PASSED, Fate, FaultPlan, fate_of

#: Whether a call is meant: of a proxy that is a request, of a port what it was called with.
Predicate = Callable[[Any], bool]


class Ordered(threading.Event):
    """A fault that was ordered for one call; set when it has happened, before the caller can tell."""

    def __init__(self, fate: Fate, where: Predicate) -> None:
        super().__init__()
        self.fate, self.where = fate, where


class Fates:
    """Draws what becomes of each call and counts what did. Any thread may use it.

    Calls that `disturbs` says no to, and all calls while `on` is false, pass and take no number. `plan` and `on` may be
    set at any time.

    Attributes:
      counts: how many calls each fault befell, and how many PASSED.
      called: how many of those were carried out all the same, by the same names.
    """

    def __init__(self, plan: FaultPlan, seed: int, *, disturbs: Predicate = lambda call: True) -> None:
        self.plan, self.seed, self.on = plan, seed, True
        # All names from the start: another thread may read while this one counts.
        self.counts = dict.fromkeys((PASSED, *FAULTS), 0)
        self.called = dict(self.counts)
        self._disturbs = disturbs
        self._number = 0
        self._ordered: list[Ordered] = []
        self._lock = threading.Lock()

    @property
    def disturbed(self) -> int:
        return sum(self.counts[fault] for fault in FAULTS)

    def table(self) -> list[tuple[str, int, int]]:
        """What became of the calls: name, how many, and how many of those were carried out."""
        return [(name, count, self.called[name]) for name, count in self.counts.items()]

    def once(self, fault: str, where: Predicate = lambda call: True, *, called: bool = True) -> Ordered:
        """Order a fault for the next call that `where` says yes to, also while switched off; returns what to wait for.

        `called`: whether it is carried out, where the fault leaves that open.
        """
        ordered = Ordered(Fate.of(fault, called), where)
        with self._lock:
            self._ordered.append(ordered)
        return ordered

    def draw(self, call: Any) -> tuple[Fate, Ordered | None]:
        """What becomes of a call, and the order that it fulfils, to be given to `count`."""
        with self._lock:
            for ordered in self._ordered:
                if ordered.where(call):
                    self._ordered.remove(ordered)
                    return ordered.fate, ordered
            if not self.on or not self._disturbs(call):
                return Fate.of(PASSED), None
            self._number += 1
            return fate_of(self.plan, self.seed, self._number), None

    def count(self, fate: Fate, ordered: Ordered | None) -> None:
        """It has happened."""
        with self._lock:
            self.counts[fate.fault] += 1
            self.called[fate.fault] += fate.called
        if ordered:
            ordered.set()
