"""In which states given records stand."""

from collections import Counter
from collections.abc import Collection

from sqlalchemy import func, select

from store.database import Database
from store.tables import records

ids_per_query_max = 500


async def states_of(db: Database, record_ids: Collection[str]) -> dict[str, int]:
    """How many of these records stand in each state; a record nobody knows is left out."""
    counts: Counter[str] = Counter()
    wanted = sorted(record_ids)
    async with db.connect() as connection:
        for start in range(0, len(wanted), ids_per_query_max):
            some = wanted[start : start + ids_per_query_max]
            rows = await connection.execute(
                select(records.c.state, func.count()).where(records.c.id.in_(some)).group_by(records.c.state)
            )
            counts.update({state: count for state, count in rows})
    return dict(sorted(counts.items()))
