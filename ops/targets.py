"""Asking targets something harmless: do they answer, and what do they hold?"""

import asyncio
import time
from collections.abc import Sequence

import msgspec

from pipeline.errors import PipelineError
from pipeline.ports import Capabilities, Target, Total

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


async def ask_all(targets: Sequence[Target]) -> list[Answer]:
    """All of them at once."""
    return list(await asyncio.gather(*(ask(target) for target in targets)))
