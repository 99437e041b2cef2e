"""Every moment at which a worker can die: another one finishes its work, and nothing is lost or done twice.

A worker process is killed exactly there (`dying.py`), on RabbitMQ and PostgreSQL; a second one then works until all is
at rest. The oracle is the ledger's balance, the target's own books, and the broker's queues.
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import msgspec
import pytest

from broker.delivery import Outgoing
from broker.encoding import encode_batch
from broker.rabbitmq import RabbitBroker
from contracts.money import Money
from ops.bootstrap import Engine, open_engine
from ops.reconciliation import tie_out
from ops.recovery import relay
from pipeline.messages import decode
from pipeline.settings import Settings
from store.dead_letter_filter import DeadLetterFilter
from store.intake import AcceptedRecord
from store.record_states import states_of
from tests.conformance.store.given import a_message, a_record, euros
from tests.conformance.transport.conftest import remove, until
from tests.conformance.transport.dying import ARCHIVING, ARCHIVING_BYTES, DIED, DYING, PASSING
from tests.conformance.transport.proxy import Proxy
from tests.conformance.transport.server import give_up

REPOSITORY = Path(__file__).resolve().parents[3]


def an_expense(amount: str) -> AcceptedRecord:
    body = {"type": "expense.v1", "id": "X-1", "date": "2026-03-04", "amount": amount, "currency": "EUR"}
    return a_record("X-1", amount=amount, payload=msgspec.json.encode(body))


GOOD, REFUSED = an_expense("12.30"), an_expense("0")


@pytest.fixture
def settings(migrated_postgresql_url: str, amqp_url: str, prefix: str) -> Settings:
    return Settings(database_url=migrated_postgresql_url, amqp_url=amqp_url, prefix=prefix)


@pytest.fixture
async def clean_broker(settings: Settings, amqp_url: str) -> AsyncIterator[None]:
    """Whatever the test declares is taken off the server again."""
    yield
    async with open_engine(settings) as engine:
        assert isinstance(engine.broker, RabbitBroker)
        broker = engine.broker
    await remove(amqp_url, broker)


pytestmark = pytest.mark.usefixtures("clean_broker")


async def accept(settings: Settings, record: AcceptedRecord) -> None:
    """The record is in the ledger, and its message is owed."""
    async with open_engine(settings) as engine:
        run_id = await engine.intake.open_run(
            actor="ann", origin="file.csv", source=record.source, document_type=record.document_type, lane="bulk"
        )
        await engine.intake.accept(
            run_id, [record], [], rows=1, filtered=0, read=1, messages=lambda new: [a_message(new)]
        )


async def worker_dies(settings: Settings, moment: str) -> None:
    """Run a worker until it is dead, which it must be of this moment."""
    command = [sys.executable, "-m", "tests.conformance.transport.dying", moment]
    arguments = [settings.database_url, settings.amqp_url or "", settings.prefix]
    done = await asyncio.to_thread(
        subprocess.run, [*command, *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == DIED, done.stderr


async def finished(settings: Settings) -> "Outcome":
    """Let another worker do what is left; nothing may be on the broker when it has gone."""
    async with open_engine(settings, work=True) as engine:
        await relay(engine, 0)
        await at_rest(engine)
        outcome = await look(engine)
    async with open_engine(settings) as engine:
        # What the second worker had not acknowledged would be back in its queue now.
        assert {queue: depth.ready for queue, depth in (await engine.depths()).items() if depth.ready} == {}
    return outcome


async def at_rest(engine: Engine) -> None:
    """Wait until two looks, one after the other, find nothing: a message may be on its way to us during the first."""
    async with asyncio.timeout(30):
        looks = 0
        while looks < 2:
            looks = 0 if await unfinished(engine) else looks + 1
            await asyncio.sleep(0.02)


async def unfinished(engine: Engine) -> bool:
    depths = (await engine.depths()).values()
    moving = set(await states_of(engine.db, {GOOD.id})) - {"reconciled", "dead"}
    return (
        bool(moving)
        or any(depth.ready for depth in depths)
        or any(one.started or one.records for one in engine.broker.consumers)
    )


class Outcome(msgspec.Struct, frozen=True):
    """`posted` is what the target itself holds, in count and in money; `letters` are the codes of the archive."""

    states: dict[str, int]
    posted: list[tuple[int, Money]]
    letters: list[str]
    holds: bool


async def look(engine: Engine) -> Outcome:
    found = await engine.dead_letters.list(DeadLetterFilter(status=None))
    return Outcome(
        states=await states_of(engine.db, {GOOD.id}),
        posted=[(total.count, total.amount) for total in await engine.targets["ledger"].totals()],
        letters=[letter.code for letter in found],
        holds=(await tie_out(engine)).holds,
    )


RECONCILED = Outcome({"reconciled": 1}, [(1, euros("12.30"))], [], True)


@pytest.mark.parametrize("moment", PASSING)
async def test_a_record_is_reconciled_once_wherever_its_worker_dies(moment: str, settings: Settings) -> None:
    await accept(settings, GOOD)
    await worker_dies(settings, moment)
    assert await finished(settings) == RECONCILED


@pytest.mark.parametrize("moment", DYING)
async def test_a_refused_record_is_one_dead_letter_wherever_its_worker_dies(moment: str, settings: Settings) -> None:
    await accept(settings, REFUSED)
    await worker_dies(settings, moment)
    assert await finished(settings) == Outcome({"dead": 1}, [], ["AMOUNT_NOT_POSITIVE"], True)


@pytest.mark.parametrize("moment", ARCHIVING)
async def test_a_poison_message_is_archived_once_wherever_the_archiver_dies(moment: str, settings: Settings) -> None:
    await accept(settings, GOOD)
    async with open_engine(settings) as engine:
        (owed,) = await engine.outbox.pending(10)
        await engine.outbox.delete([owed.number])
        assert isinstance(engine.broker, RabbitBroker)
        body = encode_batch("validate.bulk", "validate", decode(owed.body))
        topology = engine.broker.topology
        await asyncio.to_thread(give_up, settings.amqp_url, topology, "validate", body, message_id="m-1")
    await worker_dies(settings, moment)
    assert await finished(settings) == Outcome({"dead": 1}, [], ["POISON_MESSAGE"], True)


@pytest.mark.parametrize("moment", ARCHIVING_BYTES)
async def test_bytes_that_are_no_message_are_archived_once_wherever_the_archiver_dies(
    moment: str, settings: Settings
) -> None:
    async with open_engine(settings) as engine:
        await engine.broker.put([Outgoing(queue="validate.live", body=b"\xff?", message_id="odd")])
    await worker_dies(settings, moment)
    assert await finished(settings) == Outcome({}, [], ["UNDECODABLE"], True)


class LosingAnswers(Proxy):
    """While it is `losing`, what workers answer (acknowledge, reject) never arrives; what they publish does."""

    losing = False

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to_client: bool = False) -> None:
        if to_client:
            await super()._pump(reader, writer, to_client=True)
            return
        consumes = False
        try:
            while data := await reader.read(65536):
                consumes = consumes or b" consume" in data  # the name by which the connection introduces itself
                if not (consumes and self.losing):
                    writer.write(data)
        except OSError:
            pass  # cut
        writer.transport.abort()


async def test_a_record_is_reconciled_once_although_no_acknowledgement_arrives(settings: Settings) -> None:
    await accept(settings, GOOD)
    server = urlsplit(settings.amqp_url or "")
    proxy = LosingAnswers(server.hostname or "", server.port or 5672)
    await proxy.start()
    address = f"{server.username}:{server.password}@127.0.0.1:{proxy.port}"
    through = msgspec.structs.replace(settings, amqp_url=urlunsplit(server._replace(netloc=address)))
    async with open_engine(through, work=True) as engine:
        counts, workers = engine.broker.counts, engine.workers
        await until(lambda: workers is not None and workers.consuming)
        proxy.losing = True
        await relay(engine, 0)
        await until(lambda: counts.acknowledged >= len(engine.runner.stages))
        proxy.losing = False
        proxy.cut()
        await until(lambda: counts.acknowledged >= 2 * len(engine.runner.stages))
    await proxy.stop()
    assert await finished(settings) == RECONCILED
