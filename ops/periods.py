"""Accounting periods: closed and opened here, where records are judged, and in the embedded ledger."""

import re
from typing import TYPE_CHECKING

from connectors.ledger import EmbeddedLedger
from pipeline.reference import ANY_KEY
from store import audit

if TYPE_CHECKING:
    from ops.bootstrap import Engine


class InvalidPeriod(ValueError):
    """No month, or no legal entity of the rules."""


async def set_period(
    engine: "Engine", legal_entity: str, name: str, *, closed: bool, actor: str, reason: str | None
) -> None:
    """Close or open a month for a legal entity (`*`: all of them), on both sides.

    The side that refuses comes first when closing and last when opening, so that nothing is judged postable that the
    ledger would refuse.

    Raises:
      InvalidPeriod: `name` is no month like `2026-03`, or the rules do not know the legal entity.
    """
    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", name):
        raise InvalidPeriod(f"{name!r} is no period: write a month like 2026-03")
    if legal_entity != ANY_KEY and engine.rules.entity(legal_entity) is None:
        known = ", ".join(engine.rules.legal_entities)
        raise InvalidPeriod(f"{legal_entity!r} is no legal entity of the rules: {known}, or * for all")
    ledgers = [target for target in engine.targets.values() if isinstance(target, EmbeddedLedger)]
    if closed:
        await engine.reference.set_period(legal_entity, name, True, actor)
    for ledger in ledgers:
        await (ledger.close_period if closed else ledger.open_period)(legal_entity, name)
    if not closed:
        await engine.reference.set_period(legal_entity, name, False, actor)
    async with engine.db.begin() as connection:
        action = "period closed" if closed else "period opened"
        await audit.write(connection, actor, action, reason, detail={"legal_entity": legal_entity, "period": name})
