"""The archive of dead letters: looked through, requeued, edited, discarded. Nothing here expires."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Row, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.failure import DeadLetter
from contracts.money import NO_CURRENCY, Money
from pipeline import states
from pipeline.codes import UNDECODABLE, Code
from pipeline.states import IN_FLIGHT
from store import audit
from store.audit import AuditEntry
from store.database import Database
from store.dead_letter_filter import DISCARDED, LETTER_COLUMNS, OPEN, REQUEUED, DeadLetterFilter, Letter, letter_of
from store.dead_letter_moves import claim, step_of, tell
from store.outbox import Outbox, OutboxRow
from store.standing import Standing
from store.tables import audit as audit_table
from store.tables import dead_letters, steps

#: Letters moved (or read) by one transaction.
letters_per_transaction_max = 500


class UnknownLetter(LookupError):
    """There is no dead letter of this id."""


class LetterNotOpen(ValueError):
    """The dead letter has been requeued, discarded or resolved, or is no record of ours."""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Dead letters with one cause, and what they are worth together."""

    code: str
    category: str
    owner: str
    cause: str
    stage: str
    document_type: str
    count: int
    amount: Money
    oldest: datetime
    newest: datetime


class LetterDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter with everything that is known about it.

    `letter` is the stored message: the encoded DeadLetter, or the raw bytes of a message that is not ours; None when
    retention removed it. `decoded` is the DeadLetter. `history` is what people did to the record and its letters.
    """

    summary: Letter
    letter: bytes | None
    decoded: DeadLetter | None
    headers: dict[str, Any] | None
    history: list[AuditEntry]


class Requeued(msgspec.Struct, frozen=True, kw_only=True):
    """`skipped`: matched, but somebody else was faster, the record is no longer dead, or it is no record of ours.

    `outbox` holds the committed messages: publish them at once and forget them when confirmed.
    """

    batch: str
    count: int
    skipped: int
    outbox: list[OutboxRow]


class Discarded(msgspec.Struct, frozen=True, kw_only=True):
    """`skipped`: matched, but no longer open when its turn came, or the target may hold it and was not asked yet."""

    batch: str
    count: int
    skipped: int


class DeadLetters:
    """What an operator does with dead letters. Every change is audited in its own transaction."""

    def __init__(
        self, db: Database, outbox: Outbox, *, letters_per_transaction: int = letters_per_transaction_max
    ) -> None:
        self._db = db
        self._outbox = outbox
        self._page_size = letters_per_transaction

    async def list(self, which: DeadLetterFilter) -> Sequence[Letter]:
        """Matching letters, the longest dead first."""
        async with self._db.connect() as connection:
            return [letter_of(row) for row in await _matching(connection, which, LETTER_COLUMNS)]

    async def groups(self, which: DeadLetterFilter) -> Sequence[Group]:
        """Matching letters by cause, the largest group first. `limit` bounds the groups."""
        letters = dead_letters.c
        cause = (letters.code, letters.category, letters.owner, letters.cause, letters.stage, letters.document_type)
        count = func.count()
        statement = (
            select(
                *cause,
                letters.currency,
                count.label("letters"),
                func.sum(letters.amount_minor).label("minor"),
                func.min(letters.first_at).label("oldest"),
                func.max(letters.last_at).label("newest"),
            )
            .where(*which.conditions(datetime.now(UTC)))
            .group_by(*cause, letters.currency)
            .order_by(count.desc(), letters.code, letters.cause)
            .limit(which.limit)
        )
        async with self._db.connect() as connection:
            return [_group(row) for row in await connection.execute(statement)]

    async def show(self, letter_id: str) -> LetterDetail:
        """Everything about one letter.

        Raises:
          UnknownLetter: there is none of this id.
        """
        async with self._db.connect() as connection:
            row = await _row(connection, letter_id)
            about = (
                audit_table.c.record_id == row.record_id
                if row.record_id is not None
                else audit_table.c.dead_letter_id == letter_id
            )
            history = await connection.execute(select(audit_table).where(about).order_by(audit_table.c.number))
            return _detail(row, history.all())

    async def export(self, which: DeadLetterFilter) -> AsyncIterator[LetterDetail]:
        """Matching letters with their bodies, page by page; no transaction is held open between pages."""
        for page in _pages(await self._ids(which), self._page_size):
            async with self._db.connect() as connection:
                rows = await connection.execute(select(dead_letters).where(dead_letters.c.id.in_(page)))
                found = {row.id: row for row in rows}
            for letter_id in page:
                if letter_id in found:
                    yield _detail(found[letter_id], ())

    async def requeue(
        self,
        which: DeadLetterFilter | Sequence[str],
        actor: str,
        reason: str,
        messages_for: Callable[[Sequence[DeadLetter]], Sequence[OutboxRow]],
    ) -> Requeued:
        """Send open letters back to the stage where they failed, at most 500 in one transaction.

        Args:
          which: a filter, or the ids of letters. Letters that die while this runs are not among them.
          messages_for: builds the messages that continue letters. Called inside the transaction.

        When it fails half-way, what was committed stays requeued; the rest stays open.
        """
        which = _open(which)
        matching = await self._ids(which)
        batch, count, outbox = uuid.uuid4().hex, 0, list[OutboxRow]()
        for page in _pages(matching, self._page_size):
            async with self._db.begin() as connection:
                claimed = await claim(connection, self._db, page, REQUEUED, IN_FLIGHT)
                await tell(connection, claimed, actor, "requeue", reason, batch)
                if page[0] == matching[0]:
                    await _tell_batch(connection, actor, "requeue", reason, batch, which, len(matching))
                letters = [msgspec.json.decode(row.letter, type=DeadLetter) for row in claimed]
                added = await self._outbox.add(connection, messages_for(letters))
            outbox.extend(added)
            count += len(claimed)
        return Requeued(batch=batch, count=count, skipped=len(matching) - count, outbox=outbox)

    async def discard(self, which: DeadLetterFilter | Sequence[str], actor: str, reason: str) -> Discarded:
        """Decide that open letters end here: their records become `discarded`."""
        which = _open(which)
        matching = await self._ids(which)
        batch, count = uuid.uuid4().hex, 0
        for page in _pages(matching, self._page_size):
            async with self._db.begin() as connection:
                claimed = await claim(connection, self._db, page, DISCARDED, states.DISCARDED)
                await tell(connection, claimed, actor, "discard", reason, batch)
                if page[0] == matching[0]:
                    await _tell_batch(connection, actor, "discard", reason, batch, which, len(matching))
            count += len(claimed)
        return Discarded(batch=batch, count=count, skipped=len(matching) - count)

    async def edit(self, letter_id: str, new_body: bytes, actor: str, reason: str) -> None:
        """Replace the body that a requeue will send; the audit trail keeps the one before.

        The caller has validated `new_body` (JSON) against the stage's contract.

        Raises:
          UnknownLetter: there is none of this id.
          LetterNotOpen: it has been requeued or ended, or its message is not one of ours.
        """
        letters = dead_letters.c
        async with self._db.begin() as connection:
            row = await _row(connection, letter_id)
            # Whoever requeues it holds the record's lock: read again with the lock held.
            await Standing.load(connection, [row.record_id] if row.record_id is not None else [])
            row = await _row(connection, letter_id)
            if row.status != OPEN or row.record_id is None or row.letter is None:
                raise LetterNotOpen(f"dead letter {letter_id!r} is {row.status}; only open ones can be edited")
            letter = msgspec.json.decode(row.letter, type=DeadLetter)
            edited = msgspec.structs.replace(letter, body=msgspec.Raw(new_body))
            await connection.execute(
                update(dead_letters).where(letters.id == letter_id).values(letter=msgspec.json.encode(edited))
            )
            await audit.write(
                connection,
                actor,
                "edit",
                reason,
                record_id=row.record_id,
                dead_letter_id=letter_id,
                detail={"original": bytes(letter.body).decode()},
            )
            await connection.execute(insert(steps), [step_of(row, "edited", actor, reason, datetime.now(UTC))])

    async def archive_raw(
        self,
        letter_id: str,
        body: bytes,
        headers: dict[str, Any],
        *,
        stage: str,
        message: str,
        cause: str,
        code: Code = UNDECODABLE,
        lane: str = "",
    ) -> bool:
        """Keep a message that is not one of ours, with its headers (`x-death`), until a person decides.

        Returns False when it was archived already: the same id is kept once.
        """
        now = datetime.now(UTC)
        unknown = {"source": "", "document_type": "", "subject": "", "revision": "", "currency": NO_CURRENCY}
        row = unknown | {
            "id": letter_id,
            "status": OPEN,
            "stage": stage,
            "code": code.name,
            "category": code.category,
            "owner": code.owner,
            "message": message,
            "cause": cause,
            "attempts": 1,
            "first_at": now,
            "last_at": now,
            "lane": lane,
            "letter": body,
            "headers": msgspec.to_builtins(headers, str_keys=True, enc_hook=str),
        }
        statement = self._db.insert(dead_letters).values(**row).on_conflict_do_nothing().returning(dead_letters.c.id)
        async with self._db.begin() as connection:
            return (await connection.scalar(statement)) is not None

    async def _ids(self, which: DeadLetterFilter) -> Sequence[str]:
        """Ids of the letters that match now: a fixed list, so that every loop over it ends."""
        async with self._db.connect() as connection:
            return [row.id for row in await _matching(connection, which, (dead_letters.c.id,))]


async def _matching(connection: AsyncConnection, which: DeadLetterFilter, columns: Sequence[Any]) -> list[Row[Any]]:
    """Rows of the matching letters, the longest dead first; any number of ids may be asked for."""
    found: list[Row[Any]] = []
    now = datetime.now(UTC)
    order = (dead_letters.c.first_at, dead_letters.c.id)
    for ids in _pages(which.ids, letters_per_transaction_max) if which.ids else [()]:
        part = msgspec.structs.replace(which, ids=tuple(ids))
        statement = select(*columns, dead_letters.c.first_at).where(*part.conditions(now)).order_by(*order)
        found += await connection.execute(statement.limit(which.limit))
    return sorted(found, key=lambda row: (row.first_at, row.id))[: which.limit]


def _open(which: DeadLetterFilter | Sequence[str]) -> DeadLetterFilter:
    """The open letters among those meant."""
    if isinstance(which, DeadLetterFilter):
        return msgspec.structs.replace(which, status=OPEN)
    if not which:
        raise ValueError("no dead letter ids given; an empty filter would mean every open letter")
    return DeadLetterFilter(ids=tuple(which))


async def _row(connection: AsyncConnection, letter_id: str) -> Row[Any]:
    row = (await connection.execute(select(dead_letters).where(dead_letters.c.id == letter_id))).one_or_none()
    if row is None:
        raise UnknownLetter(f"no dead letter {letter_id!r}; tieout dead list shows the open ones")
    return row


def _pages(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


async def _tell_batch(
    connection: AsyncConnection,
    actor: str,
    action: str,
    reason: str,
    batch: str,
    which: DeadLetterFilter,
    matched: int,
) -> None:
    """What was asked for, once per batch; the lines of its letters refer to it."""
    detail = {"batch": batch, "filter": which.described(), "matched": matched}
    await audit.write(connection, actor, action, reason, detail=detail)


def _group(row: Row[Any]) -> Group:
    return Group(
        code=row.code,
        category=row.category,
        owner=row.owner,
        cause=row.cause,
        stage=row.stage,
        document_type=row.document_type,
        count=row.letters,
        amount=Money.of_minor(int(row.minor), row.currency),
        oldest=row.oldest,
        newest=row.newest,
    )


def _detail(row: Row[Any], history: Sequence[Row[Any]]) -> LetterDetail:
    ours = row.record_id is not None and row.letter is not None
    return LetterDetail(
        summary=letter_of(row),
        letter=row.letter,
        decoded=msgspec.json.decode(row.letter, type=DeadLetter) if ours else None,
        headers=row.headers,
        history=[audit.entry_of(entry) for entry in history],
    )
