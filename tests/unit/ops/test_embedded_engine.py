"""One embedded process: what it owes, what it takes on, and what it finds when it starts."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from loguru import logger
from sqlalchemy import delete, select, update

from broker.delivery import Outgoing
from broker.embedded import DEPTH_MAX, EmbeddedBroker
from ops.bootstrap import Engine, open_engine
from ops.processes import tick_until
from ops.recovery import Homeless, drive_what_was_left, relay
from pipeline.settings import Settings
from store.intake import AcceptedRecord
from store.outbox import OutboxRow
from store.tables import masters, outbox, reference_clock, steps
from tests.conformance.store.given import a_message, a_record


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        database_url=f"sqlite+aiosqlite:///{tmp_path / 'tieout.db'}", data_dir=tmp_path, reference_refresh_ms=10
    )


async def accepted(engine: Engine, *records: AcceptedRecord) -> list[OutboxRow]:
    run_id = await engine.intake.open_run(
        actor="ann", origin="file.csv", source="openair", document_type="expense.v1", lane="bulk"
    )
    done = await engine.intake.accept(
        run_id,
        records,
        [],
        rows=len(records),
        filtered=0,
        read=len(records),
        messages=lambda new: [a_message([record]) for record in new],
    )
    return done.outbox


async def owe(engine: Engine, *rows: OutboxRow) -> list[OutboxRow]:
    async with engine.db.begin() as connection:
        return await engine.outbox.add(connection, rows)


async def until(condition: Callable[[], object], timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


async def stages_passed(engine: Engine) -> set[str]:
    async with engine.db.connect() as connection:
        return set(await connection.scalars(select(steps.c.record_id).where(steps.c.stage == "validate")))


async def test_a_process_that_runs_no_stages_leaves_what_is_owed_to_the_one_that_does(settings: Settings) -> None:
    async with open_engine(settings) as engine:
        rows = await accepted(engine, a_record("E-1"))
        await engine.publish_outbox(rows)
        assert await engine.outbox.count() == 1
    async with open_engine(settings, work=True) as engine:
        await engine.drain()
        assert await engine.outbox.count() == 0
        assert len(await stages_passed(engine)) == 1


async def test_embedded_both_lanes_are_served_whatever_was_asked_for(settings: Settings) -> None:
    async with open_engine(settings, work=True, lanes=["live"]) as engine:
        await engine.publish_outbox(await accepted(engine, a_record("E-1")))
        await engine.drain()
        assert len(await stages_passed(engine)) == 1


async def test_a_message_for_a_stage_that_is_gone_holds_up_no_others(settings: Settings) -> None:
    async with open_engine(settings, work=True) as engine:
        gone = msgspec.structs.replace(a_message([a_record("E-0")]), stage="gone")
        await owe(engine, gone)
        await accepted(engine, *[a_record(f"E-{number}") for number in range(1, 4)])
        with pytest.raises(Homeless, match="gone"):
            await relay(engine, 0)
        await engine.drain()
        assert [row.stage for row in await engine.outbox.pending(10)] == ["gone"]
        assert len(await stages_passed(engine)) == 3


async def test_a_process_starts_all_the_same_with_a_message_for_a_stage_that_is_gone(settings: Settings) -> None:
    async with open_engine(settings) as engine:
        await owe(engine, msgspec.structs.replace(a_message([a_record("E-0")]), stage="gone"))
        await accepted(engine, a_record("E-1"))
    async with open_engine(settings, work=True) as engine:
        await engine.drain()
        assert len(await stages_passed(engine)) == 1


async def fill(engine: Engine) -> None:
    """As many messages under way as may be, all waiting for a target that is away."""
    waiting = [
        Outgoing(queue="post.bulk", body=b"", message_id=str(number), delay_ms=3_600_000) for number in range(DEPTH_MAX)
    ]
    await engine.broker.put(waiting)


async def test_a_clock_that_waits_for_room_stops_all_the_same(settings: Settings) -> None:
    async with open_engine(settings, work=True) as engine:
        await fill(engine)
        [owed] = await accepted(engine, a_record("E-1"))
        async with engine.db.begin() as connection:
            long_ago = datetime.now(UTC) - timedelta(hours=1)
            await connection.execute(update(outbox).values(created_at=long_ago))
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.2, stop.set)
        async with asyncio.timeout(20):
            await tick_until(engine, stop)
        assert [row.number for row in await engine.outbox.pending(10)] == [owed.number]


async def test_what_comes_in_waits_while_too_much_is_under_way(settings: Settings) -> None:
    async with open_engine(settings, work=True) as engine:
        await fill(engine)
        coming = asyncio.create_task(engine.publish_when_room(await accepted(engine, a_record("E-1"))))
        await asyncio.wait([coming], timeout=0.2)
        assert not coming.done()
        assert await engine.outbox.count() == 1
        coming.cancel()


async def test_at_a_start_everything_unfinished_is_driven_however_much_it_is(settings: Settings) -> None:
    async with open_engine(settings) as engine:
        rows = await accepted(engine, *[a_record(f"E-{number}") for number in range(5)])
        # As after a crash: published to a memory that is gone.
        await engine.outbox.delete([row.number for row in rows])
        engine.works = True
        await drive_what_was_left(engine, records_max=2)
        assert isinstance(engine.broker, EmbeddedBroker)
        assert sum(depth.ready for depth in (await engine.depths()).values()) >= 3
        async with engine.db.connect() as connection:
            recovered = list(await connection.scalars(select(steps.c.record_id).where(steps.c.stage == "recover")))
        assert len(recovered) == len(set(recovered)) == 5


async def test_reference_data_is_followed_again_after_something_nobody_planned_for(settings: Settings) -> None:
    said: list[str] = []
    sink = logger.add(lambda line: said.append(str(line)), level="ERROR", format="{extra[event]}")
    try:
        async with open_engine(settings, work=True) as engine:
            await write_master(engine, b'{"type":"no such type"}')
            await until(lambda: said)
            async with engine.db.begin() as connection:
                await connection.execute(delete(masters))
            await until(lambda: engine.reference.snapshot.version == 1)
            assert "reference_not_refreshed" in said[0]
    finally:
        logger.remove(sink)


async def write_master(engine: Engine, document: bytes) -> None:
    async with engine.db.begin() as connection:
        statement = update(reference_clock).values(version=reference_clock.c.version + 1)
        version = (await connection.execute(statement.returning(reference_clock.c.version))).scalar_one()
        await connection.execute(
            engine.db.insert(masters),
            [
                {
                    "document_type": "customer.v1",
                    "canonical_id": "C-1",
                    "reference": "masterdata/customer.v1/crm/C-1/1",
                    "revision_order": "1",
                    "document": document,
                    "version": version,
                }
            ],
        )
