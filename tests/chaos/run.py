"""One run: work comes in while things break, then they break no more, and what became of every record is read."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import msgspec
import psycopg

from tests.chaos import oracle
from tests.chaos.deployment import Deployment
from tests.chaos.faults import OF_PROCESSES, OF_SERVERS, Fault
from tests.chaos.oracle import Verdict
from tests.chaos.plan import Injection, Profile, Round, plan
from tests.chaos.processes import start
from tests.chaos.records import MAPPING, Truth, truth_of, write_files

#: How long after a fault nothing may happen before it counts as a stall.
stall_s = 45.0
poll_s = 0.25
#: Rest is what still holds when it is looked at again: a quorum queue tells how many messages it has every 5 s
#: (`quorum_tick_interval`, https://www.rabbitmq.com/docs/quorum-queues), and what nobody waits for may be on its way.
rest_s = 6.0
ingest_timeout_s = 300.0

REPEATED_STEPS = """
    select coalesce(sum(times - 1), 0) from (
        select count(*) as times from steps where message_id is not null
        group by record_id, stage, message_id, attempt having count(*) > 1
    ) repeated
"""


class Result(msgspec.Struct, kw_only=True):
    """What happened. `stalls` names the faults after which nothing moved for long."""

    profile: Profile
    folder: Path
    verdict: Verdict | None = None
    seconds: float = 0.0
    seconds_of_faults: float = 0.0
    injected: Counter[str] = msgspec.field(default_factory=Counter)
    broken: Counter[str] = msgspec.field(default_factory=Counter)
    not_injected: dict[str, str] = msgspec.field(default_factory=dict)
    under_way: list[int] = msgspec.field(default_factory=list)
    stalls: list[str] = msgspec.field(default_factory=list)
    came_to_rest: bool = False
    restarts: int = 0
    recovered: int = 0
    repeated_steps: int = 0
    exits: dict[str, int] = msgspec.field(default_factory=dict)

    @property
    def holds(self) -> bool:
        left_in_order = all(status == 0 for status in self.exits.values())
        return self.came_to_rest and left_in_order and self.verdict is not None and self.verdict.holds


def run(profile: Profile, say: Callable[[str], None]) -> Result:
    """Run to the end; the folder with the logs stays, for whoever called to remove."""
    began = time.monotonic()
    rounds = plan(profile)
    random = Random(f"deployment {profile.seed}")
    with Deployment(random, profile.workers) as deployment:
        result = Result(profile=profile, folder=deployment.folder)
        say(f"seed {profile.seed}, {len(rounds)} rounds, logs in {deployment.folder}")
        paths = write_files(deployment.folder, profile.records, len(rounds), Random(f"records {profile.seed}"))
        deadline = began + profile.minutes_max * 60
        _go_through(rounds, paths, deployment, result, deadline, say)
        result.seconds_of_faults = time.monotonic() - began
        _rest(deployment, result, deadline, say)
        result.restarts = sum(process.restarts for process in deployment.supervisor.processes)
        result.exits = deployment.supervisor.stop()
        result.recovered = deployment.count("select count(*) from steps where outcome = 'recovered'")
        result.repeated_steps = deployment.count(REPEATED_STEPS)
        result.verdict = _judge(deployment, truth_of(paths))
        result.broken["connections broken inside a frame"] = (
            deployment.amqp_proxy.broken + deployment.database_proxy.broken
        )
    result.seconds = time.monotonic() - began
    return result


def _go_through(
    rounds: list[Round],
    paths: list[Path],
    deployment: Deployment,
    result: Result,
    deadline: float,
    say: Callable[[str], None],
) -> None:
    """Round after round; every fault is over when this returns, and every file has come in."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        coming_in = []
        for number, (one, path) in enumerate(zip(rounds, paths, strict=True)):
            before = deployment.steps()
            coming_in.append(pool.submit(_bring_in, deployment, path, one.lane))
            if _until(lambda before=before: deployment.steps() > before, stall_s):
                result.under_way.append(deployment.under_way())
            at_once = [(OF_PROCESSES[injection.fault], injection) for injection in one.processes]
            if one.server is not None:
                at_once.insert(0, (OF_SERVERS[one.server.fault], one.server))
            hurting = [pool.submit(_inject, fault, injection, deployment, result) for fault, injection in at_once]
            for hurt in hurting:
                hurt.result()
            name = " + ".join(fault.name for fault, _ in at_once)
            reached = deployment.steps()
            if not _until(lambda reached=reached: deployment.steps() > reached or not deployment.under_way(), stall_s):
                result.stalls.append(name)
            say(f"round {number + 1}/{len(rounds)}: {name}; {deployment.under_way()} records under way")
        for done in coming_in:
            done.result()


def _inject(fault: Fault, injection: Injection, deployment: Deployment, result: Result) -> None:
    if (reason := fault.why_not(deployment)) is not None:
        result.not_injected[fault.name] = reason
        return
    time.sleep(injection.after_s)
    fault.inject(deployment, Random(injection.seed), result.broken)
    result.injected[fault.name] += 1


def _bring_in(deployment: Deployment, path: Path, lane: str) -> None:
    """Ingest the file, again and again where something broke under it: what is accepted already is not read twice."""
    deadline = time.monotonic() + ingest_timeout_s
    while deployment.run("ingest", str(path), "--map", str(MAPPING), "--lane", lane, timeout_s=120, expect=()) != 0:
        if time.monotonic() > deadline:
            raise AssertionError(f"{path.name} can't be brought in: see ingest.log")
        time.sleep(poll_s)


def _rest(deployment: Deployment, result: Result, deadline: float, say: Callable[[str], None]) -> None:
    """Wait until nothing moves any more."""
    said = 0.0
    while time.monotonic() < deadline:
        deployment.check_servers()
        under_way, owed = deployment.under_way(), deployment.owed()
        if not under_way and not owed and not any(deployment.queues().values()):
            time.sleep(rest_s)
            if not deployment.under_way() and not any(deployment.queues().values()):
                result.came_to_rest = True
                return
        if time.monotonic() - said > 10:
            said = time.monotonic()
            say(f"coming to rest: {under_way} records under way, {owed} messages owed")
        time.sleep(poll_s)


def _judge(deployment: Deployment, truth: Truth) -> Verdict:
    with (deployment.folder / "balance.json").open("w") as output:
        status = start(["balance", "--json"], deployment.folder, deployment.environment, "balance", output).wait(120)
    return oracle.judge(
        truth,
        accepted=deployment.query(oracle.ACCEPTED),
        standing=deployment.query(oracle.STANDING),
        dead=deployment.query(oracle.DEAD),
        queues=deployment.queues(),
        owed=deployment.owed(),
        balance=(deployment.folder / "balance.json").read_text(),
        balance_status=status,
    )


def _until(holds: Callable[[], bool], within_s: float) -> bool:
    """Wait until it holds; false when it does not in time. A database that is away does not say that it holds."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if holds():
                return True
        except psycopg.OperationalError:
            pass
        time.sleep(poll_s)
    return False
