"""Failure and dead letter: why a record needs a person, told so that the person can act."""

from datetime import datetime

import msgspec

from contracts.base import Contract
from contracts.money import Money

BUSINESS = "business"
TECHNICAL = "technical"


class Failure(Contract, frozen=True, kw_only=True):
    """What went wrong with one record at one stage. `owner` is a role: finance, pmo, hr, it.

    `legal_entity` is whose books it keeps the record out of, as far as the stage had found out.
    """

    stage: str
    code: str
    category: str
    owner: str
    message: str
    attempts: int
    first_at: datetime
    last_at: datetime
    legal_entity: str | None = None


class DeadLetter(Contract, frozen=True, kw_only=True):
    """A failed record with its story: published to the dead-letter exchange and kept in the archive.

    `body` is the failed stage's input, so a requeue starts exactly there; `amount` is what is at stake.
    """

    id: str
    record_id: str
    source: str
    document_type: str
    subject: str
    revision: str
    correlationid: str
    lane: str
    failure: Failure
    amount: Money
    body: msgspec.Raw
    target: str | None = None
    causationid: str | None = None
    region: str | None = None
    traceparent: str | None = None

    @property
    def routing_key(self) -> str:
        """`<stage>.<category>.<owner>.<code>`: a team binds a queue to its own failures."""
        failure = self.failure
        return f"{failure.stage}.{failure.category}.{failure.owner}.{failure.code}"
