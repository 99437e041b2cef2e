"""A worker process that ends itself, as a crash would, at one chosen moment of its work.

    python -m tests.conformance.transport.dying MOMENT DATABASE_URL AMQP_URL PREFIX

It wraps what the pipeline is given from outside (publisher, ledger, postings, target) and the broker's acknowledgement,
publishes what is owed, works until it comes to the moment, and leaves with the exit status DIED, without a word.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from loguru import logger

from broker.binding import BrokerPublisher
from broker.delivery import Delivery, Outgoing
from broker.publishing import ConfirmedPublisher
from broker.rabbitmq import RabbitBroker
from broker.wire import WireChannel
from connectors.ledger import EmbeddedLedger
from ops.bootstrap import open_engine
from ops.recovery import relay
from pipeline.entries import Entry
from pipeline.errors import TransientError
from pipeline.ports import Message
from pipeline.settings import Settings
from store.dead_letters import DeadLetters
from store.ledger import LedgerWriter
from store.outbox import Outbox
from store.postings import StorePostings

DIED = 86

When = Callable[..., bool]


def die(*_: Any) -> None:
    """As SIGKILL would: no handler runs, no buffer is flushed, the kernel closes the connections."""
    os._exit(DIED)


def always(*_: Any) -> bool:
    return True


def before(owner: type, name: str, when: When = always) -> None:
    """Die instead of making this call, where `when` says so of its arguments."""
    called = getattr(owner, name)

    @wraps(called)
    def wrapper(self: Any, *arguments: Any, **named: Any) -> Any:
        if when(*arguments):
            die()
        return called(self, *arguments, **named)

    setattr(owner, name, wrapper)


def after(owner: type, name: str, when: When = always) -> None:
    """Die when this coroutine has returned."""
    called = getattr(owner, name)

    @wraps(called)
    async def wrapper(self: Any, *arguments: Any, **named: Any) -> Any:
        result = await called(self, *arguments, **named)
        if when(*arguments):
            die()
        return result

    setattr(owner, name, wrapper)


def never_returns(owner: type, name: str, when: When = always) -> None:
    """Where two things are done side by side: this one takes for ever, so that the other is done without it."""
    called = getattr(owner, name)

    @wraps(called)
    async def wrapper(self: Any, *arguments: Any, **named: Any) -> Any:
        if when(*arguments):
            await asyncio.Event().wait()
        return await called(self, *arguments, **named)

    setattr(owner, name, wrapper)


def never_done(owner: type, name: str, when: When = always) -> None:
    """Die while this call is under way, when whatever was written besides has gone to the kernel."""
    called = getattr(owner, name)

    @wraps(called)
    def wrapper(self: Any, *arguments: Any, **named: Any) -> Any:
        if not when(*arguments):
            return called(self, *arguments, **named)
        loop = asyncio.get_running_loop()
        die_when_written(loop)
        return loop.create_future()

    setattr(owner, name, wrapper)


def fails(owner: type, name: str, when: When = always) -> None:
    """A fault of ours, not of the message."""
    called = getattr(owner, name)

    @wraps(called)
    async def wrapper(self: Any, *arguments: Any, **named: Any) -> Any:
        if when(*arguments):
            raise TransientError(f"{name} is out of order")
        return await called(self, *arguments, **named)

    setattr(owner, name, wrapper)


def when_written(owner: type, name: str) -> None:
    """Die when the frame that this call makes has gone to the kernel."""
    called = getattr(owner, name)

    @wraps(called)
    def wrapper(self: Any, *arguments: Any, **named: Any) -> Any:
        called(self, *arguments, **named)
        die_when_written(asyncio.get_running_loop())

    setattr(owner, name, wrapper)


def die_when_written(loop: asyncio.AbstractEventLoop) -> None:
    """Frames are gathered for a turn of the loop, acknowledgements for another one before that."""
    loop.call_soon(loop.call_soon, loop.call_soon, loop.call_soon, loop.call_soon, die)


def to(stage: str) -> When:
    """Messages for this stage."""
    return lambda messages: any(_for(stage, message) for message in messages)


def _for(stage: str, message: Message) -> bool:
    return message.stage == stage


def of(stage: str) -> When:
    """A delivery to this stage, or a ledger entry of it."""

    def fits(subject: Delivery | Entry) -> bool:
        if isinstance(subject, Delivery):
            return subject.queue_name.partition(".")[0] == stage
        return any(step.stage == stage for step in subject.steps)

    return fits


def delayed(messages: Sequence[Outgoing]) -> bool:
    return any(message.delay_ms for message in messages)


def confirmed_before_committed() -> None:
    never_returns(LedgerWriter, "record", of("validate"))
    after(BrokerPublisher, "publish", to("enrich"))


def committed_before_published() -> None:
    never_returns(BrokerPublisher, "publish", to("enrich"))
    after(LedgerWriter, "record", of("validate"))


def not_put_on_a_tier() -> None:
    fails(BrokerPublisher, "publish", to("enrich"))
    never_done(RabbitBroker, "put", delayed)


def put_on_a_tier() -> None:
    fails(BrokerPublisher, "publish", to("enrich"))
    after(RabbitBroker, "put", delayed)


#: What becomes of a record that passes, in the order in which it meets them.
PASSING: dict[str, Callable[[], None]] = {
    "owed, not published": lambda: before(BrokerPublisher, "publish", to("validate")),
    "published, still owed": lambda: before(Outbox, "delete"),
    "judged, not published": lambda: before(BrokerPublisher, "publish", to("enrich")),
    "published, its confirm not seen": lambda: before(ConfirmedPublisher, "_on_confirm"),
    "confirmed, not committed": confirmed_before_committed,
    "committed, not published": committed_before_published,
    "both done, not acknowledged": lambda: before(RabbitBroker, "_acknowledge", of("validate")),
    "acknowledgement written": lambda: when_written(WireChannel, "acknowledge"),
    "failed, not put on a retry tier": not_put_on_a_tier,
    "put on a retry tier, not acknowledged": put_on_a_tier,
    "delivery committed, not published": lambda: before(BrokerPublisher, "publish", to("post")),
    "intent not written": lambda: before(StorePostings, "intend"),
    "intent written, target not called": lambda: before(EmbeddedLedger, "post"),
    "target has answered, nothing written": lambda: after(EmbeddedLedger, "post"),
    "answer written, nothing published": lambda: after(StorePostings, "answer"),
    "posted and published, not acknowledged": lambda: before(RabbitBroker, "_acknowledge", of("post")),
    "read back, not written": lambda: after(EmbeddedLedger, "find"),
    "reconciled, not acknowledged": lambda: before(RabbitBroker, "_acknowledge", of("reconcile")),
}

#: ... of one that a stage refuses.
DYING: dict[str, Callable[[], None]] = {
    "dead, not committed": lambda: before(LedgerWriter, "record", of("validate")),
    "dead letter committed, not published": lambda: before(BrokerPublisher, "publish_dead"),
    "dead letter published, not acknowledged": lambda: after(BrokerPublisher, "publish_dead"),
    "dead letter acknowledged": lambda: when_written(WireChannel, "acknowledge"),
}

#: ... of one that the broker has given up, and of bytes that are no message.
ARCHIVING: dict[str, Callable[[], None]] = {
    "not archived": lambda: before(LedgerWriter, "record"),
    "archived, not acknowledged": lambda: after(LedgerWriter, "record"),
}
ARCHIVING_BYTES: dict[str, Callable[[], None]] = {
    "bytes not archived": lambda: before(DeadLetters, "archive_raw"),
    "bytes archived, not acknowledged": lambda: after(DeadLetters, "archive_raw"),
}


async def work(settings: Settings) -> None:
    async with open_engine(settings, work=True) as engine:
        await relay(engine, 0)
        await asyncio.Event().wait()


if __name__ == "__main__":
    moment, database_url, amqp_url, prefix = sys.argv[1:]
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    (PASSING | DYING | ARCHIVING | ARCHIVING_BYTES)[moment]()
    asyncio.run(work(Settings(database_url=database_url, amqp_url=amqp_url, prefix=prefix)))
