"""The checks behind the balance: each holds two accounts of the same thing against each other."""

from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, and_, case, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pipeline.states import DEAD, IN_TARGET, LEAST_DONE_FIRST, PARKED, SUBMITTED
from store.dead_letter_filter import OPEN
from store.tables import dead_letters, deliveries, parked, records, rejects, runs

#: (document type, one sentence) for everything a check finds wrong.
Findings = list[tuple[str, str]]

#: What counts as in the target, for good or not.
HELD = (*IN_TARGET, SUBMITTED)


async def findings_by_type(connection: AsyncConnection) -> dict[str, list[str]]:
    """Run every check; document types without findings are left out."""
    found: dict[str, list[str]] = defaultdict(list)
    for check in CHECKS:
        for document_type, sentence in await check(connection):
            found[document_type].append(sentence)
    return dict(found)


async def runs_against_rows(connection: AsyncConnection) -> Findings:
    """What the runs counted is what stands in the tables, and every row read became one of the three."""
    names = ("read", "accepted", "seen_before", "rejected")
    counted = await connection.execute(
        select(runs.c.document_type, *(func.sum(runs.c[name]) for name in names)).group_by(runs.c.document_type)
    )
    by_type = {document_type: [int(total) for total in sums] for document_type, *sums in counted}
    kept = dict(await _count(connection, select(records.c.document_type)))
    listed = dict(await _count(connection, select(rejects.c.document_type)))
    findings: Findings = []
    for name in sorted(by_type.keys() | kept.keys() | listed.keys()):
        read, accepted, seen_before, rejected = by_type.get(name, (0, 0, 0, 0))
        if accepted != kept.get(name, 0):
            findings.append((name, f"Records the runs accepted: {accepted}; in the ledger: {kept.get(name, 0)}."))
        if rejected != listed.get(name, 0):
            findings.append((name, f"Rows the runs rejected: {rejected}; listed: {listed.get(name, 0)}."))
        if read != accepted + seen_before + rejected:
            became = f"accepted {accepted}, seen before {seen_before}, rejected {rejected}"
            findings.append((name, f"Rows the runs read: {read}; what became of them: {became}."))
    return findings


async def letters_against_records(connection: AsyncConnection) -> Findings:
    """Every dead record has an open dead letter, and every open dead letter of ours a dead record (or delivery).

    Not of ours are letters about messages that nobody accepted here: they wait for a person, and are about no record.
    """
    letter = exists().where(dead_letters.c.record_id == records.c.id, dead_letters.c.status == OPEN)
    without_letter = select(records.c.document_type).where(records.c.state == DEAD, ~letter)
    ours = exists().where(records.c.id == dead_letters.c.record_id)
    not_dead = select(dead_letters.c.document_type).where(dead_letters.c.status == OPEN, ours, ~_is(DEAD, dead_letters))
    return [
        *await _found(connection, "Dead records without an open dead letter", without_letter),
        *await _found(connection, "Open dead letters of records that are not dead", not_dead),
    ]


async def parked_against_records(connection: AsyncConnection) -> Findings:
    """Every parked record has its parked message, and the other way round."""
    message = exists().where(parked.c.record_id == records.c.id)
    without_message = select(records.c.document_type).where(records.c.state == PARKED, ~message)
    # A parked message keeps no document type; one without a record is told of all the same.
    type_of = select(records.c.document_type).where(records.c.id == parked.c.record_id).scalar_subquery()
    not_parked = select(func.coalesce(type_of, "unknown").label("document_type")).where(~_is(PARKED, parked))
    return [
        *await _found(connection, "Parked records without a message to continue with", without_message),
        *await _found(connection, "Parked messages of records that are not parked", not_parked),
    ]


async def postings_against_records(connection: AsyncConnection) -> Findings:
    """What counts as in the target was answered by it, under one posting key per target."""
    answer = exists().where(deliveries.c.record_id == records.c.id, deliveries.c.answered_at.is_not(None))
    unanswered = select(records.c.document_type).where(records.c.state.in_(HELD), ~answer)
    joined = select(records.c.document_type).join(deliveries, deliveries.c.record_id == records.c.id)
    unanswered_delivery = joined.where(deliveries.c.state.in_(HELD), deliveries.c.answered_at.is_(None))
    several = (
        select(deliveries.c.record_id)
        .group_by(deliveries.c.record_id, deliveries.c.target)
        .having(func.count() > 1)
        .subquery()
    )
    twice = select(records.c.document_type).join(several, several.c.record_id == records.c.id)
    return [
        *await _found(connection, "Records that count as posted without an answer of a target", unanswered),
        *await _found(connection, "Deliveries that count as posted without the target's answer", unanswered_delivery),
        *await _found(connection, "Records with several posting keys for one target", twice),
    ]


async def states_against_deliveries(connection: AsyncConnection) -> Findings:
    """A routed record is counted under the least done of its deliveries."""
    rank = {state: number for number, state in enumerate(LEAST_DONE_FIRST)}
    least = (
        select(deliveries.c.record_id, func.min(case(rank, value=deliveries.c.state)).label("rank"))
        .group_by(deliveries.c.record_id)
        .subquery()
    )
    wrong = (
        select(records.c.document_type)
        .join(least, least.c.record_id == records.c.id)
        .where(case(rank, value=records.c.state, else_=-1) != least.c.rank)
    )
    return await _found(connection, "Records not counted under the least done of their deliveries", wrong)


CHECKS: tuple[Callable[[AsyncConnection], Awaitable[Findings]], ...] = (
    runs_against_rows,
    letters_against_records,
    parked_against_records,
    postings_against_records,
    states_against_deliveries,
)


def _is(state: str, waiting: Table) -> ColumnElement[bool]:
    """Whether what a dead letter or parked message is about, a delivery or a whole record, is in `state`."""
    routed = func.coalesce(waiting.c.target, "") != ""
    delivery = exists().where(
        deliveries.c.record_id == waiting.c.record_id,
        deliveries.c.target == waiting.c.target,
        deliveries.c.state == state,
    )
    record = exists().where(records.c.id == waiting.c.record_id, records.c.state == state)
    return or_(and_(routed, delivery), and_(~routed, record))


async def _found(connection: AsyncConnection, what: str, statement: Select[Any]) -> Findings:
    return [(document_type, f"{what}: {count}.") for document_type, count in await _count(connection, statement)]


async def _count(connection: AsyncConnection, statement: Select[Any]) -> list[tuple[str, int]]:
    """How many rows a select of document types has of each."""
    rows = statement.subquery()
    found = await connection.execute(
        select(rows.c.document_type, func.count()).group_by(rows.c.document_type).order_by(rows.c.document_type)
    )
    return [(document_type, count) for document_type, count in found]
