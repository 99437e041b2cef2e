"""Intake: accepts records and writes what they cause into one transaction (transactional outbox)."""

import base64
import re
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import blake2b
from itertools import islice

import msgspec
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.money import Money
from store.bulk import insert_new_rows, insert_rows
from store.database import Database
from store.group_commit import AT_ONCE, GroupCommit, Pace
from store.intake_rows import Run, accepted_step, record_row, reject_row
from store.outbox import Outbox, OutboxRow
from store.statements import ask, statement
from store.tables import records as records_table
from store.tables import rejects as rejects_table
from store.tables import runs, steps

#: Records and refused rows that chunks of the same moment write in one transaction.
rows_max = 2000

#: Transactions at a time: a chunk that just missed one does not wait for all of it.
transactions_max = 2
runs_known_max = 1000

_RUN = [runs.c[name] for name in Run.__struct_fields__]
_COUNTED = ("rows", "filtered", "read", "accepted", "seen_before", "rejected")
_ADD = statement("UPDATE runs SET {} WHERE id = :?".format(", ".join(f'"{name}" = "{name}" + :?' for name in _COUNTED)))

#: Whole numbers sort right up to this many digits.
revision_digits_max = 40

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d([T ].+)?")


class UnknownRun(LookupError):
    """No run of this id was opened."""


class AcceptedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record at the door. `id` is `record_id(...)`; `payload` the encoded contract; `money` what it is worth so far.

    Texts fit their columns (subject and revision 200 characters), and `money` is in an ISO 4217 currency (XXX: none).
    """

    id: str
    source: str
    document_type: str
    subject: str
    revision: str
    revision_order: str
    fingerprint: str
    lane: str
    correlation_id: str
    money: Money
    payload: bytes
    business_key: str | None = None
    worker_day: str | None = None
    hours: Decimal | None = None
    region: str | None = None
    row_number: int | None = None


class Reject(msgspec.Struct, frozen=True, kw_only=True):
    """A row refused at the door. `fingerprint` says which row of which content it is: read again, it counts once."""

    row_number: int
    reason: str
    money: Money
    fingerprint: str
    column: str | None = None
    raw: str | None = None


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one chunk. `new` are record ids, `seen_before` counts records and rejects known already.

    `outbox` holds the committed messages: publish them at once and forget them when confirmed.
    """

    new: list[str]
    seen_before: int
    rejected: int
    outbox: list[OutboxRow]


def record_id(source: str, document_type: str, subject: str, revision: str) -> str:
    """The record's id: the same source key and revision always give the same 24 characters."""
    digest = blake2b(digest_size=15)
    for part in (source, document_type, subject, revision):
        encoded = part.encode()
        # The length in front keeps ("ab", "c") and ("a", "bc") apart.
        digest.update(b"%d:" % len(encoded) + encoded)
    return base64.b32encode(digest.digest()).decode().lower()


def revision_order(revision: str) -> str:
    """A text that sorts revisions of one kind: whole numbers by value, timestamps by moment, others as they are.

    ISO 8601 timestamps without an offset are taken as UTC.
    """
    if revision.isascii() and revision.isdigit():
        return revision.lstrip("0").zfill(revision_digits_max)
    if _TIMESTAMP.fullmatch(revision):
        try:
            moment = datetime.fromisoformat(revision)
            moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
        except (ValueError, OverflowError):
            return revision
        return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    return revision


class _Chunk(msgspec.Struct, frozen=True):
    run_id: str
    records: Sequence[AcceptedRecord]
    rejects: Sequence[Reject]
    rows: int
    filtered: int
    read: int
    messages: Callable[[Sequence[AcceptedRecord]], Sequence[OutboxRow]]


