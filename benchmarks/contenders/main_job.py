"""Tieout's main job: the real five stages on the time entries of the demo's firm, into the ledger target.

Beside the others for its own sake, not to be compared with hops that do nothing: every record is checked against
master data, valued by rate card, translated into a journal entry, posted with intent and answer, and read back.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date, timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from actors import STAGES
from benchmarks.contender import Publish
from benchmarks.contenders.tieout import Tieout
from benchmarks.events import number_of
from contracts.envelope import BULK
from contracts.time_entry import TimeEntry
from ops.bootstrap import open_engine
from ops.demo.exports import write_exports
from ops.demo.firm import EXPIRED_RATE_PROJECT, LATE_PROJECT, WORKER_WITHOUT_IDENTITY, projects, psa_user, workers
from ops.embedded import ingest_and_settle
from ops.ingest.mapping import load_mapping
from pipeline.settings import read_settings
from pipeline.stage import Stage

FIRST_DAY = date(2025, 1, 1)
#: No two of a day alike: an equal one would be looked at as a possible duplicate.
HOURS = tuple(map(Decimal, ("2.5", "2", "1.75", "1.25")))
MASTER_DATA = ("customers", "workers", "projects", "rate_cards")


class MainJob(Tieout):
    """As `tieout`, with `actors/` for stages."""

    source = "psa"

    @property
    def _firm(self) -> Path:
        return self.arrangement.folder / "firm"

    def environment(self) -> dict[str, str]:
        return super().environment() | {"TIEOUT_RULES": str(self._firm / "rules.toml")}

    def stages(self) -> tuple[Stage, ...]:
        *first, last = STAGES
        return (*first, msgspec.structs.replace(last, handle=self._counted(last.handle)))

    def _counted(self, handle: Callable[..., Any]) -> Callable[..., Any]:
        async def counted(record: Any, context: Any) -> Any:
            result = await handle(record, context)
            self._tally.count(number_of(context.item.subject))
            return result

        return counted

    @cached_property
    def _staff(self) -> list[str]:
        ids = [worker["Employee_ID"] for worker in workers()]
        return [psa_user(one) for one in ids if one != WORKER_WITHOUT_IDENTITY]

    @cached_property
    def _projects(self) -> list[str]:
        ids = [project["project_id"] for project in projects()]
        return [one for one in ids if one not in (EXPIRED_RATE_PROJECT, LATE_PROJECT)]

    def document(self, number: int) -> TimeEntry:
        """One of four entries of a worker's day, on one of the projects in turn."""
        rest, quarter = divmod(number, len(HOURS))
        day, worker = divmod(rest, len(self._staff))
        project = self._projects[(worker + quarter) % len(self._projects)]
        return msgspec.structs.replace(
            super().document(number),
            worker=self._staff[worker],
            date=FIRST_DAY + timedelta(days=day),
            hours=HOURS[quarter],
            project=project,
            task=f"{project}-1",
            rate=None,
            currency=None,
        )

    @asynccontextmanager
    async def publisher(self) -> AsyncIterator[Publish]:
        await self._take_master_data()
        async with super().publisher() as publish:
            yield publish

    async def _take_master_data(self) -> None:
        """Ingest customers, workers, projects and rate cards, embedded in this process."""
        exports = await asyncio.to_thread(write_exports, self._firm)
        environment = {name: value for name, value in self.environment().items() if name != "AMQP_URL"}
        async with open_engine(read_settings(environment), work=True) as engine:
            for export in exports.first:
                if export.mapping.stem in MASTER_DATA:
                    await ingest_and_settle(
                        engine, [export.file], load_mapping(export.mapping), lane=BULK, actor="benchmark"
                    )


CONTENDER = MainJob
