"""What a run does, drawn from its seed alone: the same seed plans the same faults in the same order."""

from collections.abc import Sequence
from random import Random

import msgspec

from tests.chaos.faults import OF_PROCESSES, OF_SERVERS, Fault

#: How long a round's work has been under way when its server is hurt.
pause_s_max = 1.5
#: When, within a round, a process is hurt.
process_fault_within_s = 8.0
#: Where no server is to be hurt.
processes_per_round = 3


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """How large a run is: so many faults of each kind, of those whose name has `only` in it, within `minutes_max`."""

    records: int
    seed: int
    server_faults: int
    process_faults: int
    minutes_max: float
    workers: int = 2
    only: str = ""


class Injection(msgspec.Struct, frozen=True):
    """`fault` is an index into OF_SERVERS or OF_PROCESSES; it draws what it needs from `seed`."""

    fault: int
    after_s: float
    seed: float


class Round(msgspec.Struct, frozen=True):
    """One file of records comes in on `lane`; then a server is hurt, and processes at the same time."""

    lane: str
    server: Injection | None
    processes: tuple[Injection, ...]


def plan(profile: Profile) -> list[Round]:
    random = Random(f"plan {profile.seed}")
    servers = _drawn(OF_SERVERS, profile.server_faults, profile.only, random)
    processes = _drawn(OF_PROCESSES, profile.process_faults, profile.only, random)
    rounds: list[int | None] = [*servers] or [None] * -(-len(processes) // processes_per_round)
    return [
        Round(
            lane=random.choice(("live", "bulk")),
            server=None if fault is None else Injection(fault, random.uniform(0, pause_s_max), random.random()),
            processes=tuple(
                Injection(other, random.uniform(0, process_fault_within_s), random.random())
                for other in processes[number :: len(rounds)]
            ),
        )
        for number, fault in enumerate(rounds)
    ]


def _drawn(faults: Sequence[Fault], times: int, only: str, random: Random) -> list[int]:
    wanted = [number for number, fault in enumerate(faults) if only in fault.name for _ in range(times)]
    random.shuffle(wanted)
    return wanted
