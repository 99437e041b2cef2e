"""A stage that runs over its time limit is interrupted, and its message comes again; one that always does ends dead."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from dramatiq.middleware.threading import raise_thread_exception
from dramatiq.middleware.time_limit import TimeLimitExceeded

from broker.backoff import FAULTS_MAX
from broker.delivery import FAULTS, Begin, DeliveryInfo, Outgoing
from broker.embedded import EmbeddedBroker
from broker.encoding import encode_batch
from broker.rabbitmq import RabbitBroker
from contracts.envelope import LIVE
from contracts.expense import Expense
from pipeline.runner import Runner
from pipeline.settings import Settings
from pipeline.stage import Context, stage
from tests.conformance.transport.conftest import PREFETCH, Rig, a_batch, a_message, remove, subject_of, until
from tests.unit.pipeline.batches import ListLedger, an_expense
from tests.unit.pipeline.batches import a_batch as a_batch_of
from tests.unit.pipeline.test_runner import idle_services

limit_ms = 300

#: Ends a stage that nobody interrupts, long after a test has given up waiting.
runaway_s = 60


@pytest.fixture(params=["embedded", "rabbitmq"])
async def hasty(request: pytest.FixtureRequest, amqp_url: str, prefix: str) -> AsyncIterator[Rig]:
    """Each transport in turn, with a short time limit."""
    broker: EmbeddedBroker | RabbitBroker
    if request.param == "embedded":
        broker = EmbeddedBroker(prefetch=PREFETCH, time_limit_ms=limit_ms)
    else:
        broker = RabbitBroker(amqp_url, prefix=prefix, prefetch=PREFETCH, time_limit_ms=limit_ms)
    rig = Rig(broker)
    yield rig
    await rig.stop(grace_ms=0)
    await broker.aclose()
    if isinstance(broker, RabbitBroker):
        await remove(amqp_url, broker)


def run_away() -> None:
    """Compute for ever, as far as its caller can tell."""
    deadline = time.monotonic() + runaway_s
    while time.monotonic() < deadline:
        sum(range(1_000))


async def test_a_stage_over_its_limit_is_interrupted_and_its_message_comes_again(hasty: Rig) -> None:
    began: list[int] = []
    ended: list[int] = []

    def handle(stage: str, body: bytes, info: DeliveryInfo) -> None:
        began.append(info.setbacks)
        if len(began) == 1:
            run_away()
        ended.append(info.setbacks)

    await hasty.open(handle)
    await hasty.publisher.publish([a_message(1)])
    await until(lambda: hasty.broker.counts.acknowledged == 1)
    assert (began, ended) == ([0, 1], [1])
    await hasty.at_rest()


async def test_its_neighbours_are_done_meanwhile(hasty: Rig) -> None:
    done: list[str] = []

    def handle(stage: str, body: bytes, info: DeliveryInfo) -> None:
        if subject_of(body) == "slow" and not info.setbacks:
            run_away()
        done.append(subject_of(body))

    await hasty.open(handle)
    await hasty.publisher.publish([a_message("slow"), *(a_message(number) for number in range(20))])
    await until(lambda: hasty.broker.counts.acknowledged == 21)
    assert len(done) == len(set(done)) == 21
    assert done[-1] == "slow"


async def test_a_stage_that_always_runs_over_ends_as_a_dead_letter(hasty: Rig) -> None:
    await hasty.open(lambda stage, body, info: run_away())
    body = encode_batch("first.live", "first", a_batch(1))
    await hasty.broker.put([Outgoing(queue="first.live", body=body, message_id="slow", headers={FAULTS: FAULTS_MAX})])
    await until(lambda: hasty.broker.counts.rejected == 1)
    await hasty.ready("dead", 1)


async def test_the_runner_lets_the_interruption_through(hasty: Rig) -> None:
    """A stage's own errors become verdicts on its record; being interrupted is none."""
    ledger, began = ListLedger(), []

    @stage
    def dawdle(expense: Expense, context: Context) -> Expense:
        began.append(expense.id)
        if len(began) == 1:
            run_away()
        return expense

    services = idle_services(ledger, hasty.publisher)
    runner = Runner([dawdle], services, Settings(database_url="sqlite+aiosqlite://"), asyncio.get_running_loop())

    def handle(name: str, body: bytes, info: DeliveryInfo) -> Begin:
        return runner.handle(name, body, info.setbacks)

    await hasty.open(handle, ["dawdle"])
    body = encode_batch("dawdle.live", "dawdle", a_batch_of(an_expense("E-1")))
    await hasty.broker.put([Outgoing(queue="dawdle.live", body=body, message_id="m-1")])
    await until(lambda: hasty.broker.counts.acknowledged == 1)
    assert began == ["E-1", "E-1"]
    assert [step.record_id for entry in ledger.entries for step in entry.steps] == ["r-E-1"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_thread_that_an_interruption_has_killed_is_noticed(hasty: Rig) -> None:
    await hasty.open(lambda stage, body, info: None, work=False)
    hasty.work(threads=2)
    group = hasty.group
    assert group is not None
    await until(lambda: group.consuming)
    assert group.threads_lost == 0
    idle = next(worker for worker in group._workers if any(LIVE in queue for queue in worker.consumers)).workers[0]
    raise_thread_exception(idle.ident, TimeLimitExceeded)
    await until(lambda: not idle.is_alive())
    assert group.threads_lost == 1


async def test_consuming_ends_with_the_connection_and_comes_back_with_it(rabbit: Rig) -> None:
    await rabbit.open(lambda stage, body, info: None)
    group, proxy = rabbit.group, rabbit.proxy
    assert group is not None
    assert proxy is not None
    await until(lambda: group.consuming)
    proxy.cut()
    await until(lambda: not group.consuming)
    await until(lambda: group.consuming)
