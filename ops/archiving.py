"""Archive what the broker itself dead-lettered: bytes that are no message, and messages that kill their worker."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from contracts.envelope import Item
from contracts.failure import Failure
from pipeline.codes import Code
from pipeline.errors import PermanentError
from pipeline.judgement import Failed, Judged, decode_record
from pipeline.messages import derived_id
from pipeline.settlement import settle
from pipeline.stage import Stage
from pipeline.worth import worth

if TYPE_CHECKING:
    from broker.dead_letters import RawDeadLetter
    from ops.bootstrap import Engine


async def archive(engine: "Engine", letter: "RawDeadLetter") -> None:
    """Keep one message of the dead-letter queue; returns when it is committed. The same message is kept once."""
    if letter.letter is not None:
        return  # published by a runner, whose ledger entry holds it already
    if letter.batch is not None and letter.stage in engine.runner.stages:
        await _archive_batch(engine, letter)
        return
    await engine.dead_letters.archive_raw(
        letter.message_id or derived_id("raw", letter.routing_key, letter.body.hex()),
        letter.body,
        letter.headers,
        stage=letter.stage,
        message=f"{letter.reason} in {letter.queue or letter.routing_key}: {len(letter.body)} bytes that are no batch",
        cause=f"{letter.code.name} in {letter.queue or letter.routing_key}",
        code=letter.code,
    )


async def _archive_batch(engine: "Engine", letter: "RawDeadLetter") -> None:
    """A poison message of ours: every record in it becomes a dead letter of its own."""
    assert letter.batch is not None
    code = letter.code
    stage = engine.runner.stages[letter.stage]
    now = datetime.now(UTC)
    failure = _failure(letter, code, now)
    reference = engine.reference.snapshot
    judged = [Judged(item, Failed(failure, worth(_decoded(stage, item), reference))) for item in letter.batch.items]
    settlement = settle(stage, None, letter.batch.envelope, judged, bytes_max=engine.settings.message_bytes_max)
    await engine.ledger.record(settlement.entry)


def _decoded(stage: Stage, item: Item) -> Any:
    """The record, as far as it can be read."""
    try:
        return decode_record(stage, item)
    except PermanentError:
        return None


def _failure(letter: "RawDeadLetter", code: Code, now: datetime) -> Failure:
    return Failure(
        stage=letter.stage,
        code=code.name,
        category=code.category,
        owner=code.owner,
        message=f"{letter.reason} after {letter.deaths} deaths in {letter.queue or letter.routing_key}",
        attempts=letter.deaths,
        first_at=letter.first_at or now,
        last_at=now,
    )
