"""Looking at targets: can they be opened, do they answer, what do they hold, how are they set up?"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ops.findings import ADVICE, OK, PROBLEM, Finding
from pipeline.errors import PipelineError
from pipeline.ports import Capabilities, Target, Total, posting_key
from pipeline.rules import Rules
from pipeline.settings import Settings
from store.targets import TargetRow

if TYPE_CHECKING:
    from ops.bootstrap import Engine

answer_timeout_s = 20


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a target said; `error` is None when it answered. Of one that can't be opened nothing else is known."""

    target: str
    ms: int = 0
    capabilities: Capabilities | None = None
    holds: list[Total] = []
    error: str | None = None


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """A target as it is set up; `setup` is None for one that is built in, `unopened` says why it can't be opened."""

    target: str
    kind: str
    capabilities: Capabilities | None
    routes: list[str]
    setup: TargetRow | None = None
    unopened: str | None = None


async def ask(target: Target, *, holds: bool = False) -> Answer:
    """Look up a document that can't exist; with `holds`, ask for the totals too where the target gives them."""
    # Well-formed in all but its subject: a target may look in different places by what a reference says.
    no_such_reference = posting_key(target.name, "time_entry.v1", "tieout", "no-such-entry", "0")

    async def question() -> list[Total]:
        await target.find(no_such_reference)
        return list(await target.totals()) if holds and target.capabilities.totals else []

    return await _answered(target, question)


async def _answered(target: Target, question: Callable[[], Awaitable[list[Total]]]) -> Answer:
    began = time.monotonic()
    found: list[Total] = []
    error = None
    try:
        async with asyncio.timeout(answer_timeout_s):
            found = await question()
    except TimeoutError:
        error = f"no answer within {answer_timeout_s} s"
    except PipelineError as refused:
        error = str(refused)
    return Answer(
        target=target.name,
        capabilities=target.capabilities,
        ms=int((time.monotonic() - began) * 1000),
        holds=found,
        error=error,
    )


async def ask_by_name(engine: "Engine", name: str, *, holds: bool = False) -> Answer:
    """Ask a target of the engine's.

    One that was set up is asked past its guard: the question is whether it answers, not whether workers may call it.
    """
    if (why := engine.connected.unopened.get(name)) is not None:
        return Answer(target=name, error=f"it can't be opened: {why}")
    row = engine.connected.rows.get(name)
    if row is None:
        return await ask(engine.targets[name], holds=holds)
    target = engine.connected.open(row)
    try:
        return await ask(target, holds=holds)
    finally:
        await target.close()


async def ask_all(engine: "Engine", names: Sequence[str]) -> list[Answer]:
    """All of them at once."""
    return list(await asyncio.gather(*(ask_by_name(engine, name) for name in names)))


def names_of(engine: "Engine") -> list[str]:
    """Every target there is, opened or not: those built in first."""
    return [*engine.connected.built_in, *engine.connected.rows]


def described(engine: "Engine", name: str) -> Described:
    """What is known here of a target, without asking it."""
    row, target = engine.connected.rows.get(name), engine.targets.get(name)
    return Described(
        target=name,
        kind=row.kind if row else "built in",
        capabilities=target.capabilities if target else None,
        routes=routes_to(engine.rules, name),
        setup=row,
        unopened=engine.connected.unopened.get(name),
    )


def routes_to(rules: Rules, name: str) -> list[str]:
    """What the rules route to a target, whenever: `time_entry of DE01`."""
    return [
        route.document_type + ("" if route.legal_entity == "*" else f" of {route.legal_entity}")
        for route in rules.routing
        if name in route.targets
    ]


async def check_targets(engine: "Engine", settings: Settings) -> list[Finding]:
    """The doctor's look at the targets: each can be opened and answers, and the rules route to no other."""
    names = names_of(engine)
    found = [_finding(engine, one) for one in await ask_all(engine, names)]
    wrong = {name for route in engine.rules.routing for name in route.targets} - set(names)
    found += [
        Finding(
            subject=f"target {name}",
            level=PROBLEM,
            found=f"[[routing]] names it, and there is none; there are {', '.join(sorted(names))}",
            remedy=f"tieout target add {name}, or correct the file TIEOUT_RULES names",
        )
        for name in sorted(wrong)
    ]
    if engine.connected.rows and settings.redis_url is None and not settings.embedded:
        found.append(
            Finding(
                subject="limits of targets",
                level=ADVICE,
                found="without Redis every process keeps to them by itself, and has a circuit breaker of its own",
                remedy="set REDIS_URL, which makes them hold for all processes together",
            )
        )
    return found


def _finding(engine: "Engine", answer: Answer) -> Finding:
    if answer.error is None:
        return Finding(subject=f"target {answer.target}", level=OK, found=f"answered in {answer.ms} ms")
    why = engine.connected.unopened.get(answer.target)
    return Finding(
        subject=f"target {answer.target}",
        level=PROBLEM,
        found=answer.error,
        remedy="check its settings and whether it is up" if why is None else unopened_remedy(answer.target),
    )


def unopened_remedy(name: str) -> str:
    """What to do about a target that can't be opened."""
    return (
        f"mend that for every process and start it again, or correct it with tieout target add {name} --replace;"
        " what goes to it waits meanwhile"
    )


def secret_variables(rows: Mapping[str, TargetRow]) -> set[str]:
    """The environment variables that targets name for their secrets."""
    return {variable for row in rows.values() for variable in row.secrets.values()}


def shown(row: TargetRow) -> dict[str, Any]:
    """How it is set up, option by option: a secret as the variable that holds it."""
    return row.options | {name: f"${variable}" for name, variable in row.secrets.items()}
