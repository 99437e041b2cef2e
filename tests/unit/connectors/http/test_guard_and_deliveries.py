"""What becomes of deliveries while their target is down: they wait on the broker, and no attempt of theirs is burnt."""

import httpx
import msgspec
import pytest

from actors.post import post
from connectors.http.guard import Guard, GuardLimits
from connectors.http.keepers import InProcess
from connectors.http.outcome import error_without_answer
from contracts.channels import Receipt, TargetDocument
from contracts.envelope import Batch, Item
from pipeline.ports import Found
from pipeline.retry import backoff_max_ms
from tests.unit.actors.builders import MemoryPostings, MemoryTarget, a_target_document
from tests.unit.connectors.http.test_guard import Clock
from tests.unit.pipeline.batches import an_envelope
from tests.unit.pipeline.test_runner import Bench

HOUR_US = 3_600_000_000
LIMITS = GuardLimits(concurrency=1, failures_max=2, wait_max_ms=0)


class GuardedTarget(MemoryTarget):
    """Every call goes through the guard; while it is down there is nobody to connect to."""

    down = True

    def __init__(self, guard: Guard, *, unique_reference: bool) -> None:
        super().__init__(unique_reference=unique_reference)
        self.guard = guard

    def connect(self) -> None:
        if self.down:
            raise error_without_answer(httpx.ConnectError("connection refused"), self.name, writes=True)

    async def post(self, document: TargetDocument) -> Receipt:
        async with self.guard():
            self.connect()
            return await super().post(document)

    async def find(self, reference: str) -> Found | None:
        async with self.guard():
            self.connect()
            return await super().find(reference)


def deliveries(count: int) -> Batch:
    documents = [a_target_document(f"memory/time_entry.v1/psa/T-{number}/1") for number in range(count)]
    items = tuple(
        Item(
            id=f"r-{number}",
            subject=f"T-{number}",
            revision="1",
            correlationid=f"c-{number}",
            body=msgspec.Raw(msgspec.json.encode(document)),
            target="memory",
        )
        for number, document in enumerate(documents)
    )
    return Batch(envelope=an_envelope(type="time_entry.v1"), items=items)


@pytest.mark.parametrize("unique_reference", [True, False], ids=["no lease", "leased"])
async def test_however_long_the_target_is_down_no_attempt_counts_and_each_wait_is_bounded(unique_reference):
    clock, postings = Clock(), MemoryPostings()
    guard = Guard("memory", LIMITS, keeper=InProcess(LIMITS, clock))
    target = GuardedTarget(guard, unique_reference=unique_reference)
    bench = Bench(post)
    bench.runner.services = msgspec.structs.replace(
        bench.runner.services, targets={"memory": target}, postings=postings
    )
    batch, began, waits = deliveries(3), clock.now, []
    while clock.now < began + 3 * HOUR_US:
        await bench.run("post", batch)
        [message] = bench.publisher.messages
        bench.publisher.messages.clear()
        assert len(message.batch.items) == 3, "they wait together"
        assert message.batch.envelope.attempt == 1
        waits.append(message.delay_ms)
        clock.now += 1_000 * message.delay_ms
        # Within a few minutes every lease runs out.
        postings.lapse()
        batch = message.batch
    assert max(waits) <= max(LIMITS.away_max_ms, backoff_max_ms)
    assert (await guard.snapshot()).state != "closed"
    assert bench.publisher.letters == []

    target.down = False
    for _ in range(3):
        await bench.run("post", batch)
        if not bench.publisher.messages:
            break
        [message] = bench.publisher.messages
        bench.publisher.messages.clear()
        clock.now += 1_000 * message.delay_ms
        postings.lapse()
        batch = message.batch
    assert len(target.held) == len(postings.receipts) == 3
    assert (await guard.snapshot()).state == "closed"
