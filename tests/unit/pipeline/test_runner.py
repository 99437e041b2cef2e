import asyncio

import msgspec
import pytest

from contracts.channels import Document, Posted, Validated
from contracts.customer import Customer
from contracts.envelope import Batch
from pipeline.entries import Entry
from pipeline.errors import DependencyMissing, TransientError, UndecodableMessage
from pipeline.messages import encode
from pipeline.ports import Ledger, Publisher
from pipeline.reference import Reference
from pipeline.rules import Rules
from pipeline.runner import Runner, Services
from pipeline.settings import Settings
from pipeline.stage import Context, Stage, stage
from tests.unit.pipeline.batches import ListLedger, ListPublisher, a_batch, an_expense, passes


class LateReference:
    """Reference data whose customer C-1 is only there after a refresh."""

    def __init__(self) -> None:
        self.snapshot = Reference()

    async def refresh(self, at_least: int = 0) -> None:
        self.snapshot.put_master("C-1", Customer(id="C-1", name="Acme"))
        self.snapshot.version = max(at_least, 1)


def idle_services(ledger: Ledger, publisher: Publisher) -> Services:
    """What a runner needs beside a ledger and a publisher, with nothing behind it."""

    async def nothing(*_: object) -> dict[str, object]:
        return {}

    return Services(
        ledger=ledger,
        publisher=publisher,
        reference=LateReference(),
        history=nothing,
        release=nothing,
        postings=None,
        rules=Rules(),
        targets={},
        translators={},
    )


class Bench:
    """A runner over in-memory ports, driven as a worker thread would drive it."""

    def __init__(self, *stages: Stage, stage_time_limit_ms: int = 600_000, lookup_timeout_s: float = 60) -> None:
        self.ledger, self.publisher, self.reference = ListLedger(), ListPublisher(), LateReference()
        self.released: list[str] = []
        services = msgspec.structs.replace(
            idle_services(self.ledger, self.publisher), reference=self.reference, release=self._release
        )
        settings = Settings(database_url="sqlite+aiosqlite://", stage_time_limit_ms=stage_time_limit_ms)
        self.runner = Runner(stages, services, settings, asyncio.get_running_loop(), lookup_timeout_s)

    async def _release(self, keys: list[str]) -> None:
        self.released += keys

    async def run(self, name: str, batch: Batch, setbacks: int = 0) -> None:
        begin = await asyncio.to_thread(self.runner.handle, name, encode(batch), setbacks)
        results = await asyncio.gather(*begin(), return_exceptions=True)
        for error in filter(None, results):
            raise error


def needs_customer(record: Document, context: Context) -> Validated:
    if context.reference.find(Customer, "C-1") is None:
        raise DependencyMissing("customer.v1:C-1")
    return Validated(document=record)


def needs_another(record: Document, context: Context) -> Validated:
    raise DependencyMissing("customer.v1:C-1")


async def test_a_message_is_done_when_ledger_and_broker_have_everything():
    bench = Bench(stage(passes), msgspec.structs.replace(stage(passes), name="second"))
    await bench.run("passes", a_batch(an_expense("E-1"), an_expense("E-2")))
    assert [step.record_id for step in bench.ledger.entries[0].steps] == ["r-E-1", "r-E-2"]
    assert [message.stage for message in bench.publisher.messages] == ["second"]


async def test_the_last_stage_publishes_nothing():
    bench = Bench(stage(passes))
    await bench.run("passes", a_batch(an_expense()))
    assert bench.publisher.messages == []


@pytest.mark.parametrize("which", ["ledger", "publisher"])
async def test_a_message_is_not_done_while_one_of_the_two_refuses(which):
    bench = Bench(stage(passes), msgspec.structs.replace(stage(passes), name="second"))
    getattr(bench, which).refuses = TransientError("away")
    with pytest.raises(TransientError, match="away"):
        await bench.run("passes", a_batch(an_expense()))


async def test_what_seems_missing_is_judged_again_on_fresh_reference_data():
    bench = Bench(stage(needs_customer))
    await bench.run("needs_customer", a_batch(an_expense()))
    assert [step.outcome for step in bench.ledger.entries[0].steps] == ["passed"]


class LateTarget(LateReference):
    """Reference data with whose refresh the target `erp` comes."""

    def __init__(self, targets: dict) -> None:
        super().__init__()
        self.targets = targets

    async def refresh(self, at_least: int = 0) -> None:
        self.targets["erp"] = "connected"
        await super().refresh(at_least)


@pytest.mark.parametrize("waits", [False, True])
async def test_a_target_that_seems_not_to_be_there_is_looked_for_in_fresh_reference_data(waits):
    asked = []

    def look(record: Document, context: Context) -> Validated:
        asked.append(record.id)
        if record.id != "E-1":
            context.target("erp" if record.id == "E-2" else "nowhere")
        return Validated(document=record)

    async def look_and_wait(record: Document, context: Context) -> Validated:
        return look(record, context)

    one = stage(look_and_wait if waits else look)
    bench = Bench(one)
    services = bench.runner.services
    bench.runner.services = msgspec.structs.replace(services, reference=LateTarget(services.targets))
    await bench.run(one.name, a_batch(an_expense("E-1"), an_expense("E-2"), an_expense("E-3")))
    outcomes = {step.record_id: step.outcome for entry in bench.ledger.entries for step in entry.steps}
    assert list(outcomes.values()) == ["passed", "passed", "dead"]
    # What has passed is not done again.
    assert asked == ["E-1", "E-2", "E-3", "E-2", "E-3"]


