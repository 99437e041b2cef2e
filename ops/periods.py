"""Accounting periods: closed and opened here, where records are judged, and in the embedded ledger."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from connectors.ledger import EmbeddedLedger
from pipeline.codes import PERIOD_CLOSED
from pipeline.reference import ANY_KEY
from store import audit
from store.dead_letter_filter import DeadLetterFilter

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

    Opening for all opens what was closed for one of them as well.

    Raises:
      InvalidPeriod: `name` is no month like `2026-03`, the rules do not know the legal entity, or the month is to be
        opened for one entity while it is closed for all.
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
            await ledger.close_period(legal_entity, name)
    else:
        for entity in await _to_open(engine, ledgers, legal_entity, name):
            for ledger in ledgers:
                await ledger.open_period(entity, name)
            await engine.reference.set_period(entity, name, False, actor)
    async with engine.db.begin() as connection:
        action = "period closed" if closed else "period opened"
        await audit.write(connection, actor, action, reason, detail={"legal_entity": legal_entity, "period": name})


async def waiting_for_period(engine: "Engine", legal_entity: str, name: str) -> dict[str, int]:
    """The causes of the open dead letters that this closed period holds back, and how many there are of each."""
    letters = await engine.dead_letters.list(DeadLetterFilter(codes=(PERIOD_CLOSED.name,)))
    wanted = [
        letter.cause
        for letter in letters
        if name in letter.message and (legal_entity == ANY_KEY or legal_entity in letter.message)
    ]
    return dict(Counter(wanted))


async def _to_open(engine: "Engine", ledgers: Sequence[EmbeddedLedger], legal_entity: str, name: str) -> list[str]:
    """For all: whatever is closed by itself as well, or it would stay closed."""
    decided = [*await engine.reference.list_periods()]
    closed = {one.legal_entity for one in decided if one.name == name and one.closed}
    if legal_entity != ANY_KEY:
        if ANY_KEY in closed:
            raise InvalidPeriod(
                f"{name} is closed for all legal entities: open it for all (*), then close it for the others"
            )
        return [legal_entity]
    for ledger in ledgers:
        closed |= {one.legal_entity for one in await ledger.list_periods() if one.name == name and one.closed}
    return [*sorted(closed - {ANY_KEY}), ANY_KEY]
