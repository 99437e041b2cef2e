"""Judge one record at one stage: call the stage and turn what it returns or raises into a verdict."""

import asyncio
import traceback
from datetime import UTC, datetime
from typing import Any

import msgspec

from contracts.decoding import InvalidDocument, decoded
from contracts.envelope import Item
from contracts.failure import Failure
from contracts.money import Money
from pipeline.codes import INVALID_DOCUMENT, OUTCOME_UNKNOWN, RETRIES_EXHAUSTED, UNEXPECTED_ERROR, Code
from pipeline.errors import DependencyMissing, OutcomeUnknown, PermanentError, TransientError
from pipeline.outcome import Duplicate, Superseded
from pipeline.retry import backoff_ms, outage_free_ms, unexpected_attempts_max, waited_ms
from pipeline.stage import Context, Stage
from pipeline.worth import worth


class Passed(msgspec.Struct, frozen=True):
    """The record goes on as these results: one, or one per target."""

    results: tuple[Any, ...]


class Ended(msgspec.Struct, frozen=True):
    """The record's way ends here without an error."""

    outcome: Duplicate | Superseded


class Parked(msgspec.Struct, frozen=True):
    """The record waits for another one."""

    key: str


class Retried(msgspec.Struct, frozen=True):
    """A technical fault: the record comes back after `delay_ms`; `burns` says whether the attempt counts."""

    delay_ms: int
    burns: bool
    reason: str


class Failed(msgspec.Struct, frozen=True):
    """The record needs a person."""

    failure: Failure
    amount: Money


Verdict = Passed | Ended | Parked | Retried | Failed


class Judged(msgspec.Struct, frozen=True):
    """An item and the verdict on it."""

    item: Item
    verdict: Verdict


def decode_record(stage: Stage, item: Item) -> Any:
    """The stage's input.

    Raises:
      PermanentError: the body does not fit the contract; the text names path and expectation.
    """
    try:
        return decoded(stage.decoder, item.body)
    except InvalidDocument as error:
        raise PermanentError(INVALID_DOCUMENT, str(error)) from None


def judge(stage: Stage, context: Context, attempts_max: int) -> Verdict:
    """Run a stage that does not wait."""
    record = None
    try:
        record = decode_record(stage, context.item)
        return _passed(stage, stage(record, context))
    except Exception as error:
        return verdict_on(error, stage, context, record, attempts_max)


async def judge_waiting(stage: Stage, context: Context, attempts_max: int, time_limit_s: float) -> Verdict:
    """Run a stage that may wait for the network, but not for ever: a record that hangs is a fault of its own."""
    record = None
    try:
        record = decode_record(stage, context.item)
        async with asyncio.timeout(time_limit_s) as limit:
            return _passed(stage, await stage(record, context))
    except Exception as error:
        if isinstance(error, TimeoutError) and limit.expired():
            error = TransientError(f"{stage.name} did not finish within {time_limit_s:g} s")
        return verdict_on(error, stage, context, record, attempts_max)


def _passed(stage: Stage, result: Any) -> Passed | Ended:
    if isinstance(result, Duplicate | Superseded):
        return Ended(result)
    return Passed(tuple(result) if stage.splits else (result,))


def verdict_on(error: Exception, stage: Stage, context: Context, record: Any, attempts_max: int) -> Verdict:
    """Choose the road by the kind of error: park, retry, or a dead letter."""
    attempt = context.envelope.attempt
    match error:
        case DependencyMissing():
            return Parked(error.key)
        case PermanentError():
            return _failed(error.code, error.owner, str(error), stage, context, record, error.legal_entity)
        case TransientError(burns_attempt=False):
            return Retried(error.retry_after_ms or backoff_ms(attempt), burns=False, reason=str(error))
        case TransientError(outage=True) if (
            waited := waited_ms(context.envelope.firstfailedat, context.now)
        ) < outage_free_ms:
            return Retried(error.retry_after_ms or max(backoff_ms(attempt), waited), burns=False, reason=str(error))
        case TransientError() if attempt < attempts_max:
            return Retried(error.retry_after_ms or backoff_ms(attempt), burns=True, reason=str(error))
        case OutcomeUnknown():
            return _failed(OUTCOME_UNKNOWN, OUTCOME_UNKNOWN.owner, str(error), stage, context, record)
        case TransientError(__cause__=PermanentError() as cause):
            # It was given time, and what it waited for has not come.
            return _failed(cause.code, cause.owner, str(cause), stage, context, record, cause.legal_entity)
        case TransientError():
            return _failed(RETRIES_EXHAUSTED, RETRIES_EXHAUSTED.owner, str(error), stage, context, record)
        case _ if attempt < min(unexpected_attempts_max, attempts_max):
            return Retried(backoff_ms(attempt), burns=True, reason=_where(error))
        case _:
            return _failed(UNEXPECTED_ERROR, UNEXPECTED_ERROR.owner, _where(error), stage, context, record)


def _where(error: Exception) -> str:
    """The error and the line of ours that raised it: what a developer asks first."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def _failed(
    code: Code,
    owner: str,
    message: str,
    stage: Stage,
    context: Context,
    record: Any,
    legal_entity: str | None = None,
) -> Failed:
    now = datetime.now(UTC)
    failure = Failure(
        stage=stage.name,
        code=code.name,
        category=code.category,
        owner=owner,
        message=message,
        attempts=context.envelope.attempt,
        first_at=context.envelope.firstfailedat or now,
        last_at=now,
        legal_entity=legal_entity,
    )
    return Failed(failure, worth(record, context.reference))
