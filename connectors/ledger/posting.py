"""Posting many documents in one transaction, each with an outcome of its own.

The unique reference decides who was first, in every process: an insert that meets an existing reference writes nothing
and the existing entry is looked up and compared.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from connectors.ledger.chart import Chart
from connectors.ledger.database import Database, posting_to
from connectors.ledger.journal import Draft, drafted, entry_of, entry_row, line_rows, refused
from connectors.ledger.periods import closed_among, first_open_day
from connectors.ledger.reading import Held, held, receipt
from connectors.ledger.reversal import locked_entry, reverse_entry
from connectors.ledger.tables import entries, lines
from contracts.channels import Receipt, TargetDocument
from contracts.money import Money
from pipeline.codes import PERIOD_CLOSED
from pipeline.errors import PermanentError, PipelineError, TransientError

Outcome = Receipt | PipelineError


class Poster:
    """Posts bulks of documents to the tables of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._chart = Chart()

    async def post(self, documents: Sequence[TargetDocument]) -> list[Outcome]:
        """One outcome per document, in order.

        Raises:
          TransientError: the database failed and certainly nothing was written.
          OutcomeUnknown: the commit was not answered.
        """
        drafts = [_try_drafted(document) for document in documents]
        distinct: dict[str, Draft] = {}
        for draft in drafts:
            if isinstance(draft, Draft):
                distinct.setdefault(draft.reference, draft)
        outcomes: dict[str, Outcome] = {}
        if distinct:
            async with posting_to(self._database) as connection:
                outcomes = await self._post_distinct(connection, distinct)
        return [
            draft if isinstance(draft, PipelineError) else _outcome_of(draft, distinct[draft.reference], outcomes)
            for draft in drafts
        ]

    async def _post_distinct(self, connection: AsyncConnection, drafts: dict[str, Draft]) -> dict[str, Outcome]:
        outcomes: dict[str, Outcome] = {}
        months = {(one.entry.legal_entity, one.period) for one in drafts.values()}
        closed = await closed_among(self._database, connection, months)
        unknown = await self._chart.unknown(connection, {code for one in drafts.values() for code in one.accounts})
        hindered = {
            reference: problem
            for reference, draft in drafts.items()
            if (problem := _hindrance(draft, closed, unknown)) is not None
        }
        fresh = [draft for draft in drafts.values() if draft.reference not in hindered and draft.replaces is None]
        outcomes |= await self._create(connection, fresh)
        await self._lock_replaced(connection, drafts.values())
        for draft in drafts.values():
            if draft.replaces is not None and draft.reference not in hindered:
                try:
                    outcomes |= await self._correct(connection, draft, draft.replaces)
                except PipelineError as error:
                    outcomes[draft.reference] = error
        unanswered = sorted(drafts.keys() - outcomes.keys())
        existing = await held(self._database, connection, unanswered)
        for reference in unanswered:
            outcomes[reference] = _settled(drafts[reference], existing.get(reference), hindered.get(reference))
        return outcomes

    async def _create(self, connection: AsyncConnection, drafts: Sequence[Draft]) -> dict[str, Outcome]:
        """Insert those whose reference is new; in order of reference, so that two writers can't block each other."""
        if not drafts:
            return {}
        now = datetime.now(UTC)
        rows = [entry_row(draft) | {"posted_at": now} for draft in sorted(drafts, key=lambda draft: draft.reference)]
        numbers = await self._database.insert_new_rows(
            connection, entries, rows, unique="reference", returning="number"
        )
        written = [
            line for one in drafts if one.reference in numbers for line in line_rows(one, numbers[one.reference])
        ]
        await self._database.insert_rows(connection, lines, written)
        return {reference: receipt(number, now) for reference, number in numbers.items()}

    async def _lock_replaced(self, connection: AsyncConnection, drafts: Iterable[Draft]) -> None:
        """Lock what is about to be corrected in one order, so that two writers can't block each other."""
        if replaced := {draft.replaces for draft in drafts if draft.replaces is not None}:
            wanted = (
                select(entries.c.number)
                .where(self._database.among(connection, entries.c.reference, sorted(replaced)))
                .order_by(entries.c.number)
            )
            await connection.execute(wanted.with_for_update())

    async def _correct(self, connection: AsyncConnection, draft: Draft, replaces: str) -> dict[str, Outcome]:
        """Post a correction and reverse what it replaces; nothing when the correction exists already.

        Raises, before anything is written:
          PermanentError: what it replaces is not here, or no period is open to reverse it in.
          TransientError: another correction has come first; the caller's next look finds that one to replace.
        """
        old = await locked_entry(connection, replaces)
        if await held(self._database, connection, [draft.reference]):
            return {}
        if old is None or old["reverses"] is not None:
            raise refused(f"{replaces!r} is not an entry that {draft.reference!r} could replace")
        if other := await _living_replacement(connection, old["replaced_by"]):
            raise TransientError(f"ledger: {replaces!r} has been replaced by {other!r} already: look again")
        day = await first_open_day(self._database, connection, old["legal_entity"], old["date"])
        created = await self._create(connection, [draft])
        if created:
            new = await _number_of(connection, draft.reference)
            if old["reversed_by"] is None:
                await reverse_entry(
                    self._database, connection, old, day, f"replaced by {draft.reference}", replaced_by=new
                )
            else:
                await connection.execute(
                    update(entries).where(entries.c.number == old["number"]).values(replaced_by=new)
                )
        return created


