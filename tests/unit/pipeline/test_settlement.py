from datetime import UTC, datetime, timedelta

import msgspec

from contracts.channels import Validated
from contracts.money import Money
from pipeline.entries import Valuation
from pipeline.errors import DependencyMissing, MappingMissing, TransientError
from pipeline.judgement import Ended, Judged, Parked, Passed, Retried, judge
from pipeline.messages import decode
from pipeline.outcome import Duplicate, Superseded
from pipeline.settlement import Settlement, settle
from pipeline.stage import stage
from tests.unit.pipeline.batches import a_context, an_envelope, an_expense, an_item, passes
from tests.unit.pipeline.test_judgement import raising

FIRST, SECOND = stage(passes), msgspec.structs.replace(stage(passes), name="second")


def settled(*judged: Judged, bytes_max: int = 1_000_000) -> Settlement:
    return settle(FIRST, SECOND, an_envelope(), judged, bytes_max=bytes_max)


def passed(subject: str) -> Judged:
    return Judged(an_item(an_expense(subject)), Passed((Validated(document=an_expense(subject)),)))


def test_what_passed_travels_on_together():
    settlement = settled(passed("E-1"), passed("E-2"))
    [message] = settlement.messages
    assert message.stage == "second"
    assert [item.subject for item in message.batch.items] == ["E-1", "E-2"]
    assert message.batch.envelope.causationid == "m-1"
    assert [step.outcome for step in settlement.entry.steps] == ["passed", "passed"]


def test_one_bad_row_never_holds_up_its_neighbours():
    item = an_item(an_expense("E-2"))
    bad = Judged(item, judge(raising(MappingMissing("expense_account", "Gift", "finance")), a_context(item), 8))
    settlement = settled(passed("E-1"), bad, passed("E-3"))
    assert [item.subject for item in settlement.messages[0].batch.items] == ["E-1", "E-3"]
    [letter] = settlement.letters
    assert letter.routing_key == "fails.business.finance.MAPPING_MISSING"
    assert bytes(letter.body) == bytes(item.body)
    assert settlement.entry.valuations == [
        Valuation(record_id="r-E-2", amount=Money(amount=an_expense().amount, currency="EUR"))
    ]


def test_the_same_message_run_twice_causes_the_same_messages():
    one, two = settled(passed("E-1")), settled(passed("E-1"))
    assert one.messages[0].batch.envelope.id == two.messages[0].batch.envelope.id


def test_a_parked_record_keeps_the_message_that_continues_it():
    item = an_item(an_expense())
    settlement = settled(Judged(item, judge(raising(DependencyMissing("project.v1:P-1")), a_context(item), 8)))
    [parking] = settlement.entry.parkings
    assert parking.key == "project.v1:P-1"
    assert decode(parking.message).items == (item,)
    assert settlement.messages == []


def test_a_retry_comes_back_to_the_same_stage_with_the_next_attempt():
    item = an_item(an_expense())
    [message] = settled(Judged(item, judge(raising(TransientError("503")), a_context(item), 8))).messages
    assert message.stage == "passes"
    assert message.batch.envelope.attempt == 2
    assert message.batch.envelope.firstfailedat is not None
    assert message.delay_ms is not None
    assert 500 <= message.delay_ms <= 1000


def test_waiting_moves_no_attempt_counter():
    [message] = settled(Judged(an_item(an_expense()), Retried(5000, burns=False, reason="open circuit"))).messages
    assert message.batch.envelope.attempt == 1


def test_ends_change_the_state_and_go_nowhere():
    settlement = settled(
        Judged(an_item(an_expense("E-1")), Ended(Duplicate(of="r-0", reason="same content"))),
        Judged(an_item(an_expense("E-2")), Ended(Superseded(by="3"))),
    )
    assert settlement.messages == []
    assert [change.state for change in settlement.entry.states] == ["duplicate", "superseded"]


def test_messages_stay_below_the_bound_on_bytes():
    settlement = settled(*(passed(f"E-{n}") for n in range(10)), bytes_max=1500)
    assert len(settlement.messages) > 1
    assert sum(len(message.batch.items) for message in settlement.messages) == 10
    assert len({message.batch.envelope.id for message in settlement.messages}) == len(settlement.messages)


def test_a_dead_letter_of_the_same_record_and_stage_keeps_its_id():
    item = an_item(an_expense())
    bad = Judged(item, judge(raising(MappingMissing("k", "v", "finance")), a_context(item), 8))
    assert settled(bad).letters[0].id == settled(bad).letters[0].id


def test_parking_is_a_state_of_the_record():
    settlement = settled(Judged(an_item(an_expense()), Parked("project.v1:P-1")))
    assert [change.state for change in settlement.entry.states] == ["parked"]


def test_what_is_retried_together_is_due_when_the_last_of_it_is():
    verdicts = [Retried(5_000, burns=True, reason="busy"), Retried(3_600_000, burns=True, reason="closed")]
    before = datetime.now(UTC)
    settlement = settled(*(Judged(an_item(an_expense(f"E-{n}")), one) for n, one in enumerate(verdicts)), passed("E-9"))
    first, second, other = settlement.entry.steps
    assert first.due_at == second.due_at is not None
    assert first.due_at - before >= timedelta(hours=1)
    assert other.due_at is None
