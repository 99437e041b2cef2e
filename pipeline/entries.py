"""What the pipeline tells the ledger about one message: steps, changes of state, parkings, dead letters."""

from datetime import UTC, datetime

import msgspec

from contracts.failure import DeadLetter
from contracts.money import Money


def _now() -> datetime:
    return datetime.now(UTC)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a record's life. `outcome`: `passed`, `retried`, `released`, `requeued`, or the state it came to.

    `due_at`: when a record that is retried comes back.
    """

    record_id: str
    stage: str
    outcome: str
    target: str | None = None
    code: str | None = None
    detail: str | None = None
    message_id: str | None = None
    attempt: int = 1
    at: datetime = msgspec.field(default_factory=_now)
    due_at: datetime | None = None


class StateChange(msgspec.Struct, frozen=True, kw_only=True):
    """A record (with `target`: one delivery of it) comes to be in `state`, if it may come there from where it is."""

    record_id: str
    state: str
    target: str | None = None


class NewDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """A record has been routed: one delivery per target, in flight."""

    record_id: str
    target: str
    posting_key: str
    amount: Money


class Parking(msgspec.Struct, frozen=True, kw_only=True):
    """A record waits under `key` at `stage`; `message` is the encoded batch of one that continues it."""

    record_id: str
    key: str
    stage: str
    message: bytes
    target: str | None = None


class Valuation(msgspec.Struct, frozen=True, kw_only=True):
    """What a record is worth, known from `enrich` on."""

    record_id: str
    amount: Money


class Entry(msgspec.Struct, kw_only=True):
    """Everything one message caused; written in one transaction, or not at all."""

    steps: list[Step] = []
    states: list[StateChange] = []
    deliveries: list[NewDelivery] = []
    parkings: list[Parking] = []
    dead: list[DeadLetter] = []
    valuations: list[Valuation] = []
    flags: dict[str, tuple[str, ...]] = {}

    @property
    def goes_first(self) -> bool:
        """Whether it must be committed before anything is published: what is told must be found."""
        return bool(self.deliveries or self.dead or self.parkings)
