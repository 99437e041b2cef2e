"""What parked records wait for."""

from datetime import datetime

import msgspec
from sqlalchemy import func, select

from contracts.money import Money
from store.database import Database
from store.tables import parked, records

keys_max = 1000


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """So many records of one type wait for what `key` names; the amount is what is known of their worth."""

    key: str
    document_type: str
    count: int
    amount: Money
    oldest: datetime


async def waiting(db: Database) -> list[Waiting]:
    """What is waited for, the most wanted first, at most `keys_max` lines."""
    key = (parked.c.key, records.c.document_type, records.c.currency)
    count = func.count()
    statement = (
        select(*key, count, func.sum(records.c.amount_minor), func.min(parked.c.parked_at))
        .join(records, records.c.id == parked.c.record_id)
        .group_by(*key)
        .order_by(count.desc(), parked.c.key)
        .limit(keys_max)
    )
    async with db.connect() as connection:
        return [
            Waiting(
                key=wanted,
                document_type=document_type,
                count=number,
                amount=Money.of_minor(int(minor), currency),
                oldest=oldest,
            )
            for wanted, document_type, currency, number, minor, oldest in await connection.execute(statement)
        ]
