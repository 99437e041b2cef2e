"""Embedded, the process that accepts is the one that works: accept files, then run the stages until all is at rest."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from broker.embedded import EmbeddedBroker
from ops.ingest.layout import MappingRules
from ops.ingest.run import Progress, ingest
from ops.ingest.sheet import Summary
from pipeline.states import IN_DOUBT, IN_FLIGHT
from store.record_states import Standings, count_in, states_of_runs

if TYPE_CHECKING:
    from ops.bootstrap import Engine

#: How often a watcher hears how much is left, or that the broker takes nothing.
watch_every_s = 0.2
#: What waits for a target that has been down for so long, as its breaker has it, is left to a process that stays.
down_patience_s = 300


class Ingested(msgspec.Struct, frozen=True, kw_only=True):
    """What was accepted and, where everything is embedded, what became of it."""

    summary: Summary
    at_rest: list[Standings] = []


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
    down: Callable[[str, str], None] | None = None,
) -> Ingested:
    """Accept files; embedded, wait until everything is at rest. `left` hears how many records are still on their way;
    `held`, why the broker takes no messages, and an empty string when it does again; `down`, the same of a target.

    Raises: as `ingest` does.
    """
    async with _watched(engine, held):
        summary = await ingest(
            files,
            mapping,
            intake=engine.intake,
            publish=engine.publish_when_room,
            settings=engine.settings,
            stage=next(iter(engine.runner.stages)),
            lane=lane,
            actor=actor,
            progress=progress,
            rejects=rejects,
            approved_states=engine.rules.approved_states,
        )
    if not engine.settings.embedded:
        return Ingested(summary=summary)
    await settle(engine, left, down)
    run_ids = [file.run_id for file in summary.files if file.run_id is not None]
    return Ingested(summary=summary, at_rest=await states_of_runs(engine.db, run_ids))


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


async def settle(
    engine: "Engine",
    left: Callable[[int], None] | None = None,
    down: Callable[[str, str], None] | None = None,
) -> None:
    """Wait until everything accepted is finished, parked, or waits for a person or for a target that can't be opened,
    or has been down for too long. `left` and `down` hear what `ingest_and_settle` says.
    """
    draining = asyncio.create_task(engine.drain())
    outages = Outages(engine, down)
    try:
        while not draining.done() and not stalled(engine, await outages.look()):
            if left is not None:
                left(await count_in(engine.db, (IN_FLIGHT, IN_DOUBT)))
            await asyncio.wait([draining], timeout=watch_every_s)
        if draining.done():
            await draining
        await outages.look()
    finally:
        draining.cancel()


def stalled(engine: "Engine", given_up: Collection[str]) -> bool:
    """Whatever is left waits for these targets, or for some that this process can't open: to wait on is to no avail."""
    assert isinstance(engine.broker, EmbeddedBroker), "only an embedded engine knows what is left"
    waits_for = engine.broker.waits_for()
    return bool(waits_for) and waits_for <= {*engine.connected.unopened, *given_up}


class Outages:
    """Targets whose breaker is open: tells when one goes down, and why, and when it is up again."""

    def __init__(self, engine: "Engine", tell: Callable[[str, str], None] | None) -> None:
        self._guards, self._tell = engine.connected.guards, tell
        self._down: set[str] = set()

    async def look(self) -> list[str]:
        """Those that have been down for longer than anybody should sit and wait for."""
        now, given_up = datetime.now(UTC), []
        for name, guard in list(self._guards.items()):
            standing = await guard.snapshot()
            is_down = standing.down_since is not None
            if self._tell is not None and is_down != (name in self._down):
                self._tell(name, standing.last_error or "it does not answer" if is_down else "")
            (self._down.add if is_down else self._down.discard)(name)
            if standing.down_since is not None and now - standing.down_since > timedelta(seconds=down_patience_s):
                given_up.append(name)
        return given_up
