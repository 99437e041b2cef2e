from datetime import timedelta

import msgspec
import pytest
from msgspec.structs import replace

from contracts.channels import Document, Validated
from pipeline import codes
from pipeline.errors import DependencyMissing, MappingMissing, OutcomeUnknown, PermanentError, TransientError
from pipeline.judgement import Ended, Failed, Parked, Passed, Retried, judge, judge_waiting
from pipeline.outcome import Duplicate
from pipeline.retry import outage_free_ms
from pipeline.stage import Context, Stage, stage
from tests.unit.pipeline.batches import a_context, an_expense, an_item, passes


def raising(error: Exception) -> Stage:
    def fails(record: Document, context: Context) -> Validated:
        raise error

    return stage(fails)


def verdict_of(error: Exception, attempt: int = 1, *, failing_for_ms: int = 0):
    context = a_context(an_item(an_expense()), attempt=attempt)
    since = context.now - timedelta(milliseconds=failing_for_ms) if failing_for_ms else None
    context = replace(context, envelope=replace(context.envelope, firstfailedat=since))
    return judge(raising(error), context, attempts_max=8)


def test_what_a_stage_returns_goes_on():
    verdict = judge(stage(passes), a_context(an_item(an_expense())), attempts_max=8)
    assert verdict == Passed((Validated(document=an_expense()),))


def test_a_duplicate_ends_without_an_error():
    def sees_it_again(record: Document, context: Context) -> Validated | Duplicate:
        return Duplicate(of="r-0", reason="same content")

    verdict = judge(stage(sees_it_again), a_context(an_item(an_expense())), attempts_max=8)
    assert verdict == Ended(Duplicate(of="r-0", reason="same content"))


def test_a_missing_dependency_parks():
    assert verdict_of(DependencyMissing("project.v1:P-1")) == Parked("project.v1:P-1")


def test_a_business_error_is_dead_at_the_first_attempt_and_keeps_its_owner():
    verdict = verdict_of(MappingMissing("worker:psa", "U-7", owner="hr"))
    assert isinstance(verdict, Failed)
    assert (verdict.failure.code, verdict.failure.owner, verdict.failure.category) == (
        "MAPPING_MISSING",
        "hr",
        "business",
    )
    assert "tieout map set worker:psa 'U-7' VALUE" in verdict.failure.message
    assert str(verdict.amount) == "12.30 EUR"


def test_a_technical_fault_is_retried_until_the_attempts_are_used_up():
    assert isinstance(verdict_of(TransientError("lock"), attempt=7), Retried)
    last = verdict_of(TransientError("lock"), attempt=8)
    assert isinstance(last, Failed)
    assert last.failure.code == codes.RETRIES_EXHAUSTED.name
    assert last.failure.attempts == 8


def test_waiting_for_an_open_circuit_burns_no_attempt():
    verdict = verdict_of(TransientError("circuit open", burns_attempt=False, retry_after_ms=5000), attempt=8)
    assert verdict == Retried(5000, burns=False, reason="circuit open")


def test_an_unknown_outcome_that_stays_unknown_says_so():
    verdict = verdict_of(OutcomeUnknown("no answer"), attempt=8, failing_for_ms=outage_free_ms)
    assert isinstance(verdict, Failed)
    assert verdict.failure.code == codes.OUTCOME_UNKNOWN.name


def test_a_call_that_is_not_answered_is_an_outage_at_first_and_burns_no_attempt():
    verdict = verdict_of(OutcomeUnknown("no answer"), attempt=8)
    assert isinstance(verdict, Retried)
    assert not verdict.burns
    later = verdict_of(OutcomeUnknown("no answer"), failing_for_ms=outage_free_ms - 1)
    assert later == Retried(outage_free_ms - 1, burns=False, reason="no answer")
    too_late = verdict_of(OutcomeUnknown("no answer"), failing_for_ms=outage_free_ms)
    assert isinstance(too_late, Retried)
    assert too_late.burns


def test_what_was_given_time_and_has_not_come_is_refused_by_its_own_code():
    def waits(record: Document, context: Context) -> Validated:
        try:
            raise PermanentError(codes.TARGET_REFERENCE_MISSING, "no project 'P-1'")
        except PermanentError as error:
            raise TransientError(str(error)) from error

    context = a_context(an_item(an_expense()), attempt=3)
    assert isinstance(judge(stage(waits), context, attempts_max=8), Retried)
    last = judge(stage(waits), context, attempts_max=3)
    assert isinstance(last, Failed)
    assert (last.failure.code, last.failure.owner) == ("TARGET_REFERENCE_MISSING", "pmo")


def test_an_unplanned_error_is_dead_after_three_attempts_and_names_its_place():
    assert isinstance(verdict_of(KeyError("x"), attempt=2), Retried)
    verdict = verdict_of(KeyError("x"), attempt=3)
    assert isinstance(verdict, Failed)
    assert verdict.failure.code == codes.UNEXPECTED_ERROR.name
    assert "KeyError: 'x' at test_judgement.py:" in verdict.failure.message


def test_a_body_that_does_not_fit_names_the_path():
    item = msgspec.structs.replace(an_item(an_expense()), body=msgspec.Raw(b'{"type":"expense.v1","id":7}'))
    verdict = judge(stage(passes), a_context(item), attempts_max=8)
    assert isinstance(verdict, Failed)
    assert verdict.failure.code == codes.INVALID_DOCUMENT.name
    assert "$.id" in verdict.failure.message


async def test_a_stage_that_waits_is_judged_the_same_way():
    async def refuses(record: Document, context: Context) -> Validated:
        raise PermanentError(codes.TARGET_REFUSED, "unknown account 9")

    verdict = await judge_waiting(stage(refuses), a_context(an_item(an_expense())), attempts_max=8, time_limit_s=60)
    assert isinstance(verdict, Failed)
    assert verdict.failure.message == "unknown account 9"


def test_every_code_says_who_owns_it_and_what_to_do():
    for code in codes.CATALOGUE.values():
        assert code.owner in codes.ROLES
        assert code.category in ("business", "technical")
        assert code.guidance.endswith(".")


@pytest.mark.parametrize("name", ["MAPPING_MISSING", "DRIFT", "PERIOD_CLOSED"])
def test_the_catalogue_knows_the_code(name):
    assert codes.CATALOGUE[name].name == name