class Intake:
    """Accepts records durably, chunk by chunk, each chunk in one transaction with the messages it owes."""

    def __init__(self, db: Database, outbox: Outbox, *, pace: Pace = AT_ONCE) -> None:
        self._db = db
        self._outbox = outbox
        self._known: dict[str, Run] = {}
        self._commits: list[GroupCommit[_Chunk, Accepted]] = [
            GroupCommit(db, self._write, rows_max=rows_max, pace=pace) for _ in range(transactions_max)
        ]

    async def open_run(self, *, actor: str, origin: str, source: str, document_type: str, lane: str) -> str:
        """Begin a run of ingest over one file or call; `origin` names it (`declarations.csv`). Returns the run's id."""
        run_id = uuid.uuid4().hex
        run = {"actor": actor, "origin": origin, "source": source, "document_type": document_type, "lane": lane}
        async with self._db.begin() as connection:
            await connection.execute(insert(runs).values(id=run_id, started_at=datetime.now(UTC), **run))
        return run_id

    async def accept(
        self,
        run_id: str,
        records: Sequence[AcceptedRecord],
        rejects: Sequence[Reject],
        *,
        rows: int,
        filtered: int,
        read: int,
        messages: Callable[[Sequence[AcceptedRecord]], Sequence[OutboxRow]],
    ) -> Accepted:
        """Write one chunk: all of it is committed when this returns, or none of it. Chunks that come at the same moment
        share a transaction: they add to the same run, and would wait for each other's commit. A chunk whose caller is
        cancelled may be committed all the same; the clock publishes what it owes.

        Args:
          rows, filtered, read: rows of this chunk, those the row filter left out, those read: added to the run.
          messages: builds the messages for the new records, in their order. Called inside the transaction.

        Raises:
          UnknownRun: `run_id` is not from `open_run`.
          TransientError: the database failed; accept it again.
        """
        chunk = _Chunk(run_id, records, rejects, rows, filtered, read, messages)
        commits = min(self._commits, key=lambda one: one.load)
        return await commits.submit(chunk, len(records) + len(rejects))

    async def close_run(self, run_id: str) -> None:
        """Note that the run has read everything."""
        async with self._db.begin() as connection:
            await connection.execute(update(runs).where(runs.c.id == run_id).values(finished_at=datetime.now(UTC)))

    async def close(self) -> None:
        """Take no more chunks; returns when those taken are committed."""
        for commits in self._commits:
            await commits.close()

    async def _write(self, connection: AsyncConnection, group: Sequence[_Chunk]) -> list[Accepted]:
        now = datetime.now(UTC)
        found = await self._runs(connection, {chunk.run_id for chunk in group})
        new = await _insert_records(connection, group, now)
        rejected = await _insert_rejects(connection, group, found, now)
        told = [
            accepted_step(record, found[chunk.run_id].origin, now)
            for chunk, records in zip(group, new, strict=True)
            for record in records
        ]
        await insert_rows(connection, steps, told)
        owed = [chunk.messages(records) if records else () for chunk, records in zip(group, new, strict=True)]
        numbered = iter(await self._outbox.add(connection, [row for rows in owed for row in rows]))
        accepted = [
            Accepted(
                new=[record.id for record in records],
                seen_before=len(chunk.records) - len(records) + len(chunk.rejects) - refused,
                rejected=refused,
                outbox=list(islice(numbered, len(rows))),
            )
            for chunk, records, refused, rows in zip(group, new, rejected, owed, strict=True)
        ]
        # Last, since it locks the runs: other processes that accept into them wait from here to the commit, no longer.
        await _count(connection, group, accepted)
        return accepted

    async def _runs(self, connection: AsyncConnection, ids: Collection[str]) -> dict[str, Run]:
        """What these runs bring in: asked once each, it never changes."""
        found = {run_id: self._known[run_id] for run_id in ids if run_id in self._known}
        if unknown := sorted(ids - found.keys()):
            rows = await connection.execute(select(*_RUN).where(runs.c.id.in_(unknown)))
            found |= {row.id: Run(**row._mapping) for row in rows}
            if missing := sorted(ids - found.keys()):
                raise UnknownRun(f"no run {missing[0]!r} was opened")
            if len(self._known) > runs_known_max:
                self._known.clear()
            self._known |= found
        return found


async def _insert_records(
    connection: AsyncConnection, group: Sequence[_Chunk], now: datetime
) -> list[list[AcceptedRecord]]:
    """Insert those not known yet; returns them by chunk in their order, each id once."""
    seen: set[str] = set()
    distinct = [[record for record in chunk.records if _is_first(record.id, seen)] for chunk in group]
    rows = [
        record_row(record, chunk.run_id, now)
        for chunk, records in zip(group, distinct, strict=True)
        for record in records
    ]
    inserted = await insert_new_rows(connection, records_table, rows, unique="id", returning="id")
    return [[record for record in records if record.id in inserted] for records in distinct]


async def _insert_rejects(
    connection: AsyncConnection, group: Sequence[_Chunk], found: Mapping[str, Run], now: datetime
) -> list[int]:
    """Insert those not known yet; returns how many that were, by chunk."""
    seen: set[str] = set()
    distinct = [[reject for reject in chunk.rejects if _is_first(reject.fingerprint, seen)] for chunk in group]
    rows = [
        reject_row(reject, found[chunk.run_id], now)
        for chunk, rejects in zip(group, distinct, strict=True)
        for reject in rejects
    ]
    new = await insert_new_rows(connection, rejects_table, rows, unique="fingerprint", returning="row_number")
    return [sum(reject.fingerprint in new for reject in rejects) for rejects in distinct]


def _is_first(key: str, seen: set[str]) -> bool:
    if key in seen:
        return False
    seen.add(key)
    return True


async def _count(connection: AsyncConnection, group: Sequence[_Chunk], accepted: Sequence[Accepted]) -> None:
    """Add the chunks to their runs; in order, so that two writers can't block each other."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for chunk, answer in zip(group, accepted, strict=True):
        counts[chunk.run_id] += Counter(
            rows=chunk.rows,
            filtered=chunk.filtered,
            read=chunk.read,
            accepted=len(answer.new),
            seen_before=answer.seen_before,
            rejected=answer.rejected,
        )
    adding = [_ADD(*(counted[name] for name in _COUNTED), run_id) for run_id, counted in sorted(counts.items())]
    await ask(connection, *adding)
