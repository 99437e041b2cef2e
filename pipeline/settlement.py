"""Settle a message: from the verdicts on its records to ledger entry, next messages and dead letters. Pure."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from contracts.channels import Enriched, Posted, Reconciled, TargetDocument, Validated
from contracts.envelope import Envelope, Item
from contracts.failure import DeadLetter
from pipeline.entries import Entry, NewDelivery, Parking, StateChange, Step, Valuation
from pipeline.judgement import Ended, Failed, Judged, Parked, Passed, Retried
from pipeline.messages import again, caused_by, derived_id, encode, in_messages
from pipeline.outcome import Duplicate, Superseded
from pipeline.ports import Message
from pipeline.stage import Stage
from pipeline.states import DEAD, DUPLICATE, PARKED, RECONCILED, SUPERSEDED

_encoder = msgspec.json.Encoder()


class _Cause(msgspec.Struct, frozen=True):
    """The message that is being settled, where and when."""

    stage: Stage
    envelope: Envelope
    at: datetime


class Settlement(msgspec.Struct, frozen=True):
    """Everything one message caused. It may be acknowledged once all three are durable."""

    entry: Entry
    messages: list[Message]
    letters: list[DeadLetter]


def settle(
    stage: Stage, next_stage: Stage | None, envelope: Envelope, judged: Sequence[Judged], *, bytes_max: int
) -> Settlement:
    """Add up the verdicts: those that passed travel on together, each of the others takes its own road."""
    entry = Entry()
    passed: list[Item] = []
    retried: dict[bool, list[Item]] = defaultdict(list)
    delay_ms = _delays_ms(judged)
    cause = _Cause(stage, envelope, datetime.now(UTC))
    due_at = {burns: cause.at + timedelta(milliseconds=delay) for burns, delay in delay_ms.items()}
    for one in judged:
        item = one.item
        match one.verdict:
            case Passed(results=results):
                for result in results:
                    target = _pass(entry, cause, item, result)
                    if next_stage is not None:
                        passed.append(_onward(item, result, target))
            case Ended(outcome=outcome):
                _end(entry, cause, item, outcome)
            case Parked(key=key):
                _park(entry, cause, item, key)
            case Retried() as verdict:
                step = _step(cause, item, "retried", detail=verdict.reason)
                entry.steps.append(msgspec.structs.replace(step, due_at=due_at[verdict.burns]))
                retried[verdict.burns].append(item)
            case Failed() as verdict:
                _fail(entry, cause, item, verdict)
    messages = [_again(stage, envelope, group, delay_ms[burns], burns) for burns, group in retried.items()]
    if next_stage is not None:
        # By target, or records with several of them would leave one by one.
        passed.sort(key=lambda item: item.target or "")
        messages += in_messages(envelope, next_stage.name, passed, bytes_max=bytes_max)
    return Settlement(entry, messages, entry.dead)


def _pass(entry: Entry, cause: _Cause, item: Item, result: Any) -> str | None:
    """Note what the result tells the ledger; returns the target it goes to, once that is known."""
    target, detail, outcome = item.target, None, "passed"
    match result:
        case Validated(flags=flags) if flags:
            entry.flags[item.id] = flags
            detail = ", ".join(flags)
        case Enriched(attribution=attribution):
            entry.valuations.append(Valuation(record_id=item.id, amount=attribution.amount))
        case TargetDocument():
            target = result.target
            entry.deliveries.append(
                NewDelivery(record_id=item.id, target=target, posting_key=result.reference, amount=result.amount)
            )
        case Posted(receipt=receipt):
            outcome, detail = receipt.state, receipt.target_id
        case Reconciled():
            outcome, detail = RECONCILED, result.target_id
            entry.states.append(StateChange(record_id=item.id, state=RECONCILED, target=target))
    entry.steps.append(_step(cause, item, outcome, detail=detail, target=target))
    return target


def _onward(item: Item, result: Any, target: str | None) -> Item:
    """The item as the next stage gets it."""
    return msgspec.structs.replace(item, body=msgspec.Raw(_encoder.encode(result)), target=target)


def _end(entry: Entry, cause: _Cause, item: Item, outcome: Duplicate | Superseded) -> None:
    if isinstance(outcome, Duplicate):
        state, detail = DUPLICATE, f"of {outcome.of}: {outcome.reason}"
    else:
        state, detail = SUPERSEDED, f"by {outcome.by}"
    entry.steps.append(_step(cause, item, state, detail=detail))
    entry.states.append(StateChange(record_id=item.id, state=state, target=item.target))


def _park(entry: Entry, cause: _Cause, item: Item, key: str) -> None:
    stage, message = cause.stage.name, encode(caused_by(cause.envelope, cause.stage.name, (item,), part="parked"))
    entry.steps.append(_step(cause, item, PARKED, detail=f"waits for {key}"))
    entry.states.append(StateChange(record_id=item.id, state=PARKED, target=item.target))
    entry.parkings.append(Parking(record_id=item.id, key=key, stage=stage, message=message, target=item.target))


def _fail(entry: Entry, cause: _Cause, item: Item, verdict: Failed) -> None:
    failure, envelope = verdict.failure, cause.envelope
    entry.steps.append(_step(cause, item, DEAD, code=failure.code, detail=failure.message))
    entry.states.append(StateChange(record_id=item.id, state=DEAD, target=item.target))
    entry.valuations.append(Valuation(record_id=item.id, amount=verdict.amount))
    entry.dead.append(
        DeadLetter(
            id=derived_id("dead", item.id, item.target or "", cause.stage.name),
            record_id=item.id,
            source=envelope.source,
            document_type=envelope.type,
            subject=item.subject,
            revision=item.revision,
            correlationid=item.correlationid,
            causationid=envelope.id,
            lane=envelope.lane,
            region=envelope.region,
            traceparent=envelope.traceparent,
            failure=failure,
            amount=verdict.amount,
            body=item.body,
            target=item.target,
        )
    )


def _delays_ms(judged: Sequence[Judged]) -> dict[bool, int]:
    """How long those wait that are retried, by whether the attempt counts: together, as long as the last of them."""
    delays: dict[bool, int] = {}
    for one in judged:
        if isinstance(verdict := one.verdict, Retried):
            delays[verdict.burns] = max(delays.get(verdict.burns, 0), verdict.delay_ms)
    return delays


def _again(stage: Stage, envelope: Envelope, items: list[Item], delay_ms: int, burns: bool) -> Message:
    return Message(stage=stage.name, batch=again(envelope, tuple(items), burn=burns), delay_ms=delay_ms)


def _step(
    cause: _Cause,
    item: Item,
    outcome: str,
    *,
    code: str | None = None,
    detail: str | None = None,
    target: str | None = None,
) -> Step:
    return Step(
        record_id=item.id,
        stage=cause.stage.name,
        outcome=outcome,
        target=target or item.target,
        code=code,
        detail=detail,
        message_id=cause.envelope.id,
        attempt=cause.envelope.attempt,
        at=cause.at,
    )
