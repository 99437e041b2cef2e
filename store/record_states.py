"""In which states given records stand, in count and in money."""

from collections import Counter
from collections.abc import Collection, Sequence

import msgspec
from sqlalchemy import ColumnElement, func, select

from contracts.money import Money
from store.database import Database
from store.tables import records

ids_per_query_max = 500


class Standings(msgspec.Struct, frozen=True, kw_only=True):
    """So many records stand in a state, worth so much in one currency."""

    state: str
    count: int
    amount: Money


class Flagged(msgspec.Struct, frozen=True, kw_only=True):
    """So many records of one type carry these remarks; nothing is held up by them."""

    flags: str
    document_type: str
    count: int
    amount: Money


async def states_of(db: Database, record_ids: Collection[str]) -> dict[str, int]:
    """How many of these records stand in each state; a record nobody knows is left out."""
    counts: Counter[str] = Counter()
    wanted = sorted(record_ids)
    for start in range(0, len(wanted), ids_per_query_max):
        for one in await _standings(db, records.c.id.in_(wanted[start : start + ids_per_query_max])):
            counts[one.state] += one.count
    return dict(sorted(counts.items()))


async def states_of_runs(db: Database, run_ids: Sequence[str]) -> list[Standings]:
    """Where the records stand that these runs of ingest accepted."""
    return await _standings(db, records.c.run_id.in_(run_ids))


async def standings(db: Database, states: Collection[str]) -> list[Standings]:
    """What stands in these states, in count and in money."""
    return await _standings(db, records.c.state.in_(states))


async def flagged(db: Database) -> list[Flagged]:
    """Which remarks the stages have made, and about how many records."""
    key = (records.c.flags, records.c.document_type, records.c.currency)
    statement = (
        select(*key, func.count(), func.sum(records.c.amount_minor))
        .where(records.c.flags.is_not(None), records.c.flags != "")
        .group_by(*key)
        .order_by(*key)
    )
    async with db.connect() as connection:
        return [
            Flagged(flags=flags, document_type=document_type, count=count, amount=Money.of_minor(int(minor), currency))
            for flags, document_type, currency, count, minor in await connection.execute(statement)
        ]


async def count_in(db: Database, states: Collection[str]) -> int:
    """How many records stand in one of these states."""
    async with db.connect() as connection:
        statement = select(func.count()).select_from(records).where(records.c.state.in_(states))
        return await connection.scalar(statement) or 0


async def _standings(db: Database, which: ColumnElement[bool]) -> list[Standings]:
    key = (records.c.state, records.c.currency)
    statement = select(*key, func.count(), func.sum(records.c.amount_minor)).where(which).group_by(*key).order_by(*key)
    async with db.connect() as connection:
        return [
            Standings(state=state, count=count, amount=Money.of_minor(int(minor), currency))
            for state, currency, count, minor in await connection.execute(statement)
        ]
