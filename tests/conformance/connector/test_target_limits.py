"""What every connector promises at the edges: closed periods, and ids that look like something else."""

import asyncio

from pipeline.codes import PERIOD_CLOSED
from pipeline.errors import PermanentError
from pipeline.ports import Target

from .subjects import Subject
from .test_target import count, identity

#: Ids that a search could take for a pattern, an end, a piece of another one, or simply for another one; first what is
#: longer, last what is a pattern of those before it.
NAMES = (
    *("A-11", "A-1/1/2", "A-1/1", "A-1]", "A-1 100.00 EUR", "A-1 [tieout A-1]", "A-1", "a-1", "A/1", "A%2D1", "[A-1"),
    *("A  1", "A 1", "A\\1", "A'1", 'A"1', "É-1", "E\u0301-1", "漢字-1", "🧾", "-", "A_1", "A%1", "A%", "%", "_"),
)


async def test_a_document_of_a_closed_period_is_kept_out_by_those_who_keep_periods_and_only_that_one(
    subject: Subject, target: Target
) -> None:
    documents = [await subject.in_closed_period(1), subject.document(2), subject.document(3)]
    first, *others = await asyncio.gather(*(target.post(one) for one in documents), return_exceptions=True)
    assert [other for other in others if isinstance(other, BaseException)] == []
    found = await target.find(documents[0].reference)
    if subject.keeps_periods:
        assert isinstance(first, PermanentError)
        assert (first.code, found) == (PERIOD_CLOSED, None)
    else:
        assert not isinstance(first, BaseException)
        assert found is not None
        assert identity(found.receipt) == identity(first)
    assert await count(target) == (2 if subject.keeps_periods else 3)


async def test_ids_of_any_signs_are_told_apart(subject: Subject, target: Target) -> None:
    documents = [subject.named(name) for name in NAMES]
    assert len({document.reference for document in documents}) == len(NAMES)
    receipts = []
    for document in documents:
        assert await target.find(document.reference) is None, document.reference
        receipts.append(await target.post(document))
    for document, receipt in zip(documents, receipts, strict=True):
        found = await target.find(document.reference)
        assert found is not None, document.reference
        assert (found.reference, identity(found.receipt)) == (document.reference, identity(receipt))
    again = await asyncio.gather(*(target.post(document) for document in documents))
    assert [identity(one) for one in again] == [identity(one) for one in receipts]
    assert await count(target) == len(NAMES)
