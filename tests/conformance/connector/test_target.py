"""What every connector promises, whatever system is behind it."""

import asyncio
from collections import defaultdict
from decimal import Decimal

import msgspec
import pytest

from contracts.channels import Receipt
from pipeline.codes import TARGET_REFUSED
from pipeline.errors import PermanentError
from pipeline.ports import Target

from .subjects import Subject


def identity(receipt: Receipt) -> tuple[str, str]:
    """What an answer says, whenever it was given."""
    return receipt.target_id, receipt.state


async def count(target: Target) -> int:
    return sum(total.count for total in await target.totals())


async def test_posting_the_same_document_twice_creates_one(subject: Subject, target: Target) -> None:
    first = await target.post(subject.document(1))
    second = await target.post(subject.document(1))
    assert identity(second) == identity(first)
    assert await count(target) == 1


async def test_twenty_postings_of_one_document_at_once_create_one(subject: Subject, target: Target) -> None:
    other = subject.open()
    receipts = await asyncio.gather(
        *([target.post(subject.document(1)) for _ in range(10)]),
        *([other.post(subject.document(1)) for _ in range(10)]),
    )
    await other.close()
    assert len({receipt.target_id for receipt in receipts}) == 1
    assert await count(target) == 1


async def test_two_processes_that_post_the_same_documents_create_each_once(subject: Subject, target: Target) -> None:
    other = subject.open()
    documents = [subject.document(number) for number in range(100)]
    ours, theirs = await asyncio.gather(
        asyncio.gather(*(target.post(document) for document in documents)),
        asyncio.gather(*(other.post(document) for document in reversed(documents))),
    )
    await other.close()
    assert [identity(receipt) for receipt in ours] == [identity(receipt) for receipt in reversed(theirs)]
    assert await count(target) == 100


async def test_a_new_instance_finds_what_another_posted_and_posts_it_no_second_time(
    subject: Subject, target: Target
) -> None:
    document = subject.document(1)
    receipt = await target.post(document)
    other = subject.open()
    found = await other.find(document.reference)
    assert found is not None
    assert identity(found.receipt) == identity(receipt)
    assert identity(await other.post(document)) == identity(receipt)
    await other.close()
    assert await count(target) == 1


async def test_a_reference_nobody_posted_is_not_found(subject: Subject, target: Target) -> None:
    await target.post(subject.document(1))
    assert await target.find(subject.document(2).reference) is None


async def test_every_field_is_read_back_as_it_was_sent(subject: Subject, target: Target) -> None:
    document = subject.document(1)
    await target.post(document)
    found = await target.find(document.reference)
    assert found is not None
    sent = msgspec.json.decode(document.body)
    assert {name: found.fields.get(name) for name in sent} == sent
    assert (found.reference, found.amount, found.reversed) == (document.reference, document.amount, False)


async def test_totals_are_the_sums_of_what_was_posted(subject: Subject, target: Target) -> None:
    documents = [subject.document(number) for number in range(50)]
    await asyncio.gather(*(target.post(document) for document in documents))
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for document in documents:
        sums[document.amount.currency] += document.amount.amount
    totals = await target.totals()
    assert {total.amount.currency: total.amount.amount for total in totals} == sums
    assert sum(total.count for total in totals) == 50


async def test_one_refused_document_fails_none_of_its_neighbours(subject: Subject, target: Target) -> None:
    documents = [subject.document(number) for number in range(41)]
    documents[20] = subject.refused_document(20)
    outcomes = await asyncio.gather(*(target.post(document) for document in documents), return_exceptions=True)
    refused = outcomes.pop(20)
    assert isinstance(refused, PermanentError)
    assert refused.code == TARGET_REFUSED
    assert [outcome for outcome in outcomes if isinstance(outcome, BaseException)] == []
    assert await target.find(documents[20].reference) is None
    assert await count(target) == 40


async def test_a_correction_takes_the_place_of_what_was_posted(subject: Subject, target: Target) -> None:
    old, new = subject.document(1), subject.document(1, 2, replaces=1)
    await target.post(old)
    receipt = await target.post(new)
    (total,) = await target.totals()
    assert (total.count, total.amount) == (1, new.amount)
    found = await target.find(new.reference)
    assert found is not None
    assert (identity(found.receipt), found.reversed) == (identity(receipt), False)
    before = await target.find(old.reference)
    assert before is None or before.reversed


async def test_a_correction_sent_twenty_times_at_once_is_made_once(subject: Subject, target: Target) -> None:
    other = subject.open()
    await target.post(subject.document(1))
    correction = subject.document(1, 2, replaces=1)
    receipts = await asyncio.gather(*(one.post(correction) for one in [target, other] * 10))
    await other.close()
    assert len({receipt.target_id for receipt in receipts}) == 1
    (total,) = await target.totals()
    assert (total.count, total.amount) == (1, correction.amount)


async def test_the_same_reference_with_other_content_is_refused(immutable_subject: Subject) -> None:
    target, document = immutable_subject.open(), immutable_subject.document(1)
    await target.post(document)
    other = msgspec.structs.replace(immutable_subject.document(2), reference=document.reference)
    with pytest.raises(PermanentError) as refusal:
        await target.post(other)
    assert refusal.value.code == TARGET_REFUSED
    found = await target.find(document.reference)
    assert found is not None
    assert found.amount == document.amount
    await target.close()


async def test_thousands_of_documents_asked_for_at_once_are_all_read_back(subject: Subject, target: Target) -> None:
    documents = [subject.document(number) for number in range(subject.many)]
    await asyncio.gather(*(target.post(document) for document in documents))
    found = await asyncio.gather(*(target.find(document.reference) for document in documents))
    assert [one and (one.reference, one.amount) for one in found] == [(one.reference, one.amount) for one in documents]
    assert await count(target) == subject.many
