"""What every connector promises on a bad road: whatever becomes of the calls, each document is there exactly once."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal

import pytest
from sqlalchemy import func, select

from contracts.channels import Posted
from pipeline.errors import OutcomeUnknown, TransientError
from pipeline.ports import Target
from store.database import Database
from store.tables import deliveries
from tests.faults.plan import FaultPlan

from .roads import Road
from .subjects import Subject
from .test_target import count, identity
from .worker import Worker, accept_documents

DOCUMENTS = 300

#: After these the document is there, and the caller does not know.
DONE = ("reset_mid_answer", "lost_after_commit", "garbage", "html", "hang")
#: After these it is not; only after the first does the caller not know.
NOT_DONE = ("reset_before", "unavailable", "throttled")


@pytest.fixture
def road(subject: Subject) -> Iterator[Road]:
    """A good road, until a test orders something else."""
    with subject.road(FaultPlan(share=0), 1) as road:
        yield road


@pytest.fixture
async def disturbed(road: Road) -> AsyncIterator[Target]:
    """The target at the other end of the road."""
    target = road.open()
    yield target
    await target.close()


@pytest.fixture
async def worker(database: Database, road: Road) -> AsyncIterator[Worker]:
    worker = Worker(database, road.open())
    yield worker
    await worker.close()


@pytest.mark.parametrize("fault", DONE)
async def test_a_document_whose_answer_was_lost_is_there_and_no_second_one_is_made(
    subject: Subject, target: Target, road: Road, disturbed: Target, fault: str
) -> None:
    document = subject.document(1)
    road.faults.once(fault, road.posts)
    with pytest.raises(OutcomeUnknown):
        await disturbed.post(document)
    found = await disturbed.find(document.reference)
    assert found is not None
    assert identity(await disturbed.post(document)) == identity(found.receipt)
    assert await count(target) == 1


@pytest.mark.parametrize("fault", NOT_DONE)
async def test_a_document_that_was_never_sent_is_not_there_and_can_be_sent(
    subject: Subject, target: Target, road: Road, disturbed: Target, fault: str
) -> None:
    document = subject.document(1)
    road.faults.once(fault, road.posts)
    with pytest.raises(TransientError) as told:
        await disturbed.post(document)
    assert isinstance(told.value, OutcomeUnknown) is (fault == "reset_before")
    assert await disturbed.find(document.reference) is None
    await disturbed.post(document)
    assert await count(target) == 1


async def test_a_call_that_arrives_when_its_caller_has_given_up_makes_no_second_one(
    subject: Subject, target: Target, road: Road, disturbed: Target
) -> None:
    document = subject.document(1)
    late = road.faults.once("late", road.posts)
    with pytest.raises(OutcomeUnknown):
        await disturbed.post(document)
    # Perhaps before the late one, perhaps after it, perhaps in its midst.
    await disturbed.post(document)
    assert await asyncio.to_thread(late.wait, 30)
    assert await count(target) == 1


@pytest.mark.parametrize("fault", ["reset_before", "lost_after_commit", "late"])
async def test_a_correction_is_made_once_whatever_becomes_of_its_call(
    subject: Subject, target: Target, road: Road, disturbed: Target, fault: str
) -> None:
    await disturbed.post(subject.document(1))
    correction = subject.document(1, 2, replaces=1)
    happened = road.faults.once(fault, road.posts)
    with pytest.raises(OutcomeUnknown):
        await disturbed.post(correction)
    await disturbed.post(correction)
    assert await asyncio.to_thread(happened.wait, 30)
    (total,) = await target.totals()
    assert (total.count, total.amount) == (1, correction.amount)


async def test_a_session_that_has_expired_is_noticed_by_nobody(
    subject: Subject, target: Target, road: Road, disturbed: Target
) -> None:
    await disturbed.post(subject.document(1))
    expired = road.faults.once("expired", road.posts)
    await disturbed.post(subject.document(2))
    assert expired.is_set()
    assert await count(target) == 2


async def test_after_a_lost_answer_the_stage_asks_and_the_call_is_not_made_again(
    subject: Subject, target: Target, database: Database, road: Road, worker: Worker
) -> None:
    document = subject.document(1)
    await accept_documents(database, [document])
    road.faults.once("lost_after_commit", road.posts)
    with pytest.raises(OutcomeUnknown):
        await worker.post(document)
    again = road.faults.once("hang", road.posts)
    posted = await worker.post(document)
    assert isinstance(posted, Posted)
    assert not again.is_set(), "it was sent again"
    found = await target.find(document.reference)
    assert found is not None
    assert identity(posted.receipt) == identity(found.receipt)


async def test_a_run_over_a_bad_road_posts_every_document_exactly_once(
    subject: Subject, target: Target, database: Database
) -> None:
    documents = [subject.document(number) for number in range(DOCUMENTS)]
    await accept_documents(database, documents)
    plan = FaultPlan(share=0.3, lost_after_commit=0.1, slow_ms_max=50)
    with subject.road(plan, 1) as road:
        worker = Worker(database, road.open())
        posted = await asyncio.gather(*(worker.settle(document) for document in documents))
        await worker.close()
    assert road.faults.disturbed > 10
    assert road.faults.counts["lost_after_commit"] > 0

    held = await asyncio.gather(*(target.find(document.reference) for document in documents))
    assert [one and (one.reference, one.amount) for one in held] == [(one.reference, one.amount) for one in documents]
    assert [isinstance(one, Posted) and identity(one.receipt) for one in posted] == [
        one and identity(one.receipt) for one in held
    ]
    assert len({one.receipt.target_id for one in held if one is not None}) == DOCUMENTS
    assert await count(target) == DOCUMENTS
    totals = await target.totals()
    sums = {total.amount.currency: total.amount.amount for total in totals}
    assert sum(sums.values(), Decimal(0)) == sum((one.amount.amount for one in documents), Decimal(0))
    assert await unanswered(database) == 0


async def unanswered(database: Database) -> int:
    """Postings that our own ledger has no answer to."""
    async with database.connect() as connection:
        statement = select(func.count()).select_from(deliveries).where(deliveries.c.answered_at.is_(None))
        return int(await connection.scalar(statement) or 0)