def _try_drafted(document: TargetDocument) -> Draft | PermanentError:
    try:
        return drafted(document)
    except PermanentError as error:
        return error


def _hindrance(draft: Draft, closed: set[tuple[str, str]], unknown: set[str]) -> PermanentError | None:
    """Why the draft can't be posted now, whatever else the ledger holds."""
    if missing := sorted(draft.accounts & unknown):
        return refused(f"account {', '.join(missing)} is not in the chart of accounts")
    if (draft.entry.legal_entity, draft.period) in closed:
        message = (
            f"ledger: period {draft.period} of {draft.entry.legal_entity} is closed, {draft.entry.date} lies in it"
        )
        return PermanentError(PERIOD_CLOSED, message)
    return None


def _outcome_of(draft: Draft, first: Draft, outcomes: dict[str, Outcome]) -> Outcome:
    """The outcome of the first document with this reference, if this one says the same."""
    if (draft.amount, draft.entry) != (first.amount, first.entry):
        return refused(f"{draft.reference!r} came twice with different content")
    return outcomes[draft.reference]


def _settled(draft: Draft, existing: Held | None, hindrance: PermanentError | None) -> Outcome:
    """The outcome of a draft that was not created: what is there already decides, then what hindered it."""
    if existing is None:
        return hindrance or TransientError(f"ledger: {draft.reference!r} was neither created nor found")
    if existing.entry["reversed_by"] is not None:
        return refused(f"{draft.reference!r} was posted and has been reversed: post a new revision")
    amount = Money.of_minor(existing.entry["amount_minor"], existing.entry["currency"])
    if (draft.amount, draft.entry) != (amount, entry_of(existing.entry, existing.lines)):
        return refused(f"{draft.reference!r} is already posted with different content")
    return existing.receipt


async def _living_replacement(connection: AsyncConnection, number: int | None) -> str | None:
    """The reference of a replacement that has not been reversed itself."""
    if number is None:
        return None
    living = select(entries.c.reference).where(entries.c.number == number, entries.c.reversed_by.is_(None))
    return (await connection.execute(living)).scalar_one_or_none()


async def _number_of(connection: AsyncConnection, reference: str) -> int:
    wanted = select(entries.c.number).where(entries.c.reference == reference)
    number: int = (await connection.execute(wanted)).scalar_one()
    return number
