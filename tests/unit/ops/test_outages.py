"""An embedded process and targets that are down: what it says, and when it has waited long enough."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

import ops.bootstrap
import ops.outages
from broker.embedded import EmbeddedBroker
from ops.bootstrap import Engine, open_engine
from ops.embedded import Ingested, ingest_and_settle
from ops.ingest.mapping import load_mapping
from ops.outages import Down
from ops.reconciliation import tie_out
from ops.recovery import relay
from ops.target_setup import add_target
from pipeline.errors import TransientError
from pipeline.settings import Settings
from store.targets import TargetSpec
from tests.shelf import SESAME, Shelf
from tests.unit.cli.conftest import MAPPING

#: Down after one call that fails, and tried again soon.
ATTIC = TargetSpec(
    name="attic",
    kind="shelf",
    options={"place": "room 1"},
    secrets={"key": "ATTIC_KEY"},
    limits={"failures_max": 1, "open_first_ms": 200, "open_max_ms": 200},
)
RULES = """
[[routing]]
document_type = "expense"
targets = ["attic"]
"""

pytestmark = pytest.mark.usefixtures("shelves")


class Told(list[tuple[str, str]]):
    """What was said of targets that are down, and that something was."""

    def __init__(self) -> None:
        super().__init__()
        self.something = asyncio.Event()

    def __call__(self, target: str, reason: str) -> None:
        self.append((target, reason))
        self.something.set()


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    (tmp_path / "rules.toml").write_text(RULES)
    (tmp_path / "map.toml").write_text(MAPPING)
    settings = Settings(
        database_url=f"sqlite+aiosqlite:///{tmp_path / 'tieout.db'}",
        data_dir=tmp_path,
        rules_file=tmp_path / "rules.toml",
        reference_refresh_ms=10,
    )
    async with open_engine(settings, work=True, environment={"ATTIC_KEY": SESAME}) as engine:
        await add_target(engine, ATTIC, "ann")
        yield engine


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops.outages, "patience", timedelta(seconds=0.5))


async def ingested(engine: Engine, count: int, down: Down | None = None) -> Ingested:
    """Expenses of 10 euros each."""
    folder = engine.settings.data_dir
    rows = "".join(f"X-{number},2025-03-03,10.00,Travel\n" for number in range(count))
    (folder / "export.csv").write_text(f"id,date,amount,kind\n{rows}")
    mapping = load_mapping(folder / "map.toml")
    return await ingest_and_settle(engine, [folder / "export.csv"], mapping, lane="live", actor="ann", down=down)


def states(done: Ingested) -> dict[str, int]:
    return {one.state: one.count for one in done.at_rest}


async def test_a_target_that_is_down_is_waited_for_and_told_about(engine: Engine) -> None:
    told = Told()
    Shelf.away.add("room 1")
    waiting = asyncio.create_task(ingested(engine, 1, told))
    await told.something.wait()
    Shelf.away.clear()
    done = await waiting
    assert (states(done), done.waits_for) == ({"reconciled": 1}, {})
    assert told == [("attic", "nobody gets to room 1"), ("attic", "")]


@pytest.mark.usefixtures("impatient")
async def test_a_target_that_stays_down_is_not_waited_for_for_ever(engine: Engine) -> None:
    Shelf.away.add("room 1")
    done = await ingested(engine, 2)
    assert (states(done), done.waits_for) == ({"in_flight": 2}, {"attic": "nobody gets to room 1"})
    Shelf.away.clear()
    await engine.drain()
    assert (await tie_out(engine)).holds


@pytest.mark.usefixtures("impatient")
async def test_what_is_more_than_may_be_under_way_is_accepted_all_the_same(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops.bootstrap, "publish_rows_max", 1)
    assert isinstance(engine.broker, EmbeddedBroker)
    engine.broker._depth_max = 2
    Shelf.away.add("room 1")
    done = await ingested(engine, 7)
    assert (done.summary.sheet.accepted, states(done)) == (7, {"in_flight": 7})
    assert (done.summary.owed, done.summary.owed_because) == (5, "all that is under way waits for attic")
    Shelf.away.clear()
    await relay(engine, 0)
    await engine.drain()
    assert len(Shelf.rooms["room 1"]) == 7
    assert (await tie_out(engine)).holds


@pytest.mark.usefixtures("impatient")
async def test_what_is_left_of_before_keeps_nothing_new_from_being_done(engine: Engine) -> None:
    """All of that waits for a target that is not to be had: so it is when the next command begins."""
    Shelf.drafts.add("room 1")
    await ingested(engine, 2)
    Shelf.drafts.clear()
    done = await ingested(engine, 5)
    assert (done.summary.owed, states(done)) == (0, {"reconciled": 3})
    assert len(Shelf.rooms["room 1"]) == 5


async def test_an_outage_that_was_over_before_is_not_told(engine: Engine) -> None:
    told = Told()
    Shelf.away.add("room 1")
    with pytest.raises(TransientError, match="nobody gets"):
        await engine.targets["attic"].find("attic/expense.v1/psa/X/1")
    assert (await engine.connected.guards["attic"].snapshot()).down_since is not None
    Shelf.away.clear()
    done = await ingested(engine, 1, told)
    assert (states(done), told) == ({"reconciled": 1}, [])


async def test_drafts_that_somebody_has_to_post_are_not_waited_for(engine: Engine) -> None:
    Shelf.drafts.add("room 1")
    done = await ingested(engine, 3)
    assert (states(done), done.waits_for) == ({"submitted": 3}, {})
