"""Post: the effect in the target, exactly once, whatever happens on the way."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from actors.post import leased_retry_ms, post, reference_waits_ms
from contracts.channels import Posted, Receipt, TargetDocument
from pipeline.codes import TARGET_REFERENCE_MISSING, TARGET_REFUSED
from pipeline.errors import OutcomeUnknown, PermanentError, PipelineError, TransientError
from pipeline.outcome import Duplicate, Superseded
from pipeline.ports import Found, Intent
from pipeline.stage import Context
from tests.unit.actors.builders import NOW, MemoryPostings, MemoryTarget, a_context, a_target_document, eur

DOCUMENT = a_target_document()
LOST = (True, OutcomeUnknown("no answer, but created"))
DEAF = (False, OutcomeUnknown("no answer, and not created"))
BUSY = (False, TransientError("429"))


class SlowTarget(MemoryTarget):
    """Answers no call; each may take a moment."""

    given_up = False

    def __init__(self) -> None:
        super().__init__()
        self.capabilities = replace(self.capabilities, call_timeout_ms=20)

    async def post(self, document: TargetDocument) -> Receipt:
        try:
            await asyncio.Event().wait()
        finally:
            self.given_up = True
        raise AssertionError("nobody sets it")


class MuteTarget(MemoryTarget):
    """Takes documents and lets nobody read them."""

    async def find(self, reference: str) -> Found | None:
        raise PermanentError(TARGET_REFUSED, "no right to read")


def context_of(target: MemoryTarget, postings: MemoryPostings) -> Context:
    return a_context(targets={"memory": target}, postings=postings)


async def test_a_new_document_is_created_and_its_receipt_written_down():
    target, postings = MemoryTarget(), MemoryPostings()
    posted = await post(DOCUMENT, context_of(target, postings))
    receipt = target.held[DOCUMENT.reference].receipt
    assert posted == Posted(document=DOCUMENT, receipt=receipt)
    assert postings.receipts == {DOCUMENT.reference: receipt}


async def test_a_message_that_comes_twice_posts_once_and_passes_on_the_same_receipt():
    target, postings = MemoryTarget(), MemoryPostings()
    first = await post(DOCUMENT, context_of(target, postings))
    assert await post(DOCUMENT, context_of(target, postings)) == first
    assert len(target.calls) == 1


async def test_the_intent_is_durable_before_the_call():
    target, postings = MemoryTarget(failures=[BUSY]), MemoryPostings()
    with pytest.raises(TransientError):
        await post(DOCUMENT, context_of(target, postings))
    assert postings.announced == {DOCUMENT.reference}


async def test_an_unknown_outcome_is_written_down_and_the_target_asked_before_anything_is_sent_again():
    target, postings = MemoryTarget(failures=[LOST]), MemoryPostings()
    with pytest.raises(OutcomeUnknown):
        await post(DOCUMENT, context_of(target, postings))
    assert postings.doubts == {DOCUMENT.reference: "no answer, but created"}
    posted = await post(DOCUMENT, context_of(target, postings))
    assert posted.receipt == target.held[DOCUMENT.reference].receipt == postings.receipts[DOCUMENT.reference]
    assert len(target.calls) == 1


async def test_what_the_target_does_not_hold_is_sent_again():
    target, postings = MemoryTarget(failures=[DEAF]), MemoryPostings()
    with pytest.raises(OutcomeUnknown):
        await post(DOCUMENT, context_of(target, postings))
    await post(DOCUMENT, context_of(target, postings))
    assert len(target.calls) == 2
    assert list(target.held) == [DOCUMENT.reference]


async def test_an_answer_that_could_not_be_written_down_is_found_in_the_target_next_time():
    target, postings = MemoryTarget(), MemoryPostings(unreachable=True)
    with pytest.raises(TransientError):
        await post(DOCUMENT, context_of(target, postings))
    postings.unreachable = False
    postings.lapse()
    await post(DOCUMENT, context_of(target, postings))
    assert len(target.calls) == 1
    assert DOCUMENT.reference in postings.receipts


async def test_a_target_with_unique_references_needs_no_lease():
    target, postings = MemoryTarget(unique_reference=True), MemoryPostings()
    await post(DOCUMENT, context_of(target, postings))
    assert postings.leased == {}
    with_lease = MemoryPostings()
    await post(DOCUMENT, context_of(MemoryTarget(), with_lease))
    assert set(with_lease.leased) == {DOCUMENT.reference}


async def test_a_correction_tells_the_target_what_it_replaces():
    target, postings = MemoryTarget(), MemoryPostings(older="memory/old")
    await target.post(a_target_document("memory/old"))
    posted = await post(DOCUMENT, context_of(target, postings))
    assert target.calls[-1].replaces == posted.document.replaces == "memory/old"
    assert target.held["memory/old"].reversed


@pytest.mark.parametrize(
    ("intent", "end"),
    [
        (Intent(status="superseded", by="3"), Superseded(by="revision 3")),
        (Intent(status="superseded"), Superseded(by="a newer revision")),
        (Intent(status="duplicate", by="r-1"), Duplicate(of="r-1", reason="already posted under this reference")),
    ],
)
async def test_what_another_revision_has_settled_is_not_sent(intent, end):
    target = MemoryTarget()
    assert await post(DOCUMENT, context_of(target, MemoryPostings(ended=intent))) == end
    assert target.calls == []


async def test_a_refusal_for_good_leaves_no_receipt():
    refused = (False, PermanentError(TARGET_REFUSED, "account 0400 is blocked"))
    target, postings = MemoryTarget(failures=[refused]), MemoryPostings()
    with pytest.raises(PermanentError, match="account 0400 is blocked"):
        await post(DOCUMENT, context_of(target, postings))
    assert postings.receipts == {}
    assert postings.doubts == {}


async def test_a_target_that_is_not_connected_is_named():
    document = replace(DOCUMENT, target="netsuite")
    with pytest.raises(PermanentError) as caught:
        await post(document, context_of(MemoryTarget(), MemoryPostings()))
    assert caught.value.code.name == "NO_ROUTE"
    assert "'netsuite'" in str(caught.value)


async def test_a_target_that_can_not_be_opened_is_waited_for_before_anything_is_announced():
    document, postings = replace(DOCUMENT, target="erp"), MemoryPostings()
    since = NOW - timedelta(minutes=3)
    for first_failed_at, wait_ms in ((None, 5_000), (since, 180_000), (NOW - timedelta(days=9), 600_000)):
        context = a_context(postings=postings, unopened={"erp": "ERP_PASSWORD is not set"})
        context = replace(context, envelope=replace(context.envelope, firstfailedat=first_failed_at))
        with pytest.raises(TransientError, match="erp can't be opened: ERP_PASSWORD is not set") as caught:
            await post(document, context)
        assert (caught.value.burns_attempt, caught.value.retry_after_ms) == (False, wait_ms)
    assert postings.announced == set()


async def test_behind_a_dead_letter_that_may_be_in_the_target_nothing_is_sent():
    target = MemoryTarget()
    with pytest.raises(PermanentError, match="requeue it") as caught:
        await post(DOCUMENT, context_of(target, MemoryPostings(ended=Intent(status="blocked", by="1"))))
    assert caught.value.code.name == "OUTCOME_UNKNOWN"
    assert target.calls == []


async def test_an_intent_that_makes_no_sense_stops_before_the_call():
    target = MemoryTarget()
    with pytest.raises(ValueError, match="perhaps"):
        await post(DOCUMENT, context_of(target, MemoryPostings(ended=Intent(status="perhaps"))))
    assert target.calls == []


async def test_a_call_that_outlasts_its_lease_is_given_up_and_asked_about():
    target, postings = SlowTarget(), MemoryPostings()
    with pytest.raises(OutcomeUnknown, match="not answered in time"):
        await post(DOCUMENT, context_of(target, postings))
    assert "not answered in time" in postings.doubts[DOCUMENT.reference]
    assert target.given_up


async def test_a_target_that_refuses_to_be_asked_has_not_refused_the_document():
    target, postings = MuteTarget(failures=[LOST]), MemoryPostings()
    with pytest.raises(OutcomeUnknown):
        await post(DOCUMENT, context_of(target, postings))
    with pytest.raises(OutcomeUnknown, match="no right to read"):
        await post(DOCUMENT, context_of(target, postings))
    assert len(target.calls) == 1


async def test_what_was_found_is_counted_with_the_amount_it_was_announced_with():
    target = MemoryTarget()
    await target.post(replace(DOCUMENT, amount=eur("90.00")))
    doubted = Intent(status="in_doubt", amount=eur("90.00"))
    posted = await post(DOCUMENT, context_of(target, MemoryPostings(ended=doubted)))
    assert posted.document.amount == eur("90.00")


async def test_what_has_waited_long_is_looked_at_less_often():
    postings = MemoryPostings()
    await postings.intend("r-mine", DOCUMENT, lease_ms=1)
    context = context_of(MemoryTarget(unique_reference=True), postings)
    waiting = replace(context, envelope=replace(context.envelope, firstfailedat=context.now - timedelta(minutes=5)))
    with pytest.raises(TransientError) as caught:
        await post(DOCUMENT, waiting)
    assert caught.value.retry_after_ms == 300_000


@given(st.lists(st.sampled_from([LOST, DEAF, BUSY]), max_size=6))
async def test_whatever_the_calls_come_to_the_document_is_created_once(failures: Sequence[tuple[bool, Exception]]):
    target, postings = MemoryTarget(failures=failures), MemoryPostings()
    posted = None
    for _ in range(len(failures) + 1):
        try:
            posted = await post(DOCUMENT, context_of(target, postings))
        except PipelineError:
            postings.lapse()
    assert posted is not None
    created = [document for document, (done, _) in zip(target.calls, [*failures, (True, None)], strict=False) if done]
    assert len(created) == 1
    assert posted.receipt == target.held[DOCUMENT.reference].receipt


async def test_while_somebody_else_may_be_calling_it_is_looked_at_soon_and_then_less_often():
    target, postings = MemoryTarget(), MemoryPostings(leased={DOCUMENT.reference: NOW})
    context = context_of(target, postings)
    with pytest.raises(TransientError) as first:
        await post(DOCUMENT, context)
    assert target.calls == []
    since = NOW - timedelta(seconds=40)
    with pytest.raises(TransientError) as later:
        await post(DOCUMENT, replace(context, envelope=replace(context.envelope, firstfailedat=since)))
    assert (first.value.retry_after_ms, later.value.retry_after_ms) == (leased_retry_ms, 40_000)
    assert not first.value.burns_attempt
    assert not later.value.burns_attempt


async def test_a_call_that_was_refused_for_now_holds_nobody_up():
    target, postings = MemoryTarget(failures=[BUSY]), MemoryPostings()
    with pytest.raises(TransientError):
        await post(DOCUMENT, context_of(target, postings))
    assert postings.leased == {}
    await post(DOCUMENT, context_of(target, postings))
    assert DOCUMENT.reference in target.held


async def test_what_the_target_does_not_know_yet_is_given_some_time_to_come():
    missing = (False, PermanentError(TARGET_REFERENCE_MISSING, "no project 'P-1'"))
    attempts = len(reference_waits_ms) + 1
    target, postings = MemoryTarget(failures=[missing] * attempts), MemoryPostings()
    context = context_of(target, postings)
    for attempt, wait_ms in enumerate(reference_waits_ms, 1):
        with pytest.raises(TransientError, match="no project 'P-1'") as waits:
            await post(DOCUMENT, replace(context, envelope=replace(context.envelope, attempt=attempt)))
        assert waits.value.retry_after_ms == wait_ms
    with pytest.raises(PermanentError) as refused:
        await post(DOCUMENT, replace(context, envelope=replace(context.envelope, attempt=attempts)))
    assert refused.value.code == TARGET_REFERENCE_MISSING


class SilentTarget(MemoryTarget):
    """Answers no question; whoever asks may be let go on with an error."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.over = asyncio.Event(), asyncio.Event()

    async def find(self, reference: str) -> Found | None:
        self.asked.set()
        await self.over.wait()
        raise TransientError("no answer")


async def test_whoever_was_too_slow_does_not_end_the_lease_of_somebody_else():
    """Else a third one would come to call while the second is at it."""
    target, postings = SilentTarget(), MemoryPostings(announced={DOCUMENT.reference})
    first = asyncio.ensure_future(post(DOCUMENT, context_of(target, postings)))
    await target.asked.wait()
    postings.lapse()
    second = await postings.intend("r-1", DOCUMENT, lease_ms=30_000)
    target.over.set()
    with pytest.raises(TransientError):
        await first
    assert postings.leased == {DOCUMENT.reference: second.leased_until}


async def test_a_question_takes_no_longer_than_the_lease():
    target, postings = SilentTarget(), MemoryPostings(announced={DOCUMENT.reference})
    target.capabilities = replace(target.capabilities, call_timeout_ms=20)
    with pytest.raises(TransientError, match="in time"):
        await post(DOCUMENT, context_of(target, postings))
    assert postings.doubts == {}
    assert target.calls == []
