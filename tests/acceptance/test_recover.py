"""Recover on the real servers: what was lost is driven again, once; what is merely slow is left alone."""

import asyncio
import inspect
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pika
import pytest
from sqlalchemy import func, select

from actors import STAGES
from broker.control import a_marker, parts_in
from contracts.envelope import BULK, LANES, LIVE
from ops.bootstrap import Engine, open_engine
from ops.comparison import stranded_counts
from ops.ingest.mapping import load_mapping
from ops.ingest.run import ingest
from ops.reconciliation import tie_out
from ops.recovery import Recovery
from pipeline.errors import TransientError
from pipeline.settings import Settings
from pipeline.stage import Stage
from pipeline.states import RECONCILED
from store.tables import dead_letters, records, steps
from tests.acceptance.conftest import remove
from tests.acceptance.declarations import FINAL, MAPPING

NAMES = tuple(stage.name for stage in STAGES)
COLUMNS = (
    "declaration_id,declaration_number,activity,timestamp,role,amount,budget,permit_id,permit_budget,"
    "requested_budget,organizational_entity,project,task,activity_number,event_id"
)


async def until(condition: Callable[[], Any], timeout_s: float = 60) -> None:
    """Wait for the condition; the time limit only ends a test that fails."""
    async with asyncio.timeout(timeout_s):
        while True:
            holds = condition()
            if await holds if inspect.isawaitable(holds) else holds:
                return
            await asyncio.sleep(0.05)


class Gate:
    """Holds every record of one stage until it is opened; with `error` the stage raises that instead."""

    def __init__(self, stage: str, error: Exception | None = None) -> None:
        self.stage, self.error = stage, error
        self.open = threading.Event()
        self.entered = 0

    def stages(self) -> list[Stage]:
        return [
            msgspec.structs.replace(one, handle=self._gated(one)) if one.name == self.stage else one for one in STAGES
        ]

    def _gated(self, stage: Stage) -> Callable[..., Any]:
        handle = stage.handle

        def wait(record: Any, context: Any) -> Any:
            self.entered += 1
            self._raise()
            assert self.open.wait(60)
            return handle(record, context)

        async def wait_on_the_loop(record: Any, context: Any) -> Any:
            self.entered += 1
            self._raise()
            await until(self.open.is_set)
            return await handle(record, context)

        return wait_on_the_loop if inspect.iscoroutinefunction(handle) else wait

    def _raise(self) -> None:
        if self.error is not None and not self.open.is_set():
            raise self.error


@pytest.fixture
def settings(migrated_postgresql_url: str, amqp_url: str, prefix: str, tmp_path: Path) -> Iterator[Settings]:
    yield Settings(
        database_url=migrated_postgresql_url,
        amqp_url=amqp_url,
        prefix=prefix,
        data_dir=tmp_path,
        live_prefetch=4,
        bulk_prefetch=1,
        bulk_batch_records_max=5,
        # More than a gate ever holds, so that the stages before it go on.
        live_threads=6,
        bulk_threads=6,
        shutdown_grace_ms=2_000,
    )
    remove(amqp_url, prefix)


@asynccontextmanager
async def at_work(settings: Settings, gate: Gate) -> AsyncIterator[Engine]:
    async with open_engine(settings, work=True, stages=gate.stages()) as engine:
        try:
            yield engine
        finally:
            gate.open.set()


async def accept(engine: Engine, folder: Path, count: int, lane: str, first: int = 0) -> None:
    lines = [
        f"declaration {number},n {number},{FINAL[0]},2018-03-01T00:00:00.000+01:00,ROLE,{100 + number},budget 1,"
        f"permit {number},budget 2,100.0,unit 1,project 1,UNKNOWN,UNKNOWN,st_{number}"
        for number in range(first, first + count)
    ]
    path = folder / f"{lane}.csv"
    path.write_text("\n".join([COLUMNS, *lines]) + "\n")
    await ingest(
        [path],
        load_mapping(MAPPING),
        intake=engine.intake,
        publish=engine.publish_when_room,
        settings=engine.settings,
        stage=NAMES[0],
        lane=lane,
        actor="test",
        approved_states=engine.rules.approved_states,
    )


