"""A message that keeps failing: one record in it may be poison, its neighbours must not go down with it."""

import asyncio

from broker.delivery import FAULTS, Begin, DeliveryInfo, Outgoing
from broker.encoding import encode_batch
from pipeline.entries import Entry
from pipeline.runner import Runner, apart_after
from pipeline.settings import Settings
from pipeline.stage import stage
from tests.conformance.transport.conftest import Rig, until
from tests.unit.pipeline.batches import ListLedger, a_batch, an_expense, passes
from tests.unit.pipeline.test_runner import idle_services

POISON = "r-poison"


class Choking(ListLedger):
    """A ledger that one record's entry makes fail in a way nobody planned for."""

    async def record(self, entry: Entry) -> None:
        if any(step.record_id == POISON for step in entry.steps):
            raise ZeroDivisionError(POISON)
        await super().record(entry)

    @property
    def records(self) -> set[str]:
        return {step.record_id for entry in self.entries for step in entry.steps}


def a_runner(rig: Rig, ledger: Choking) -> Runner:
    services = idle_services(ledger, rig.publisher)
    settings = Settings(database_url="sqlite+aiosqlite://")
    return Runner([stage(passes)], services, settings, asyncio.get_running_loop())


async def test_the_neighbours_of_a_poisonous_record_are_done_without_it(rig: Rig) -> None:
    ledger = Choking()
    runner = a_runner(rig, ledger)

    def handle(name: str, body: bytes, info: DeliveryInfo) -> Begin:
        return runner.handle(name, body, info.setbacks)

    await rig.open(handle, ["passes"])
    batch = a_batch(an_expense("E-1"), an_expense("poison"), an_expense("E-2"))
    body = encode_batch("passes.bulk", "passes", batch)
    failed_before = Outgoing(queue="passes.bulk", body=body, message_id="m-1", headers={FAULTS: apart_after})
    await rig.broker.put([failed_before])
    await until(lambda: ledger.records == {"r-E-1", "r-E-2"})
    await until(lambda: rig.broker.counts.requeued == 1)
    assert rig.broker.counts.acknowledged == 3
