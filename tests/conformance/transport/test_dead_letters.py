"""The dead-letter queue: archived first, acknowledged afterwards, whoever put the letter there."""

import asyncio
from datetime import UTC, datetime

import msgspec

from broker.dead_letters import DeadLetterArchiver, RawDeadLetter
from broker.delivery import DeliveryInfo, Outgoing
from broker.embedded import EmbeddedBroker
from contracts.failure import DeadLetter, Failure
from contracts.money import NOTHING
from pipeline.codes import POISON_MESSAGE, UNDECODABLE, UNEXPECTED_ERROR
from pipeline.errors import PermanentError
from tests.conformance.transport.conftest import Rig, a_message, until


def a_letter(code: str = "MAPPING_MISSING") -> DeadLetter:
    now = datetime.now(UTC)
    failure = Failure(
        stage="first",
        code=code,
        category="business",
        owner="finance",
        message="no mapping",
        attempts=1,
        first_at=now,
        last_at=now,
    )
    return DeadLetter(
        id="letter-1",
        record_id="record-1",
        source="psa",
        document_type="time_entry.v1",
        subject="1",
        revision="1",
        correlationid="c-1",
        lane="live",
        failure=failure,
        amount=NOTHING,
        body=msgspec.Raw(b"{}"),
    )


async def test_an_undecodable_message_reaches_the_archive_as_it_was(rig: Rig) -> None:
    archived: list[RawDeadLetter] = []

    async def archive(letter: RawDeadLetter) -> None:
        archived.append(letter)

    await rig.open(lambda stage, body, info: None)
    archiver = DeadLetterArchiver(rig.broker, archive)
    await archiver.start()
    await rig.broker.put([Outgoing(queue="first.live", body=b"\xff\x00", message_id="odd", headers={"from": "afar"})])
    await until(lambda: archived)
    (letter,) = archived
    assert (letter.body, letter.message_id, letter.headers["from"]) == (b"\xff\x00", "odd", "afar")
    assert (letter.stage, letter.reason, letter.code) == ("first", "rejected", UNDECODABLE)
    await archiver.stop()
    assert (await rig.broker.depths())["dead"].ready == 0


async def test_a_poison_message_reaches_the_archive_with_its_batch(rig: Rig) -> None:
    archived: list[RawDeadLetter] = []

    async def archive(letter: RawDeadLetter) -> None:
        archived.append(letter)

    def handle(stage: str, body: bytes, info: DeliveryInfo) -> None:
        raise PermanentError(UNEXPECTED_ERROR, "fails the same way for ever")

    await rig.open(handle)
    archiver = DeadLetterArchiver(rig.broker, archive)
    await archiver.start()
    await rig.publisher.publish([a_message(7)])
    await until(lambda: archived)
    (letter,) = archived
    assert letter.batch is not None
    assert letter.batch.items[0].subject == "7"
    assert letter.code is POISON_MESSAGE
    await archiver.stop()


async def test_a_letter_is_shown_again_until_the_archive_has_it(rig: Rig) -> None:
    shown: list[RawDeadLetter] = []

    async def archive(letter: RawDeadLetter) -> None:
        shown.append(letter)
        if len(shown) == 1:
            raise OSError("the store is away")

    await rig.open(lambda stage, body, info: None)
    await rig.broker.put([Outgoing(queue="first.live", body=b"?", message_id="odd")])
    archiver = DeadLetterArchiver(rig.broker, archive)
    await archiver.start()
    await until(lambda: len(shown) == 2)
    await archiver.stop()
    await rig.stop()
    assert (await rig.broker.depths())["dead"].ready == 0


async def test_a_letter_that_is_not_archived_stays_in_the_queue(rabbit: Rig) -> None:
    shown: list[RawDeadLetter] = []

    async def archive(letter: RawDeadLetter) -> None:
        shown.append(letter)
        raise OSError("the store is away")

    await rabbit.open(lambda stage, body, info: None)
    archiver = DeadLetterArchiver(rabbit.broker, archive)
    await archiver.start()
    await rabbit.publisher.publish_dead([a_letter()])
    await until(lambda: shown)
    await archiver.stop()
    await rabbit.ready("dead", 1)


async def test_a_late_archiving_does_not_acknowledge_another_delivery(rabbit: Rig) -> None:
    gates: list[asyncio.Event] = []
    finished: list[int] = []

    async def archive(letter: RawDeadLetter) -> None:
        gates.append(asyncio.Event())
        number = len(gates)
        await gates[-1].wait()
        finished.append(number)

    await rabbit.open(lambda stage, body, info: None, work=False)
    archiver = DeadLetterArchiver(rabbit.broker, archive)
    await archiver.start()
    await rabbit.publisher.publish_dead([a_letter()])
    await until(lambda: gates)
    await rabbit.lose_channels()
    await until(lambda: len(gates) == 2)
    gates[0].set()
    await until(lambda: finished == [1])
    await archiver.stop()
    await rabbit.ready("dead", 1)


async def test_our_own_letters_arrive_under_the_key_a_team_can_bind(rabbit: Rig) -> None:
    archived: list[RawDeadLetter] = []

    async def archive(letter: RawDeadLetter) -> None:
        archived.append(letter)

    await rabbit.open(lambda stage, body, info: None)
    archiver = DeadLetterArchiver(rabbit.broker, archive)
    await archiver.start()
    await rabbit.publisher.publish_dead([a_letter()])
    await until(lambda: archived)
    await archiver.stop()
    (letter,) = archived
    assert letter.routing_key == "first.business.finance.MAPPING_MISSING"
    assert letter.letter is not None
    assert (letter.reason, letter.letter.record_id) == ("published", "record-1")


async def test_the_embedded_broker_only_counts_published_letters() -> None:
    broker = EmbeddedBroker()
    await broker.open()
    await broker.put_dead([a_letter()])
    assert broker.counts.dead_published == 1
    assert broker.idle
    await broker.aclose()
