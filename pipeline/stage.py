"""A stage: a typed function over one record. Its annotations name the channels it stands between."""

import inspect
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints, overload

import msgspec

from contracts.envelope import Envelope, Item
from pipeline.codes import NO_ROUTE
from pipeline.errors import PermanentError, PipelineError, TransientError
from pipeline.exchange import exchange_rate
from pipeline.history import NO_HISTORY, History
from pipeline.outcome import ENDS
from pipeline.ports import Postings, Target, Translator
from pipeline.reference import Reference
from pipeline.retry import waited_ms
from pipeline.rules import Rules

#: How soon to look again for a target that can't be opened; later on, as long as it has been so.
unopened_retry_ms = 5_000


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage may reach besides its record.

    `envelope` and `item` say where the record comes from; `reference`, `rules` and `history` are values of this moment;
    `targets`, `translators` and `postings` are ports, of which only post and reconcile use the ones that do I/O;
    `unopened` says of each target that is set up and that this process can't open why that is so.
    """

    envelope: Envelope
    item: Item
    reference: Reference
    rules: Rules
    history: History = NO_HISTORY
    translators: dict[str, Translator] = {}
    targets: dict[str, Target] = {}
    unopened: dict[str, str] = {}
    postings: Postings | None = None
    now: datetime = msgspec.field(default_factory=lambda: datetime.now(UTC))

    @property
    def today(self) -> date:
        return self.now.date()

    def target(self, name: str) -> Target:
        """The target to call.

        Raises:
          TransientError: this process can't open it: nobody's attempt, the delivery waits until that is mended.
          PermanentError: NO_ROUTE, there is no such target.
        """
        target = self.targets.get(name)
        if target is None:
            raise self._absent(name, self.targets)
        return target

    def translator(self, name: str) -> Translator:
        """How a record becomes a target's own document; raises as `target` does."""
        translator = self.translators.get(name)
        if translator is None:
            raise self._absent(name, self.translators)
        return translator

    def _absent(self, name: str, there: Iterable[str]) -> PipelineError:
        if (why := self.unopened.get(name)) is not None:
            return TransientError(
                f"target {name} can't be opened: {why}",
                retry_after_ms=max(unopened_retry_ms, waited_ms(self.envelope.firstfailedat, self.now)),
                burns_attempt=False,
            )
        known = ", ".join(sorted(there)) or "none"
        return PermanentError(
            NO_ROUTE,
            f"target {name!r} is not connected (connected: {known}): correct [[routing]], or tieout target add {name}",
        )

    def mapping(self, kind: str, key: str, on: date) -> str | None:
        """What the cross-reference says on this day, else the rules' fall-back; None when neither knows the key."""
        value = self.reference.mapping(kind, key, on)
        return self.rules.fallback(kind, key) if value is None else value

    def exchange_rate(self, currency: str, into: str, on: date) -> Decimal:
        """How much one unit of `currency` is worth in `into` on this day.

        Raises:
          PermanentError: EXCHANGE_RATE_MISSING, nobody has said.
        """
        return exchange_rate(self.mapping, currency, into, on)


class Stage(msgspec.Struct, frozen=True):
    """A named filter between two channels.

    `waits` stages are coroutines: they may wait for the network and hold no
    worker thread. `reads_history` asks for the record's earlier revisions and neighbours to be looked up beforehand.
    `decoder` reads what the stage consumes.
    """

    name: str
    consumes: Any
    emits: Any
    handle: Callable[..., Any]
    waits: bool
    splits: bool = False
    reads_history: bool = False
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder()

    def __post_init__(self) -> None:
        # Here, where there is one thread: two that make msgspec (0.22) look at a type for the first time, both at once,
        # end the process with a segmentation fault.
        msgspec.structs.force_setattr(self, "decoder", msgspec.json.Decoder(self.consumes))

    def __call__(self, record: Any, context: Context) -> Any | Awaitable[Any]:
        return self.handle(record, context)


@overload
def stage(handle: Callable[..., Any]) -> Stage: ...


@overload
def stage(*, reads_history: bool) -> Callable[[Callable[..., Any]], Stage]: ...


def stage(
    handle: Callable[..., Any] | None = None, *, reads_history: bool = False
) -> Stage | Callable[[Callable[..., Any]], Stage]:
    """Declare a stage; its channels follow from its annotations (`record` and return).

    A return annotation `tuple[X, ...]` means that one record may become several (one per target); `X | Duplicate`
    that the record may also end here.
    """
    if handle is None:
        return lambda function: _declared(function, reads_history=reads_history)
    return _declared(handle, reads_history=reads_history)


def _declared(handle: Callable[..., Any], *, reads_history: bool) -> Stage:
    hints = get_type_hints(handle)
    emits, splits = _channel(hints.pop("return"))
    return Stage(
        name=handle.__name__,
        consumes=next(iter(hints.values())),
        emits=emits,
        handle=handle,
        waits=inspect.iscoroutinefunction(handle),
        splits=splits,
        reads_history=reads_history,
    )


def _channel(annotation: Any) -> tuple[Any, bool]:
    """The contract a return annotation names, ends like `Duplicate` left out, and whether it names several."""
    choices = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    (emits,) = [choice for choice in choices if choice not in ENDS]
    several = get_args(emits)
    if get_origin(emits) is tuple and several[1:] == (Ellipsis,):
        return several[0], True
    return emits, False
