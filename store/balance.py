"""The balance: every record counted once, in count and in money, and checked against what else the ledger knows."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.money import NO_CURRENCY, Money
from pipeline.ports import Total
from pipeline.states import DUPLICATE, IN_DOUBT, IN_FLIGHT, IN_TARGET, STATES, SUBMITTED, SUPERSEDED
from store.balance_checks import findings_by_type
from store.database import Database
from store.tables import deliveries, records, rejects, steps

#: The lines of the sheet, in order.
LINES = ("read", "rejected", "accepted", *STATES)


class BalanceSheet(msgspec.Struct, frozen=True, kw_only=True):
    """The balance of one document type and currency. `counts` and `amounts` have the keys of LINES.

    `stranded` is of the whole document type. `findings` says, one plain sentence each, which checks fail.
    """

    document_type: str
    currency: str
    counts: dict[str, int]
    amounts: dict[str, Money]
    stranded: int = 0
    findings: tuple[str, ...] = ()

    @property
    def balanced(self) -> bool:
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        """The sheet as JSON values; amounts are decimal strings."""
        return {
            "document_type": self.document_type,
            "currency": self.currency,
            **self.counts,
            "amounts": {line: f"{money.amount:f}" for line, money in self.amounts.items()},
            "balanced": self.balanced,
            "stranded": self.stranded,
            "findings": list(self.findings),
        }


class StageRate(msgspec.Struct, frozen=True, kw_only=True):
    """How many records a stage has brought to an outcome lately."""

    stage: str
    outcome: str
    count: int
    per_second: float


class _Sums(msgspec.Struct):
    """Counts and minor units of one document type and currency, by line (or by a state nobody knows)."""

    counts: dict[str, int] = msgspec.field(default_factory=lambda: defaultdict(int))
    minor: dict[str, int] = msgspec.field(default_factory=lambda: defaultdict(int))

    def add(self, line: str, count: int, minor: int) -> None:
        self.counts[line] += count
        self.minor[line] += minor


async def balance(db: Database, stranded: Mapping[str, int] | None = None) -> list[BalanceSheet]:
    """One sheet per document type and currency, all from the same moment.

    Args:
      stranded: by document type, how many records are in flight here and nowhere else (`store.recovery`).
    """
    async with db.connect() as connection:
        sums = await _sums(connection)
        findings = await findings_by_type(connection)
    for document_type in findings.keys() - {document_type for document_type, _ in sums}:
        sums[document_type, NO_CURRENCY] = _Sums()
    return [
        _sheet(document_type, currency, of, (stranded or {}).get(document_type, 0), findings.get(document_type, []))
        for (document_type, currency), of in sorted(sums.items())
    ]


async def _sums(connection: AsyncConnection) -> dict[tuple[str, str], _Sums]:
    sums: dict[tuple[str, str], _Sums] = defaultdict(_Sums)
    refused = await connection.execute(
        select(rejects.c.document_type, rejects.c.currency, func.count(), func.sum(rejects.c.amount_minor)).group_by(
            rejects.c.document_type, rejects.c.currency
        )
    )
    for document_type, currency, count, minor in refused:
        sums[document_type, currency].add("rejected", count, int(minor))
        sums[document_type, currency].add("read", count, int(minor))
    key = (records.c.document_type, records.c.currency, records.c.state)
    accepted = await connection.execute(select(*key, func.count(), func.sum(records.c.amount_minor)).group_by(*key))
    for document_type, currency, state, count, minor in accepted:
        for line in ("read", "accepted", state):
            sums[document_type, currency].add(line, count, int(minor))
    return sums


def _sheet(document_type: str, currency: str, sums: _Sums, stranded: int, of_type: list[str]) -> BalanceSheet:
    findings = list(of_type)
    if unknown := sorted(sums.counts.keys() - set(LINES)):
        lost = sum(sums.counts[state] for state in unknown)
        findings.append(f"{currency} records in a state that does not exist ({', '.join(unknown)}): {lost}.")
    return BalanceSheet(
        document_type=document_type,
        currency=currency,
        counts={line: sums.counts.get(line, 0) for line in LINES},
        amounts={line: Money.of_minor(sums.minor.get(line, 0), currency) for line in LINES},
        stranded=stranded,
        findings=tuple(findings),
    )


async def target_totals(db: Database, target: str) -> list[Total]:
    """What our ledger says is in a target, to be held against `Target.totals()`.

    That is every delivery the target has answered for, wherever it stands now: a document that drifted, or that waits
    to be read again, is still in there. Superseded ones are not: the target has reversed them.
    """
    answered = deliveries.c.answered_at.is_not(None) & deliveries.c.state.not_in((DUPLICATE, SUPERSEDED))
    key = (records.c.document_type, deliveries.c.currency)
    statement = (
        select(*key, func.count(), func.sum(deliveries.c.amount_minor))
        .join(records, records.c.id == deliveries.c.record_id)
        .where(deliveries.c.target == target, or_(deliveries.c.state.in_((*IN_TARGET, SUBMITTED)), answered))
        .group_by(*key)
        .order_by(*key)
    )
    async with db.connect() as connection:
        return [
            Total(document_type=document_type, amount=Money.of_minor(int(minor), currency), count=count)
            for document_type, currency, count, minor in await connection.execute(statement)
        ]


async def open_calls(db: Database, target: str) -> Counter[tuple[str, str]]:
    """By document type and currency, how many calls to a target have been announced and not been answered yet."""
    key = (records.c.document_type, deliveries.c.currency)
    statement = (
        select(*key, func.count())
        .join(records, records.c.id == deliveries.c.record_id)
        .where(
            deliveries.c.target == target,
            deliveries.c.state.in_((IN_FLIGHT, IN_DOUBT)),
            deliveries.c.intent_at.is_not(None),
            deliveries.c.answered_at.is_(None),
        )
        .group_by(*key)
    )
    async with db.connect() as connection:
        return Counter({(row[0], row[1]): row[2] for row in await connection.execute(statement)})


async def in_flight_older_than(db: Database, seconds: float) -> dict[str, int]:
    """By document type, how many records have been in flight for longer than this."""
    cutoff = datetime.now(UTC) - timedelta(seconds=seconds)
    statement = (
        select(records.c.document_type, func.count())
        .where(records.c.state == IN_FLIGHT, records.c.changed_at < cutoff)
        .group_by(records.c.document_type)
        .order_by(records.c.document_type)
    )
    async with db.connect() as connection:
        return {row.document_type: row[1] for row in await connection.execute(statement)}


async def throughput(db: Database, seconds: float) -> list[StageRate]:
    """What the stages have done in the last seconds, by stage and outcome."""
    cutoff = datetime.now(UTC) - timedelta(seconds=seconds)
    # Steps are numbered as they are written, so the last older one is found from the end without an index on time.
    last_older = (
        select(steps.c.number).where(steps.c.at < cutoff).order_by(steps.c.number.desc()).limit(1).scalar_subquery()
    )
    key = (steps.c.stage, steps.c.outcome)
    statement = (
        select(*key, func.count())
        .where(steps.c.number > func.coalesce(last_older, 0), steps.c.at >= cutoff)
        .group_by(*key)
        .order_by(*key)
    )
    async with db.connect() as connection:
        return [
            StageRate(stage=stage, outcome=outcome, count=count, per_second=count / seconds)
            for stage, outcome, count in await connection.execute(statement)
        ]
