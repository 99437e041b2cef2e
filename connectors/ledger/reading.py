"""What the ledger holds: read back by reference, totalled for the tie-out, balanced for the accountant."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import RowMapping, Select, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from connectors.ledger.database import Database
from connectors.ledger.journal import entry_of
from connectors.ledger.tables import entries, lines
from contracts.channels import Receipt
from contracts.money import Money
from pipeline.ports import Found, Total

POSTED = "posted"


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """What was debited and credited to one account, of one legal entity, in one period."""

    account: str
    legal_entity: str
    period: str
    debit: Money
    credit: Money

    @property
    def balance(self) -> Money:
        """Debits less credits."""
        return Money(amount=self.debit.amount - self.credit.amount, currency=self.debit.currency)


class TrialBalance(msgspec.Struct, frozen=True, kw_only=True):
    """All debits and credits of one legal entity and currency: equal, or the books are wrong."""

    legal_entity: str
    debit: Money
    credit: Money


class Held(msgspec.Struct, frozen=True):
    """An entry with its lines, as rows."""

    entry: RowMapping
    lines: list[RowMapping]

    @property
    def receipt(self) -> Receipt:
        return receipt(self.entry["number"], self.entry["posted_at"])

    @property
    def found(self) -> Found:
        row = self.entry
        return Found(
            reference=row["reference"],
            receipt=self.receipt,
            amount=Money.of_minor(row["amount_minor"], row["currency"]),
            fields=msgspec.json.decode(msgspec.json.encode(entry_of(row, self.lines))),
            reversed=row["reversed_by"] is not None,
        )


def receipt(number: int, posted_at: Any) -> Receipt:
    return Receipt(target_id=f"JE-{number:08d}", state=POSTED, at=posted_at)


async def held(database: Database, connection: AsyncConnection, references: Sequence[str]) -> dict[str, Held]:
    """The entries under these references, with their lines; a reference the ledger does not hold is left out."""
    if not references:
        return {}
    wanted = database.among(connection, entries.c.reference, references)
    headers = (await connection.execute(select(entries).where(wanted))).mappings().all()
    of_entry: dict[int, list[RowMapping]] = defaultdict(list)
    numbers = [row["number"] for row in headers]
    query = (
        select(lines).where(database.among(connection, lines.c.entry, numbers)).order_by(lines.c.entry, lines.c.line)
    )
    for line in (await connection.execute(query)).mappings():
        of_entry[line["entry"]].append(line)
    return {row["reference"]: Held(row, of_entry[row["number"]]) for row in headers}


async def totals(connection: AsyncConnection) -> list[Total]:
    """Count and amount by document type and currency; reversed entries and their reversals are left out."""
    query = (
        select(
            entries.c.document_type,
            entries.c.currency,
            func.sum(entries.c.amount_minor).label("minor"),
            func.count().label("documents"),
        )
        .where(entries.c.reversed_by.is_(None), entries.c.reverses.is_(None))
        .group_by(entries.c.document_type, entries.c.currency)
        .order_by(entries.c.document_type, entries.c.currency)
    )
    return [
        Total(document_type=row.document_type, amount=Money.of_minor(int(row.minor), row.currency), count=row.documents)
        for row in await connection.execute(query)
    ]


async def balances(
    connection: AsyncConnection, account: str | None, legal_entity: str | None, period: str | None
) -> list[Balance]:
    """Debits and credits per account, legal entity and period; None takes all of them."""
    keys = (lines.c.account, entries.c.legal_entity, entries.c.period, entries.c.entity_currency)
    query = _summed(*keys)
    for column, wanted in zip(keys, (account, legal_entity, period), strict=False):
        if wanted is not None:
            query = query.where(column == wanted)
    return [
        Balance(
            account=row.account,
            legal_entity=row.legal_entity,
            period=row.period,
            debit=Money.of_minor(int(row.debit), row.entity_currency),
            credit=Money.of_minor(int(row.credit), row.entity_currency),
        )
        for row in await connection.execute(query)
    ]


async def trial_balance(connection: AsyncConnection) -> list[TrialBalance]:
    """All debits and credits per legal entity and currency."""
    return [
        TrialBalance(
            legal_entity=row.legal_entity,
            debit=Money.of_minor(int(row.debit), row.entity_currency),
            credit=Money.of_minor(int(row.credit), row.entity_currency),
        )
        for row in await connection.execute(_summed(entries.c.legal_entity, entries.c.entity_currency))
    ]


def _summed(*keys: Any) -> Select[Any]:
    debit, credit = func.sum(lines.c.debit_minor).label("debit"), func.sum(lines.c.credit_minor).label("credit")
    return select(*keys, debit, credit).join_from(lines, entries).group_by(*keys).order_by(*keys)


async def irregular(connection: AsyncConnection) -> list[str]:
    """What no posting of ours can have left behind: one sentence per entry; empty when the books are in order."""
    reversal = entries.alias("reversal")
    debit = func.coalesce(func.sum(lines.c.debit_minor), 0)
    credit = func.coalesce(func.sum(lines.c.credit_minor), 0)
    carries = func.sum(
        case((lines.c.debit_minor + lines.c.credit_minor == func.abs(entries.c.entity_amount_minor), 1), else_=0)
    )
    unbalanced = (
        select(entries.c.number, entries.c.reference, debit.label("debit"), credit.label("credit"))
        .outerjoin_from(entries, lines, lines.c.entry == entries.c.number)
        .group_by(entries.c.number, entries.c.reference, entries.c.entity_amount_minor)
        .having(
            or_(
                debit != credit,
                (entries.c.entity_amount_minor != 0)
                & (func.coalesce(carries, 0) == 0)
                & (debit != func.abs(entries.c.entity_amount_minor)),
            )
        )
        .order_by(entries.c.number)
    )
    broken = (
        select(entries.c.number, entries.c.reference)
        .outerjoin_from(entries, reversal, reversal.c.number == entries.c.reversed_by)
        .where(
            entries.c.reversed_by.is_not(None),
            or_(
                reversal.c.reverses.is_(None),
                reversal.c.reverses != entries.c.number,
                reversal.c.amount_minor != -entries.c.amount_minor,
            ),
        )
        .order_by(entries.c.number)
    )
    found = [
        f"entry {row.number} ({row.reference}): debits {row.debit}, credits {row.credit} do not fit its amount"
        for row in await connection.execute(unbalanced)
    ]
    return found + [
        f"entry {row.number} ({row.reference}) is marked as reversed by an entry that does not reverse it"
        for row in await connection.execute(broken)
    ]
