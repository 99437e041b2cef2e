"""Settle a message: from the verdicts on its records to ledger entry, next messages and dead letters. Pure."""

from collections import defaultdict
from collections.abc import Sequence
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
    retried: dict[bool, list[tuple[Item, Retried]]] = defaultdict(list)
    for one in judged:
        item = one.item
        match one.verdict:
            case Passed(results=results):
                passed += [_pass(entry, stage, envelope, item, result) for result in results]
            case Ended(outcome=outcome):
                _end(entry, stage, envelope, item, outcome)
            case Parked(key=key):
                _park(entry, stage, envelope, item, key)
            case Retried() as verdict:
                entry.steps.append(_step(stage, envelope, item, "retried", detail=verdict.reason))
                retried[verdict.burns].append((item, verdict))
            case Failed() as verdict:
                _fail(entry, stage, envelope, item, verdict)
    messages = [_again(stage, envelope, group, burns) for burns, group in retried.items()]
    if next_stage is not None:
        # By target, or records with several of them would leave one by one.
        passed.sort(key=lambda item: item.target or "")
        messages += in_messages(envelope, next_stage.name, passed, bytes_max=bytes_max)
    return Settlement(entry, messages, entry.dead)


def _pass(entry: Entry, stage: Stage, envelope: Envelope, item: Item, result: Any) -> Item:
    """Note what the result tells the ledger, and address the item to the next stage."""
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
    entry.steps.append(_step(stage, envelope, item, outcome, detail=detail, target=target))
    return msgspec.structs.replace(item, body=msgspec.Raw(_encoder.encode(result)), target=target)


def _end(entry: Entry, stage: Stage, envelope: Envelope, item: Item, outcome: Duplicate | Superseded) -> None:
    if isinstance(outcome, Duplicate):
        state, detail = DUPLICATE, f"of {outcome.of}: {outcome.reason}"
    else:
        state, detail = SUPERSEDED, f"by {outcome.by}"
    entry.steps.append(_step(stage, envelope, item, state, detail=detail))
    entry.states.append(StateChange(record_id=item.id, state=state, target=item.target))


def _park(entry: Entry, stage: Stage, envelope: Envelope, item: Item, key: str) -> None:
    message = encode(caused_by(envelope, stage.name, (item,), part="parked"))
    entry.steps.append(_step(stage, envelope, item, PARKED, detail=f"waits for {key}"))
    entry.states.append(StateChange(record_id=item.id, state=PARKED, target=item.target))
    entry.parkings.append(Parking(record_id=item.id, key=key, stage=stage.name, message=message, target=item.target))


def _fail(entry: Entry, stage: Stage, envelope: Envelope, item: Item, verdict: Failed) -> None:
    failure = verdict.failure
    entry.steps.append(_step(stage, envelope, item, DEAD, code=failure.code, detail=failure.message))
    entry.states.append(StateChange(record_id=item.id, state=DEAD, target=item.target))
    entry.valuations.append(Valuation(record_id=item.id, amount=verdict.amount))
    entry.dead.append(
        DeadLetter(
            id=derived_id("dead", item.id, item.target or "", stage.name),
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


def _again(stage: Stage, envelope: Envelope, group: list[tuple[Item, Retried]], burns: bool) -> Message:
    items = tuple(item for item, _ in group)
    delay_ms = max(verdict.delay_ms for _, verdict in group)
    return Message(stage=stage.name, batch=again(envelope, items, burn=burns), delay_ms=delay_ms)


def _step(
    stage: Stage,
    envelope: Envelope,
    item: Item,
    outcome: str,
    *,
    code: str | None = None,
    detail: str | None = None,
    target: str | None = None,
) -> Step:
    return Step(
        record_id=item.id,
        stage=stage.name,
        outcome=outcome,
        target=target or item.target,
        code=code,
        detail=detail,
        message_id=envelope.id,
        attempt=envelope.attempt,
    )
