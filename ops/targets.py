"""Asking targets something harmless: do they answer, and what do they hold?"""

import asyncio
import time
from collections.abc import Sequence

import msgspec

from ops.bootstrap import open_engine
from ops.findings import OK, PROBLEM, Finding
from pipeline.errors import PipelineError
from pipeline.ports import Capabilities, Target, Total
from pipeline.settings import Settings
from store.database import schema_is_current

#: A reference that no document has.
NO_SUCH_REFERENCE = "tieout/doctor/no-such-document"
answer_timeout_s = 20


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a target said; `error` is None when it answered."""

    target: str
    capabilities: Capabilities
    ms: int
    holds: list[Total] = []
    error: str | None = None


async def ask(target: Target) -> Answer:
    """Look up a document that can't exist, and ask for the totals where the target gives them."""
    began = time.monotonic()
    holds: list[Total] = []
    error = None
    try:
        async with asyncio.timeout(answer_timeout_s):
            await target.find(NO_SUCH_REFERENCE)
            if target.capabilities.totals:
                holds = list(await target.totals())
    except TimeoutError:
        error = f"no answer within {answer_timeout_s} s"
    except PipelineError as refused:
        error = str(refused)
    return Answer(
        target=target.name,
        capabilities=target.capabilities,
        ms=int((time.monotonic() - began) * 1000),
        holds=holds,
        error=error,
    )


async def check_targets(settings: Settings) -> list[Finding]:
    """The doctor's look at the targets: each answers, and the rules route to no other. Needs a current schema.

    An embedded database that does not exist yet is left alone.
    """
    if not await asyncio.to_thread(schema_is_current, settings.database_url):
        return []
    # A doctor changes nothing: without the broker, whose queues every process declares when it connects.
    async with open_engine(msgspec.structs.replace(settings, amqp_url=None)) as engine:
        known = set(engine.targets)
        wrong = {name for route in engine.rules.routing for name in route.targets if name not in known}
        answers = await ask_all(list(engine.targets.values()))
    found = [
        Finding(
            subject=f"target {one.target}",
            level=PROBLEM if one.error else OK,
            found=one.error or f"answered in {one.ms} ms",
            remedy="check its settings and whether it is up" if one.error else None,
        )
        for one in answers
    ]
    return found + [
        Finding(
            subject=f"target {name}",
            level=PROBLEM,
            found=f"[[routing]] names it, and there is none; there are {', '.join(sorted(known))}",
            remedy="correct the file TIEOUT_RULES names",
        )
        for name in sorted(wrong)
    ]


async def ask_all(targets: Sequence[Target]) -> list[Answer]:
    """All of them at once."""
    return list(await asyncio.gather(*(ask(target) for target in targets)))
