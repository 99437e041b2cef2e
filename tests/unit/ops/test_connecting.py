"""Targets that are data: opened, replaced and removed while a process runs, and waited for while they can't be."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import insert, select

from ops.bootstrap import Engine, open_engine
from ops.embedded import Ingested, ingest_and_settle
from ops.ingest.mapping import load_mapping
from ops.reconciliation import tie_out
from ops.status import status
from ops.target_setup import InUse, InvalidTarget, add_target, take_away
from pipeline.errors import TransientError
from pipeline.settings import Settings
from store.database import Database
from store.dead_letter_filter import DeadLetterFilter
from store.tables import deliveries, reference_clock, steps, targets
from store.targets import TargetSpec, put_target, remove_target
from tests.shelf import SESAME, Shelf
from tests.unit.cli.conftest import MAPPING

ATTIC = TargetSpec(name="attic", kind="shelf", options={"place": "room 1"}, secrets={"key": "ATTIC_KEY"})
OPEN = {"ATTIC_KEY": SESAME}
NOW = datetime(2026, 3, 1, tzinfo=UTC)
QUICK_TO_OPEN = {"failures_max": 2, "open_first_ms": 60_000}
RULES = """
[[routing]]
document_type = "expense"
targets = ["ledger", "attic"]
"""

pytestmark = pytest.mark.usefixtures("shelves")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "rules.toml").write_text(RULES)
    (tmp_path / "map.toml").write_text(MAPPING)
    return Settings(
        database_url=f"sqlite+aiosqlite:///{tmp_path / 'tieout.db'}",
        data_dir=tmp_path,
        rules_file=tmp_path / "rules.toml",
        reference_refresh_ms=10,
    )


@asynccontextmanager
async def working(settings: Settings, environment: dict[str, str]) -> AsyncIterator[Engine]:
    async with open_engine(settings, work=True, environment=environment) as engine:
        yield engine


async def ingested(engine: Engine, *subjects: str) -> Ingested:
    """Expenses of 10 euros each, brought to rest."""
    folder = engine.settings.data_dir
    rows = "".join(f"{subject},2025-03-03,10.00,Travel\n" for subject in subjects)
    (folder / "export.csv").write_text(f"id,date,amount,kind\n{rows}")
    mapping = load_mapping(folder / "map.toml")
    return await ingest_and_settle(engine, [folder / "export.csv"], mapping, lane="live", actor="ann")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


async def delivery(engine: Engine, target: str) -> tuple[str, bool]:
    """The state of the one delivery to a target, and whether a call was ever announced."""
    async with engine.db.connect() as connection:
        statement = select(deliveries.c.state, deliveries.c.intent_at).where(deliveries.c.target == target)
        [(state, intent_at)] = (await connection.execute(statement)).all()
        return state, intent_at is not None


async def retried(engine: Engine) -> list[tuple[str, int, str]]:
    async with engine.db.connect() as connection:
        statement = select(steps.c.stage, steps.c.attempt, steps.c.detail).where(steps.c.outcome == "retried")
        return [tuple(row) for row in await connection.execute(statement)]


# Opened


async def test_what_is_routed_to_a_target_is_posted_there_and_ties_out(settings: Settings) -> None:
    async with working(settings, OPEN) as engine:
        added = await add_target(engine, ATTIC, "ann")
        assert (added.routes, added.unset, added.waited) == (["expense"], [], 0)
        assert added.answer is not None
        await ingested(engine, "X-1")
        assert await delivery(engine, "attic") == ("reconciled", True)
        (reference,) = Shelf.rooms["room 1"]
        assert reference.startswith("attic/expense.v1/travel/X-1/")
        found = await tie_out(engine)
        assert found.holds
        assert {one.target for one in found.comparisons} == {"ledger", "attic"}


async def test_a_process_that_runs_takes_up_what_another_one_sets_up_changes_and_removes(settings: Settings) -> None:
    async with working(settings, OPEN) as engine:
        other = await Database.open(settings.database_url)
        await put_target(other, ATTIC, "ann")
        await until(lambda: "attic" in engine.targets)
        await put_target(other, msgspec.structs.replace(ATTIC, options={"place": "room 2"}), "bob", replace=True)
        await until(lambda: engine.targets["attic"].config.place == "room 2")
        await ingested(engine, "X-1")
        assert len(Shelf.rooms["room 2"]) == 1
        await remove_target(other, "attic", "ann")
        await until(lambda: "attic" not in engine.targets)
        assert ("attic" in engine.translators, "attic" in engine.connected.guards) == (False, False)
        await other.close()


async def test_what_is_replaced_is_closed_with_the_process_since_calls_may_be_under_way_in_it(
    settings: Settings,
) -> None:
    async with working(settings, OPEN) as engine:
        await add_target(engine, ATTIC, "ann")
        old = engine.targets["attic"]
        await add_target(engine, ATTIC, "ann", replace=True)
        assert engine.targets["attic"] is not old
        assert await old.find("nothing") is None
        await take_away(engine, "attic", "ann", None, force=True)
        assert "attic" not in engine.targets
    assert len(Shelf.opened) == 4  # two of them only to be tried out
    assert all(shelf.closed for shelf in Shelf.opened)


async def test_nobody_judges_by_older_targets_than_the_sender_of_a_message_had(settings: Settings) -> None:
    """A record that another process has just routed to a new target must not die of our not having looked yet."""
    async with open_engine(settings, environment=OPEN) as engine:
        other = await Database.open(settings.database_url)
        await put_target(other, ATTIC, "ann")
        await other.close()
        assert "attic" not in engine.targets
        await engine.reference.refresh(at_least=1)
        assert "attic" in engine.targets


# Not opened


async def test_what_can_not_be_opened_is_waited_for_and_everything_else_goes_on(settings: Settings) -> None:
    async with working(settings, {}) as engine:
        added = await add_target(engine, ATTIC, "ann", test=False)
        assert added.unset == ["ATTIC_KEY"]
        done = await ingested(engine, "X-1")
        assert [one.state for one in done.at_rest] == ["in_flight"]
        assert await delivery(engine, "ledger") == ("reconciled", True)
        # Nothing was announced: there is nothing to be in doubt about.
        assert await delivery(engine, "attic") == ("in_flight", False)
        (again,) = await retried(engine)
        assert again[:2] == ("post", 1)
        assert "ATTIC_KEY is not set" in again[2]
        found = await status(engine)
        assert (found.stuck, [one.waiting for one in found.shut_out]) == (True, [1])


async def test_what_waited_goes_on_in_a_process_that_has_the_secret(settings: Settings) -> None:
    async with working(settings, {}) as engine:
        await add_target(engine, ATTIC, "ann", test=False)
        await ingested(engine, "X-1")
    async with working(settings, OPEN) as engine:
        await engine.drain()
        assert await delivery(engine, "attic") == ("reconciled", True)
        assert (await tie_out(engine)).holds


@pytest.mark.parametrize(
    ("spec", "environment", "why"),
    [
        (ATTIC, {"ATTIC_KEY": ""}, "ATTIC_KEY is not set: set it to the key of attic"),
        (ATTIC, {"ATTIC_KEY": "hunter\x002"}, "ATTIC_KEY: a secret is empty or has a control character"),
        (msgspec.structs.replace(ATTIC, kind="vault"), OPEN, "no kind of target 'vault'"),
        (msgspec.structs.replace(ATTIC, options={"place": "room 1", "depth": 2}), OPEN, "depth"),
        (msgspec.structs.replace(ATTIC, limits={"concurrency": 0}), OPEN, "concurrency"),
        (msgspec.structs.replace(ATTIC, options={"place": "nowhere"}), OPEN, "RuntimeError, a defect: see the log"),
    ],
)
async def test_why_it_can_not_be_opened_is_said_without_the_secret(
    settings: Settings, spec: TargetSpec, environment: dict[str, str], why: str
) -> None:
    async with open_engine(settings, environment=environment) as engine:
        await put_target(engine.db, spec, "ann")
        await engine.reference.refresh()
        assert why in engine.connected.unopened["attic"]
        assert "hunter" not in engine.connected.unopened["attic"]
        assert ("attic" in engine.targets, "ledger" in engine.targets) == (False, True)


async def test_records_for_a_kind_of_another_release_wait_in_front_of_their_translation(settings: Settings) -> None:
    async with open_engine(settings, environment=OPEN) as engine:
        await put_target(engine.db, msgspec.structs.replace(ATTIC, kind="vault"), "ann")
    async with working(settings, OPEN) as engine:
        settling = asyncio.create_task(ingested(engine, "X-1"))
        await until(lambda: engine.broker.waits_for())
        settling.cancel()
        await asyncio.wait([settling])
        assert [(stage, attempt) for stage, attempt, _ in await retried(engine)] == [("transform", 1)]
        assert await engine.dead_letters.list(DeadLetterFilter()) == []


async def test_a_row_with_the_name_of_a_target_that_is_built_in_changes_nothing(settings: Settings) -> None:
    async with open_engine(settings, environment=OPEN) as engine:
        built_in = engine.targets["ledger"]
        async with engine.db.begin() as connection:
            row = msgspec.structs.asdict(msgspec.structs.replace(ATTIC, name="ledger"))
            stamp = {"version": 1, "created_by": "a", "changed_by": "a", "created_at": NOW, "changed_at": NOW}
            await connection.execute(insert(targets).values(row | stamp))
            await connection.execute(reference_clock.update().values(version=1))
        await engine.reference.refresh()
        assert engine.targets["ledger"] is built_in


# Set up and taken away


async def test_a_name_is_taken_kinds_do_not_change_and_what_is_built_in_stays(settings: Settings) -> None:
    async with open_engine(settings, environment=OPEN) as engine:
        await add_target(engine, ATTIC, "ann")
        for spec, replace, words in (
            (ATTIC, False, "already"),
            (msgspec.structs.replace(ATTIC, kind="vault"), True, "kind"),
            (msgspec.structs.replace(ATTIC, name="ledger"), True, "built in"),
        ):
            with pytest.raises(InvalidTarget, match=words):
                await add_target(engine, spec, "ann", replace=replace)
        with pytest.raises(InvalidTarget, match="built in"):
            await take_away(engine, "masterdata", "ann", None, force=True)


async def test_a_target_in_use_is_not_removed_unasked(settings: Settings) -> None:
    async with working(settings, {}) as engine:
        await add_target(engine, ATTIC, "ann", test=False)
        with pytest.raises(InUse, match=r"\[\[routing\]\] sends expense to attic"):
            await take_away(engine, "attic", "ann", None)
        await ingested(engine, "X-1")
    settings.rules_file.write_text("")
    async with open_engine(settings, environment={}) as engine:
        with pytest.raises(InUse, match="1 in flight"):
            await take_away(engine, "attic", "ann", None)
        assert await take_away(engine, "attic", "ann", "given up", force=True)
        assert not await take_away(engine, "attic", "ann", None)


# Away


async def test_a_target_that_does_not_answer_ties_out_with_nothing_and_hides_nobody_else(settings: Settings) -> None:
    async with working(settings, OPEN) as engine:
        await add_target(engine, ATTIC, "ann")
        await ingested(engine, "X-1")
        Shelf.away.add("room 1")
        found = await tie_out(engine)
        assert {one.target: (one.equal, one.ours, one.error) for one in found.comparisons} == {
            "ledger": (True, 1, None),
            "attic": (False, 1, "nobody gets to room 1"),
        }
        assert not found.holds
    async with open_engine(settings, environment={}) as engine:
        found = await tie_out(engine)
        (attic,) = [one for one in found.comparisons if one.target == "attic"]
        assert (attic.equal, "ATTIC_KEY" in str(attic.error)) == (False, True)


async def test_a_breaker_that_one_process_opens_is_seen_by_the_others(
    settings: Settings, redis_url: str, prefix: str
) -> None:
    settings = msgspec.structs.replace(settings, redis_url=redis_url, prefix=prefix)
    async with open_engine(settings, environment=OPEN) as one, open_engine(settings, environment=OPEN) as other:
        await add_target(one, msgspec.structs.replace(ATTIC, limits=QUICK_TO_OPEN), "ann")
        Shelf.away.add("room 1")
        for _ in range(QUICK_TO_OPEN["failures_max"]):
            with pytest.raises(TransientError):
                await one.targets["attic"].find("x")
        await other.reference.refresh()
        (seen,) = (await status(other)).targets
        assert seen.guard is not None
        assert (seen.guard.state, seen.guard.shared, seen.guard.last_error) == ("open", True, "nobody gets to room 1")
        assert seen.guard.open_until is not None
        with pytest.raises(TransientError) as caught:
            await other.targets["attic"].find("x")
        assert not caught.value.burns_attempt


@pytest.mark.parametrize("redis_url", ["redis://127.0.0.1:1/0", "http://nonsense", None])
async def test_redis_that_is_away_stops_nobody(settings: Settings, redis_url: str | None) -> None:
    settings = msgspec.structs.replace(settings, redis_url=redis_url)
    async with working(settings, OPEN) as engine:
        await add_target(engine, ATTIC, "ann")
        await ingested(engine, "X-1")
        assert await delivery(engine, "attic") == ("reconciled", True)
        (seen,) = (await status(engine)).targets
        assert seen.guard is not None
        assert (seen.guard.state, seen.guard.shared) == ("closed", False)
