"""Dead letters: what reaches the dead-letter queue is shown to the archive, and acknowledged when that has it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import msgspec
from loguru import logger

from broker.backoff import pauses_s
from broker.delivery import DeadDelivery, whole_number
from broker.encoding import UNREADABLE, batch_in
from broker.rabbitmq import DEAD_LETTER_TYPE
from broker.transport import Transport
from contracts.envelope import Batch
from contracts.failure import DeadLetter
from pipeline.codes import POISON_MESSAGE, UNDECODABLE, Code

#: How many letters are shown to the archive at once.
PREFETCH = 32
BACKOFF_MS_FIRST = 500
BACKOFF_MS_MAX = 30_000


class RawDeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message of the dead-letter queue.

    `letter` is set when we published it ourselves: the ledger has it already. Else the server dead-lettered the message
    (`reason`: rejected, delivery_limit, expired, maxlen) that `body` holds as it was, and `batch` if it is one of ours.
    """

    body: bytes
    headers: dict[str, Any]
    routing_key: str
    stage: str
    reason: str
    message_id: str | None = None
    document_type: str | None = None
    queue: str | None = None
    first_at: datetime | None = None
    deaths: int = 1
    letter: DeadLetter | None = None
    batch: Batch | None = None

    @property
    def code(self) -> Code:
        """The catalogue's code for a message that the server dead-lettered."""
        return UNDECODABLE if self.batch is None else POISON_MESSAGE


def read_dead_letter(dead: DeadDelivery) -> RawDeadLetter:
    """Make out what a message of the dead-letter queue is. Never fails: whatever it is, a person must see it."""
    letter = None
    if dead.type == DEAD_LETTER_TYPE:
        try:
            letter = msgspec.json.decode(dead.body, type=DeadLetter)
        except UNREADABLE as error:
            bound = logger.bind(event="foreign_dead_letter", message_id=dead.message_id)
            bound.warning("calls itself a dead letter and is none: {}", error)
    deaths = dead.headers.get("x-death")
    death = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}
    first_at = death.get("time")
    return RawDeadLetter(
        body=dead.body,
        headers=_plain(dead.headers),
        routing_key=dead.routing_key,
        stage=dead.routing_key.partition(".")[0],
        reason="published" if letter else str(death.get("reason", "unknown")),
        message_id=dead.message_id,
        document_type=dead.type,
        queue=death.get("queue"),
        first_at=first_at if isinstance(first_at, datetime) else None,
        deaths=whole_number(death.get("count")) or 1,
        letter=letter,
        batch=None if letter else batch_in(dead.body),
    )


def _plain(value: Any) -> Any:
    """A header as values that every encoder knows: pika has an integer of its own, which they don't."""
    match value:
        case dict():
            return {name: _plain(one) for name, one in value.items()}
        case list():
            return [_plain(one) for one in value]
        case int() if not isinstance(value, bool):
            return int(value)
        case _:
            return value


class DeadLetterArchiver:
    """Consumes the dead-letter queue. `archive` returns when the letter is committed; when it raises, the message stays
    unacknowledged and is shown to it again, later and later.
    """

    def __init__(self, broker: Transport, archive: Callable[[RawDeadLetter], Awaitable[None]]) -> None:
        self._broker = broker
        self._archive = archive
        self._end: Callable[[], Awaitable[None]] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._end = await self._broker.receive_dead(self._receive, PREFETCH)

    async def stop(self) -> None:
        """What is not archived goes back to the queue."""
        if self._end is not None:
            await self._end()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _receive(self, dead: DeadDelivery) -> None:
        task = asyncio.get_running_loop().create_task(self._keep(dead))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self, dead: DeadDelivery) -> None:
        letter = read_dead_letter(dead)
        for pause_s in pauses_s(BACKOFF_MS_FIRST, BACKOFF_MS_MAX):
            try:
                await self._archive(letter)
            except Exception as error:
                bound = logger.bind(event="archive_failed", message_id=letter.message_id, stage=letter.stage)
                bound.opt(exception=error).error("a dead letter is not archived yet: {}", error)
            else:
                dead.acknowledge()
                return
            await asyncio.sleep(pause_s)
            if dead.lost():
                return
