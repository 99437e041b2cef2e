"""Rate card: what an hour is billed at and what it costs, for whom, from when to when."""

from datetime import date
from decimal import Decimal
from typing import Annotated

from contracts.base import CONFIDENTIAL, Contract, CurrencyCode, Id


class RateCard(Contract, frozen=True, kw_only=True, tag_field="type", tag="rate_card.v1"):
    """One effective-dated rate. The most specific card wins: worker before project before role.

    `rate` and `cost_rate` are per `unit` (UN/ECE Rec 20: HUR is an hour); `valid_from` and `valid_to` are inclusive.
    """

    id: Id
    rate: Decimal
    currency: CurrencyCode
    worker: Id | None = None
    role: str | None = None
    project: Id | None = None
    cost_rate: Annotated[Decimal | None, CONFIDENTIAL] = None
    unit: str = "HUR"
    valid_from: date | None = None
    valid_to: date | None = None
