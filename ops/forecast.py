"""Would these dead letters pass now? Runs the pure stages over them on today's reference data and changes nothing."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from contracts.envelope import Batch, Item
from contracts.failure import DeadLetter
from contracts.money import Money
from ops.requeueing import continuation
from pipeline.history import NO_HISTORY, History
from pipeline.judgement import Ended, Failed, Parked, Passed, Retried, Verdict, judge
from pipeline.ports import Translator
from pipeline.reference import Reference
from pipeline.rules import Rules
from pipeline.stage import Context, Stage
from store.dead_letter_filter import DeadLetterFilter

if TYPE_CHECKING:
    from ops.bootstrap import Engine

#: What a dry run says of a letter. `asks_target`: it failed where only the target itself knows the answer.
WOULD_PASS, WOULD_FAIL, WOULD_PARK, WOULD_END, ASKS_TARGET = "pass", "fail", "park", "end", "asks_target"


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of one dead letter on the reference data of this moment."""

    letter_id: str
    record_id: str
    document_type: str
    verdict: str
    stage: str
    amount: Money
    code: str | None = None
    message: str | None = None


class Judges(msgspec.Struct, frozen=True, kw_only=True):
    """What the pure stages are given: the same values that a worker of this moment would have."""

    stages: Sequence[Stage]
    reference: Reference
    rules: Rules
    translators: dict[str, Translator]
    unopened: dict[str, str]
    history: Callable[[Batch], Awaitable[dict[str, History]]]


async def forecast(engine: "Engine", which: DeadLetterFilter) -> list[Forecast]:
    """What would become of the open letters of a filter on the reference data of this moment; changes nothing.

    Letters whose message is no record of ours, or whose body retention removed, are left out: a requeue skips them.
    """
    judges = Judges(
        stages=list(engine.runner.stages.values()),
        reference=engine.reference.snapshot,
        rules=engine.rules,
        translators=engine.translators,
        unopened=engine.connected.unopened,
        history=engine.runner.services.history,
    )
    details = [detail async for detail in engine.dead_letters.export(which)]
    return await dry_run([detail.decoded for detail in details if detail.decoded is not None], judges)


async def dry_run(letters: Iterable[DeadLetter], judges: Judges) -> list[Forecast]:
    """Run the pure stages over each letter from where it failed, and write nothing."""
    return [await _forecast(letter, judges) for letter in letters]


async def _forecast(letter: DeadLetter, judges: Judges) -> Forecast:
    names = [stage.name for stage in judges.stages]
    if letter.failure.stage not in names:
        return _say(letter, WOULD_FAIL, letter.failure.stage, "UNDECODABLE", "it failed at no stage of the pipeline")
    batch = continuation([letter])
    history = (await judges.history(batch)).get(letter.record_id, NO_HISTORY)
    waiting: list[tuple[int, Item]] = [(names.index(letter.failure.stage), batch.items[0])]
    verdict, reached = WOULD_PASS, letter.failure.stage
    while waiting:
        position, item = waiting.pop(0)
        stage = judges.stages[position]
        if stage.waits:
            if stage.name == letter.failure.stage:
                verdict = ASKS_TARGET
            continue
        reached = stage.name
        judged = judge(stage, _context(judges, batch, item, history), attempts_max=1)
        if not isinstance(judged, Passed):
            return _said(letter, stage, judged)
        if position + 1 < len(names):
            waiting += [(position + 1, _next_item(item, result)) for result in judged.results]
    return _say(letter, verdict, reached)


def _context(judges: Judges, batch: Batch, item: Item, history: History) -> Context:
    return Context(
        envelope=batch.envelope,
        item=item,
        reference=judges.reference,
        rules=judges.rules,
        history=history,
        translators=judges.translators,
        unopened=judges.unopened,
    )


def _next_item(item: Item, result: Any) -> Item:
    return msgspec.structs.replace(
        item, body=msgspec.Raw(msgspec.json.encode(result)), target=getattr(result, "target", item.target)
    )


def _said(letter: DeadLetter, stage: Stage, verdict: Verdict) -> Forecast:
    match verdict:
        case Failed(failure=failure):
            return _say(letter, WOULD_FAIL, stage.name, failure.code, failure.message)
        case Parked(key=key):
            return _say(letter, WOULD_PARK, stage.name, None, f"waits for {key}")
        case Ended(outcome=outcome):
            return _say(letter, WOULD_END, stage.name, None, type(outcome).__name__.lower())
        case Retried(reason=reason):
            return _say(letter, WOULD_FAIL, stage.name, None, reason)
        case _:
            return _say(letter, WOULD_PASS, stage.name)


def _say(letter: DeadLetter, verdict: str, stage: str, code: str | None = None, message: str | None = None) -> Forecast:
    return Forecast(
        letter_id=letter.id,
        record_id=letter.record_id,
        document_type=letter.document_type,
        verdict=verdict,
        stage=stage,
        amount=letter.amount,
        code=code,
        message=message,
    )
