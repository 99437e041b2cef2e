"""The run: every contender takes its turn in every round, then growth and lanes; what fails is noted and left."""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from benchmarks import machine
from benchmarks.contenders import ENTRANTS, Entrant
from benchmarks.figures import Round
from benchmarks.growth import MEASURED, growth
from benchmarks.lanes import lanes
from benchmarks.plan import Plan
from benchmarks.report import Measured, report
from benchmarks.rounds import take_turn
from benchmarks.servers import Servers
from benchmarks.session import Failed

Tell = Callable[[str], None]
T = TypeVar("T")


class Run:
    """One run of these contenders."""

    def __init__(self, names: Sequence[str], servers: Servers, plan: Plan, tell: Tell) -> None:
        self._names, self._servers, self._plan, self._tell = tuple(names), servers, plan, tell
        self._began = time.monotonic()
        self._machine = machine.machine()
        self._versions = servers.versions()
        self.measured = Measured(rounds={name: [] for name in names})

    def measure(self) -> None:
        """Do everything that the plan names."""
        if {"throughput", "latency"} & set(self._plan.parts):
            for number in range(1, self._plan.rounds + 1):
                for name in self._names:
                    self._turn(number, ENTRANTS[name])
        if "growth" in self._plan.parts:
            names = tuple(name for name in MEASURED if name in self._names)
            self.measured.growth = self._try(
                "growth", lambda: growth(names, self._servers, self._plan, self._tell) or None
            )
        if "lanes" in self._plan.parts and {"tieout", "tieout-bulk"} <= set(self._names):
            self.measured.lanes = self._try("lanes", lambda: lanes(self._servers, self._plan, self._tell))

    def _turn(self, number: int, entrant: Entrant) -> None:
        if entrant.name in self.measured.failed:
            return
        turn = self._try(entrant.name, lambda: take_turn(entrant, self._servers, self._plan))
        if turn is None:
            return
        self.measured.rounds[entrant.name].append(turn.figures)
        self.measured.about[entrant.name] = {"queue_type": entrant.queue_type, "settings": turn.settings}
        self._versions |= turn.versions
        self._tell(f"round {number} of {self._plan.rounds}, {entrant.name}: {_in_words(turn.figures)}")

    def _try(self, name: str, work: Callable[[], T]) -> T | None:
        """Do it, or note why not: whatever goes wrong, the others have their turn."""
        try:
            return work()
        except Exception as error:
            reason = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
            self.measured.failed[name] = reason
            self._tell(f"{name} FAILED: {reason}")
            return None

    def report(self) -> dict[str, Any]:
        """What has been measured so far, as plain values."""
        return report(
            self.measured,
            versions=dict(sorted(self._versions.items())),
            machine=self._machine,
            plan=msgspec.to_builtins(self._plan),
            seconds=round(time.monotonic() - self._began, 1),
        )


def _in_words(figures: Round) -> str:
    words = []
    if figures.events_per_s is not None:
        words.append(f"{figures.events_per_s:,.0f} events/s")
    if figures.p50_ms is not None and figures.p99_ms is not None:
        words.append(f"p50 {figures.p50_ms:,.1f} ms, p99 {figures.p99_ms:,.1f} ms")
    return ", ".join(words)