async def test_a_sender_s_reference_version_is_waited_for():
    bench = Bench(stage(passes))
    await bench.run("passes", a_batch(an_expense(), referenceversion=5))
    assert bench.reference.snapshot.version == 5


async def test_after_parking_it_looks_again():
    bench = Bench(stage(needs_another))
    await bench.run("needs_another", a_batch(an_expense()))
    assert bench.released == ["customer.v1:C-1"]


async def test_a_stage_that_waits_is_run_on_the_loop():
    loop = asyncio.get_running_loop()

    async def waits(record: Document, context: Context) -> Validated:
        assert asyncio.get_running_loop() is loop
        return Validated(document=record)

    bench = Bench(stage(waits))
    await bench.run("waits", a_batch(an_expense("E-1"), an_expense("E-2")))
    assert len(bench.ledger.entries[0].steps) == 2


async def test_a_record_that_hangs_holds_up_none_of_its_neighbours():
    async def hangs(record: Document, context: Context) -> Validated:
        if record.id == "E-2":
            await asyncio.Event().wait()
        return Validated(document=record)

    bench = Bench(stage(hangs), stage(passes), stage_time_limit_ms=50)
    await bench.run("hangs", a_batch(an_expense("E-1"), an_expense("E-2"), an_expense("E-3")))
    assert [step.outcome for step in bench.ledger.entries[0].steps] == ["passed", "retried", "passed"]
    assert [(message.stage, len(message.batch.items)) for message in bench.publisher.messages] == [
        ("hangs", 1),
        ("passes", 2),
    ]


async def test_a_database_gone_silent_is_an_outage_and_not_the_message_s_fault():
    async def silent(batch: Batch) -> dict:
        await asyncio.Event().wait()
        return {}

    bench = Bench(msgspec.structs.replace(stage(passes), reads_history=True), lookup_timeout_s=0.05)
    bench.runner.services = msgspec.structs.replace(bench.runner.services, history=silent)
    with pytest.raises(TransientError, match="look-up"):
        await bench.run("passes", a_batch(an_expense()))


@pytest.mark.parametrize("attempt", [1, 3])
async def test_records_of_a_message_that_keeps_coming_back_go_on_one_by_one(attempt):
    bench = Bench(stage(passes))
    await bench.run("passes", a_batch(an_expense("E-1"), an_expense("E-2"), attempt=attempt), setbacks=2)
    assert [
        (message.stage, [item.id for item in message.batch.items], message.batch.envelope.attempt)
        for message in bench.publisher.messages
    ] == [("passes", ["r-E-1"], attempt), ("passes", ["r-E-2"], attempt)]
    assert len({message.batch.envelope.id for message in bench.publisher.messages}) == 2
    told = [(step.record_id, step.outcome) for entry in bench.ledger.entries for step in entry.steps]
    assert told == [("r-E-1", "retried"), ("r-E-2", "retried")]


class Away(ListLedger):
    """A ledger whose database is away for the first entries."""

    def __init__(self, entries: int) -> None:
        super().__init__()
        self.left = entries

    async def record(self, entry: Entry) -> None:
        self.left -= 1
        if self.left >= 0:
            raise TransientError("the database is away")
        await super().record(entry)


async def test_while_the_ledger_is_away_no_attempt_makes_another_copy():
    async def next_one(record: Validated, context: Context) -> Validated:
        return record

    bench = Bench(stage(passes), stage(next_one))
    bench.runner.services = msgspec.structs.replace(bench.runner.services, ledger=Away(3))
    for _ in range(3):
        with pytest.raises(TransientError):
            await bench.run("passes", a_batch(an_expense()))
    assert len(bench.publisher.messages) == 1, "the first could not know"
    for _ in range(2):
        await bench.run("passes", a_batch(an_expense()))
    assert len(bench.publisher.messages) == 3


async def test_a_record_alone_is_worked_on_however_often_it_came_back():
    bench = Bench(stage(passes))
    await bench.run("passes", a_batch(an_expense()), setbacks=5)
    assert len(bench.ledger.entries) == 1


async def test_bytes_that_are_no_batch_are_refused_at_once():
    bench = Bench(stage(passes))
    with pytest.raises(UndecodableMessage, match="passes"):
        bench.runner.handle("passes", b'{"envelope": 1}')


def test_channels_follow_from_annotations():
    async def posts(record: Validated, context: Context) -> tuple[Posted, ...]:
        return ()

    made = stage(posts)
    assert (made.name, made.consumes, made.emits, made.waits, made.splits) == ("posts", Validated, Posted, True, True)
