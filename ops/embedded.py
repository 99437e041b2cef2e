"""Embedded, the process that accepts is the one that works: it runs the stages until there is nothing left to do."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ops.ingest.layout import MappingRules
from ops.ingest.run import Progress, ingest
from ops.ingest.sheet import Summary
from ops.outages import MOVING, Down, Outages
from store.record_states import Standings, count_in, states_of_runs

if TYPE_CHECKING:
    from ops.bootstrap import Engine

#: How often a watcher hears how much is left, or that the broker takes nothing.
watch_every_s = 0.2


class Ingested(msgspec.Struct, frozen=True, kw_only=True):
    """What was accepted and, where everything is embedded, what became of it; `waits_for` names the targets that all
    the rest waits for, and why.
    """

    summary: Summary
    at_rest: list[Standings] = []
    waits_for: dict[str, str] = {}


async def ingest_and_settle(
    engine: "Engine",
    files: Sequence[Path],
    mapping: MappingRules,
    *,
    lane: str,
    actor: str,
    rejects: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    left: Callable[[int], None] | None = None,
    held: Callable[[str], None] | None = None,
    down: Down | None = None,
) -> Ingested:
    """Accept files; embedded, wait as `settle` does. `left` hears how many records are still on their way; `held`, why
    the broker takes no messages, and an empty string when it does again; `down`, the same of a target by its name.

    Raises: as `ingest` does.
    """
    take = partial(
        ingest,
        files,
        mapping,
        intake=engine.intake,
        settings=engine.settings,
        stage=next(iter(engine.runner.stages)),
        lane=lane,
        actor=actor,
        progress=progress,
        rejects=rejects,
        approved_states=engine.rules.approved_states,
    )
    if not engine.settings.embedded:
        async with _watched(engine, held):
            return Ingested(summary=await take(publish=engine.publish_when_room))
    async with Outages(engine, down) as outages:
        summary = await take(publish=outages.publish)
        await settle(engine, outages, left)
        waits_for = outages.waited_for()
    if summary.owed:
        summary.owed = await engine.outbox.count()
    run_ids = [file.run_id for file in summary.files if file.run_id is not None]
    return Ingested(summary=summary, at_rest=await states_of_runs(engine.db, run_ids), waits_for=waits_for)


async def settle(engine: "Engine", outages: Outages, left: Callable[[int], None] | None = None) -> None:
    """Wait until everything is finished, parked, or waits for a person or for a target that is not to be had."""
    draining = asyncio.create_task(engine.drain())
    try:
        while not draining.done() and not await outages.stalled():
            if left is not None:
                left(await count_in(engine.db, MOVING))
            await asyncio.wait([draining], timeout=watch_every_s)
        if draining.done():
            await draining
    finally:
        draining.cancel()


@asynccontextmanager
async def _watched(engine: "Engine", held: Callable[[str], None] | None) -> AsyncIterator[None]:
    """Tell `held`, for the length of the block, each time the broker begins or ceases to take no messages."""
    told = ""

    def tell() -> None:
        nonlocal told
        if held is not None and (reason := engine.broker.blocked) != told:
            told = reason
            held(reason)

    async def watch() -> None:
        while True:
            tell()
            await asyncio.sleep(watch_every_s)

    watching = asyncio.create_task(watch())
    try:
        yield
        tell()
    finally:
        watching.cancel()
        await asyncio.wait((watching,))
