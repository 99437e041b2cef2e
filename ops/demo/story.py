"""The story of the demo: a month-end from the export files to both sides tied out, told as it happens."""

import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from contracts.envelope import BULK
from ops.bootstrap import open_engine
from ops.causes import Cause, causes
from ops.demo.erp import Erp, ProjectHours, hours_by_project, set_up
from ops.demo.exports import Export, Exports, write_exports
from ops.demo.firm import CLOSED_DAYS, CLOSED_PERIOD, ENTITIES, LAST_DAY
from ops.embedded import Ingested, ingest_and_settle
from ops.forecast import Forecast, forecast
from ops.ingest.mapping import load_mapping
from ops.ingest.run import Progress
from ops.periods import set_period
from ops.reconciliation import TieOut, tie_out
from ops.requeueing import RequeueResult, requeue
from pipeline.codes import FINANCE, MAPPING_MISSING
from pipeline.settings import Settings
from store.dead_letter_filter import DeadLetterFilter
from store.record_states import Flagged, flagged
from store.waiting import Waiting, waiting

if TYPE_CHECKING:
    from ops.bootstrap import Engine

ACTOR = "demo"
#: Where conferences are booked, once somebody has decided.
FIX_KIND, FIX_KEY, FIX_VALUE = "expense_account", "Conference", "6280"
FIX_REASON = f"account {FIX_VALUE} agreed"

#: What one run leaves and the next one may remove.
OURS = ("exports", "mappings", "rules.toml", "tieout.db", "tieout.db-wal", "tieout.db-shm")


class Bars(Protocol):
    """Where progress is shown."""

    def read(self, state: Progress) -> None: ...
    def left(self, count: int) -> None: ...
    def down(self, target: str, reason: str) -> None: ...


class Narrator(Protocol):
    """Whom the story is told to. Every figure it hears comes from the run."""

    def chapter(self, title: str, *lines: str) -> None: ...
    def command(self, line: str) -> None: ...
    def bars(self) -> AbstractContextManager[Bars]: ...
    def ingested(self, export: Export, done: Ingested) -> None: ...
    def waiting(self, waiting: list[Waiting]) -> None: ...
    def flagged(self, flagged: list[Flagged]) -> None: ...
    def balance(self, found: TieOut, *, closing: bool) -> None: ...
    def hours(self, hours: list[ProjectHours]) -> None: ...
    def causes(self, causes: Sequence[Cause]) -> None: ...
    def foreseen(self, forecasts: list[Forecast]) -> None: ...
    def requeued(self, result: RequeueResult) -> None: ...


def demo_settings(settings: Settings) -> Settings:
    """Embedded, in a folder of its own, whatever else the environment names."""
    folder = settings.data_dir / "demo"
    return msgspec.structs.replace(
        settings,
        data_dir=folder,
        database_url=f"sqlite+aiosqlite:///{folder / 'tieout.db'}",
        amqp_url=None,
        redis_url=None,
        rules_file=folder / "rules.toml",
    )


async def tell(settings: Settings, narrator: Narrator, erp: Erp | None = None) -> TieOut:
    """Run the month from start to finish; returns the closing tie-out.

    Args:
      settings: as `demo_settings` gives them. The folder's earlier contents are removed first.
      erp: where customers, workers, projects and time go as well.

    Raises:
      InvalidTarget, NoAnswer: the ERP can't be used.
    """
    folder = settings.data_dir
    clear(folder)
    exports = write_exports(folder, erp=erp is not None)
    narrator.chapter("The month", *_firm(exports))
    async with open_engine(settings, work=True) as engine:
        teller = _Teller(engine, narrator)
        if erp is not None:
            await teller.set_up(erp)
        await teller.close_last_month()
        narrator.chapter("The exports come in")
        for export in exports.first:
            await teller.take(export)
        narrator.waiting(await waiting(engine.db))
        narrator.flagged(await flagged(engine.db))
        await teller.late_project(exports)
        await teller.corrections(exports)
        await teller.again(exports)
        narrator.chapter("Where everything is")
        narrator.balance(await tie_out(engine), closing=False)
        narrator.chapter("What needs a person")
        narrator.causes(await causes(engine, DeadLetterFilter()))
        await teller.fix_one_cause()
        closing = await tie_out(engine)
        narrator.chapter("Both sides")
        narrator.balance(closing, closing=True)
        if erp is not None:
            narrator.chapter("The hours, as the ERP adds them up itself")
            narrator.hours(await hours_by_project(engine, CLOSED_DAYS[0], LAST_DAY))
        narrator.chapter("What still needs a person")
        narrator.causes(await causes(engine, DeadLetterFilter()))
        return closing


