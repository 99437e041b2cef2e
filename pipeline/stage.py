"""A stage: a typed function over one record. Its annotations name the channels it stands between."""

import inspect
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from typing import Any, get_type_hints

import msgspec

from contracts.envelope import Envelope, Item
from pipeline.history import NO_HISTORY, History
from pipeline.ports import Postings, Target, Translator
from pipeline.reference import Reference
from pipeline.rules import Rules


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage may reach besides its record.

    `envelope` and `item` say where the record comes from; `reference`, `rules` and `history` are values of this moment;
    `targets`, `translators` and `postings` are ports, of which only post and reconcile use the ones that do I/O.
    """

    envelope: Envelope
    item: Item
    reference: Reference
    rules: Rules
    history: History = NO_HISTORY
    translators: dict[str, Translator] = {}
    targets: dict[str, Target] = {}
    postings: Postings | None = None
    now: datetime = msgspec.field(default_factory=lambda: datetime.now(UTC))

    @property
    def today(self) -> date:
        return self.now.date()


class Stage(msgspec.Struct, frozen=True):
    """A named filter between two channels.

    `emits` is None for the last stage. `waits` stages are coroutines: they may wait for the network and hold no
    worker thread. `reads_history` asks for the record's earlier revisions and neighbours to be looked up beforehand.
    """

    name: str
    consumes: Any
    emits: Any
    handle: Callable[..., Any]
    waits: bool
    splits: bool = False
    reads_history: bool = False

    def __call__(self, record: Any, context: Context) -> Any | Awaitable[Any]:
        return self.handle(record, context)


def stage(handle: Callable[..., Any] | None = None, *, reads_history: bool = False) -> Any:
    """Declare a stage; its channels follow from its annotations (`record` and return).

    A return annotation `tuple[X, ...]` means that one record may become several (one per target).
    """
    if handle is None:
        return lambda function: stage(function, reads_history=reads_history)
    hints = get_type_hints(handle)
    emits = hints.pop("return")
    arguments = getattr(emits, "__args__", ())
    splits = len(arguments) == 2 and arguments[1] is Ellipsis
    return Stage(
        name=handle.__name__,
        consumes=next(iter(hints.values())),
        emits=arguments[0] if splits else emits,
        handle=handle,
        waits=inspect.iscoroutinefunction(handle),
        splits=splits,
        reads_history=reads_history,
    )