async def ready(engine: Engine, queue: str, count: int) -> None:
    """Wait until the queue holds so many messages that no worker has."""

    async def is_so() -> bool:
        return (await engine.depths())[queue].ready == count

    await until(is_so)


def take_all(engine: Engine, amqp_url: str, queue: str) -> set[str]:
    """Empty a queue behind everybody's back; returns whose messages are gone."""
    gone: set[str] = set()
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel = connection.channel()
        while True:
            method, _, body = channel.basic_get(f"{engine.settings.prefix}.{queue}", auto_ack=True)
            if method is None:
                return gone
            gone |= {record_id for record_id, _ in parts_in(body)}


async def stepped(engine: Engine, outcome: str) -> Counter[str]:
    """How often each record has had a step of this outcome."""
    async with engine.db.connect() as connection:
        return Counter(await connection.scalars(select(steps.c.record_id).where(steps.c.outcome == outcome)))


async def all_reconciled(engine: Engine, count: int) -> None:
    """Wait for it; every record is in the target once, and nobody has to look at anything."""
    statement = select(func.count()).select_from(records).where(records.c.state == RECONCILED)

    async def is_so() -> bool:
        async with engine.db.connect() as connection:
            return await connection.scalar(statement) == count

    await until(is_so)
    async with engine.db.connect() as connection:
        assert await connection.scalar(select(func.count()).select_from(dead_letters)) == 0
    assert (await tie_out(engine)).holds
    assert (await engine.depths())["dead"].ready == 0


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("stage", NAMES)
async def test_what_was_purged_is_driven_again_once_and_nothing_else(
    settings: Settings, amqp_url: str, tmp_path: Path, stage: str, lane: str
) -> None:
    gate = Gate(stage)
    queue = f"{stage}.{lane}"
    async with at_work(settings, gate) as worker, open_engine(settings) as operator:
        await accept(operator, tmp_path, 30, lane)
        await ready(operator, queue, 26 if lane == LIVE else 5)
        lost = take_all(operator, amqp_url, queue)
        assert len(lost) == (26 if lane == LIVE else 25)

        async def found() -> bool:
            looked = await operator.recover(0, dry_run=True)
            assert looked.lost <= len(lost)
            return (looked.lost, looked.slow) == (len(lost), 30 - len(lost))

        # What the stage before has passed on is still in its hands until that is confirmed and committed.
        await until(found)
        done = await operator.recover(0, timeout_s=30)
        assert (done.lost, done.slow) == (len(lost), 30 - len(lost))
        assert not done.stuck
        assert await stepped(operator, "recovered") == Counter(lost)
        gate.open.set()
        await all_reconciled(worker, 30)
        assert (await operator.recover(0)).candidates == 0


@pytest.mark.parametrize("lane", LANES)
async def test_a_slow_record_and_those_behind_it_are_left_alone(settings: Settings, tmp_path: Path, lane: str) -> None:
    gate = Gate("enrich")
    async with at_work(settings, gate) as worker, open_engine(settings) as operator:
        await accept(operator, tmp_path, 30, lane)
        await ready(operator, f"enrich.{lane}", 26 if lane == LIVE else 5)
        recovery = Recovery(operator)
        for _ in range(3):  # as the clock does: one marker, however often
            done = await recovery.some(0, timeout_s=0.3)
            assert (done.candidates, done.lost, done.driven, done.stuck) == (30, 0, 0, False)
        assert (await operator.depths())[f"enrich.{lane}"].ready == (27 if lane == LIVE else 6)
        assert not await stranded_counts(operator), "nothing is called stranded either"
        gate.open.set()
        async with asyncio.timeout(60):
            while not (done := await recovery.some(0, timeout_s=5)).slow:
                assert not done.lost
        assert done.lost == 0
        await all_reconciled(worker, 30)
        assert not await stepped(operator, "recovered")