def clear(folder: Path) -> None:
    """Remove what an earlier demo left in the folder, and nothing else."""
    for name in OURS:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)


class _Teller:
    """Does one thing at a time and tells what came of it."""

    def __init__(self, engine: "Engine", narrator: Narrator) -> None:
        self.engine = engine
        self.narrator = narrator

    async def set_up(self, erp: Erp) -> None:
        self.narrator.chapter("The ERP becomes a target", "Customers, workers, projects and time go there as well.")
        self.narrator.command(erp.command)
        await set_up(self.engine, erp, ACTOR)

    async def take(self, export: Export) -> None:
        """Ingest one file and wait until everything is at rest."""
        self.narrator.command(f"tieout ingest {export.file} --map {export.mapping}")
        with self.narrator.bars() as bars:
            done = await ingest_and_settle(
                self.engine,
                [export.file],
                load_mapping(export.mapping),
                lane=BULK,
                actor=ACTOR,
                progress=bars.read,
                left=bars.left,
                down=bars.down,
            )
        self.narrator.ingested(export, done)

    async def close_last_month(self) -> None:
        for entity in ENTITIES:
            self.narrator.command(f"tieout period close {entity} {CLOSED_PERIOD}")
            await set_period(self.engine, entity, CLOSED_PERIOD, closed=True, actor=ACTOR, reason="month-end")

    async def late_project(self, exports: Exports) -> None:
        self.narrator.chapter("A project that comes late", "What waits for it goes on by itself.")
        await self.take(exports.late_project)
        self.narrator.waiting(await waiting(self.engine.db))

    async def corrections(self, exports: Exports) -> None:
        title = "Corrections of what is posted already"
        self.narrator.chapter(title, "The ledger reverses the old entry and posts the new one in one transaction.")
        await self.take(exports.corrections)

    async def again(self, exports: Exports) -> None:
        self.narrator.chapter("Somebody runs the month's time once more", "Nothing is posted twice.")
        (time,) = (export for export in exports.first if export.mapping.stem == "time_entries")
        await self.take(time)

    async def fix_one_cause(self) -> None:
        self.narrator.chapter("Finance decides where conferences are booked")
        self.narrator.command(f"tieout map set {FIX_KIND} {FIX_KEY} {FIX_VALUE}")
        await self.engine.reference.set_mapping(FIX_KIND, FIX_KEY, FIX_VALUE, None, None, ACTOR)
        await self.engine.reference.refresh()
        which = DeadLetterFilter(codes=(MAPPING_MISSING.name,), owners=(FINANCE,))
        command = f"tieout dead requeue --code {MAPPING_MISSING.name} --owner {FINANCE}"
        self.narrator.command(f"{command} --dry-run")
        self.narrator.foreseen(await forecast(self.engine, which))
        letters = await self.engine.dead_letters.list(which)
        self.narrator.command(f'{command} --reason "{FIX_REASON}"')
        self.narrator.requeued(await requeue(self.engine, [letter.id for letter in letters], ACTOR, FIX_REASON))


def _firm(exports: Exports) -> tuple[str, ...]:
    return (*(f"{export.file}: {export.rows:,} {export.what}" for export in exports.all), f"{exports.rules}: the rules")