async def test_a_lost_live_record_does_not_wait_for_what_can_not_be_told_of_an_import(
    settings: Settings, amqp_url: str, tmp_path: Path
) -> None:
    gate = Gate("enrich")
    async with at_work(settings, gate) as worker, open_engine(settings) as operator:
        await accept(operator, tmp_path, 30, BULK)
        await ready(operator, "enrich.bulk", 5)
        await accept(operator, tmp_path, 30, LIVE, first=30)
        await ready(operator, "enrich.live", 26)
        lost = take_all(operator, amqp_url, "enrich.live")
        by_lane = {lane: Recovery(operator, lanes=[lane]) for lane in LANES}

        async def driven() -> bool:
            # As the clock does, which has a second for each.
            for recovery in by_lane.values():
                await recovery.some(0, timeout_s=1)
            return (await stepped(operator, "recovered")).keys() >= lost

        await until(driven)
        assert await stepped(operator, "recovered") == Counter(lost)
        gate.open.set()
        await all_reconciled(worker, 60)
        for recovery in by_lane.values():
            await recovery.close()


async def test_what_was_in_a_queue_that_somebody_deletes_is_driven_again(
    settings: Settings, amqp_url: str, tmp_path: Path
) -> None:
    gate = Gate("transform")
    async with at_work(settings, gate) as worker, open_engine(settings) as operator:
        await accept(operator, tmp_path, 30, BULK)
        await ready(operator, "transform.bulk", 5)
        with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
            connection.channel().queue_delete(f"{settings.prefix}.transform.bulk")
        gate.open.set()

        async def consumed_again() -> bool:
            depth = (await operator.depths()).get("transform.bulk")
            return depth is not None and depth.consumers == 1

        await until(consumed_again)
        done = await operator.recover(0, timeout_s=30)
        assert done.lost >= 25
        assert max((await stepped(operator, "recovered")).values()) == 1
        await all_reconciled(worker, 30)


async def test_a_record_that_waits_for_its_next_attempt_is_left_alone(settings: Settings, tmp_path: Path) -> None:
    gate = Gate("post", TransientError("the target is closed for an hour", retry_after_ms=3_600_000))
    async with at_work(settings, gate), open_engine(settings) as operator:
        await accept(operator, tmp_path, 5, LIVE)
        await ready(operator, "retry.1h", 5)
        assert (await operator.recover(0)).candidates == 0


async def test_two_recoveries_at_once_drive_a_record_once(settings: Settings, amqp_url: str, tmp_path: Path) -> None:
    gate = Gate("enrich")
    async with at_work(settings, gate) as worker, open_engine(settings) as one, open_engine(settings) as other:
        await accept(one, tmp_path, 30, LIVE)
        await ready(one, "enrich.live", 26)
        lost = take_all(one, amqp_url, "enrich.live")

        async def found() -> bool:
            return (await one.recover(0, dry_run=True)).lost == len(lost)

        await until(found)
        done = await asyncio.gather(one.recover(0, timeout_s=30), other.recover(0, timeout_s=30))
        assert sum(each.driven for each in done) == len(lost) == 26
        assert await stepped(one, "recovered") == Counter(lost)
        gate.open.set()
        await all_reconciled(worker, 30)


async def test_without_a_worker_an_empty_queue_tells_and_a_full_one_asks_for_a_worker(
    settings: Settings, amqp_url: str, tmp_path: Path
) -> None:
    async with open_engine(settings) as operator:
        await accept(operator, tmp_path, 10, BULK)
        done = await operator.recover(0, timeout_s=5)
        (undecided,) = done.undecided
        assert (done.lost, undecided.records, done.stuck) == (0, 10, True)
        assert undecided.why == "they may wait in validate.bulk: 2 messages, no consumer: start a worker"
        assert len(take_all(operator, amqp_url, "validate.bulk")) == 10
        done = await operator.recover(0, timeout_s=5)
        assert (done.lost, done.driven, done.stuck) == (10, 10, False)


async def test_a_worker_too_old_to_know_markers_runs_its_stage_over_nothing(settings: Settings) -> None:
    gate = Gate("none")
    async with at_work(settings, gate) as worker:
        markers = [a_marker(f"{stage}.{lane}", "nobody") for stage in NAMES for lane in LANES]
        # Without their type they are to this worker what they are to one of an older version.
        await worker.broker.put([msgspec.structs.replace(marker, type=None) for marker in markers])
        await until(lambda: worker.broker.counts.acknowledged == len(markers))
        assert (worker.broker.counts.rejected, worker.broker.counts.requeued) == (0, 0)
        async with worker.db.connect() as connection:
            assert await connection.scalar(select(func.count()).select_from(steps)) == 0
