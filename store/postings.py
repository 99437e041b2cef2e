"""The postings part of the ledger: intent before the call, answer after it, doubt when there was none."""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.channels import Receipt, TargetDocument
from pipeline.codes import NOT_IN_TARGET
from pipeline.entries import Step
from pipeline.errors import dependency_key
from pipeline.ports import Intent
from pipeline.states import DEAD, DISCARDED, IN_DOUBT, IN_FLIGHT, PARKED, POSTED, SUBMITTED, SUPERSEDED
from store.bulk import insert_rows
from store.database import Database
from store.group_commit import AT_ONCE, GroupCommit, Pace
from store.intents import decide
from store.letter_rows import storable
from store.masterdata import TARGET as MASTER_DATA
from store.masterdata import canonical_id
from store.outbox import Outbox, OutboxRow, rows_parked_under
from store.standing import OPEN, DeliveryRow, RecordRow, Standing, UnknownRecord
from store.statements import BY_KEY, ask, chunks, statement
from store.tables import dead_letters, steps

STAGE = "post"

#: Late copies, or a person who gave it up, may have brought the delivery here; that the target holds it is a fact.
_UNANSWERED = (IN_FLIGHT, IN_DOUBT, PARKED, DEAD, DISCARDED)


class _Intend(msgspec.Struct, frozen=True):
    record_id: str
    document: TargetDocument
    lease_ms: int


class _Answer(msgspec.Struct, frozen=True):
    record_id: str
    document: TargetDocument
    receipt: Receipt

    @property
    def keys(self) -> list[str]:
        """What waits for this document, once the target has it for good."""
        if self.document.target != MASTER_DATA or self.receipt.state != POSTED:
            return []
        return [dependency_key(self.document.kind, canonical_id(self.document))]


class _Doubt(msgspec.Struct, frozen=True):
    record_id: str
    document: TargetDocument
    reason: str
    lease: datetime | None


class _NotCreated(msgspec.Struct, frozen=True):
    record_id: str
    document: TargetDocument
    lease: datetime | None


_document_decoder = msgspec.json.Decoder(TargetDocument)

_Order = _Intend | _Answer | _Doubt | _NotCreated

#: The ids of all accepted revisions of these records' source keys.
_REVISIONS_OF = statement(
    "SELECT other.id FROM records AS own JOIN records AS other ON other.subject = own.subject "
    "AND other.source = own.source AND other.document_type = own.document_type WHERE own.id AMONG :?"
)
_SENT = statement("SELECT posting_key, document FROM deliveries WHERE posting_key AMONG :? AND document IS NOT NULL")


class _Result(msgspec.Struct):
    """What became of one order; an order that can't be carried out says so without spoiling its group."""

    intent: Intent | None = None
    answered: str | None = None
    released: Sequence[OutboxRow] = ()
    error: Exception | None = None


class StorePostings:
    """`pipeline.ports.Postings` with group commit.

    All revisions of a source key are locked before it is decided what a call may do, so two workers, or two revisions,
    take their turn: decision and intent are one step.

    Args:
      on_outbox: is given the messages of released records once they are committed, to publish them at once.
    """

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        *,
        worker: str,
        rows_max: int,
        on_outbox: Callable[[Sequence[OutboxRow]], None],
        pace: Pace = AT_ONCE,
    ) -> None:
        self._db, self._outbox, self._worker, self._on_outbox = db, outbox, worker, on_outbox
        self._commits: GroupCommit[_Order, _Result] = GroupCommit(db, self._write, rows_max=rows_max, pace=pace)

    async def close(self) -> None:
        """Take nothing more on; returns when everything taken on is committed."""
        await self._commits.close()

    async def intend(self, record_id: str, document: TargetDocument, lease_ms: int) -> Intent:
        """Durably announce the call under the posting key (`document.reference`).

        Status `leased` also stands for an older revision whose call has not been answered: whether there is something
        to replace is only known then.

        Raises:
          TransientError: the database failed; nothing may be sent.
          UnknownRecord: the record was never accepted.
        """
        intent = (await self._submit(_Intend(record_id, document, lease_ms))).intent
        assert intent is not None
        return intent

    async def answer(self, record_id: str, document: TargetDocument, receipt: Receipt) -> None:
        """Durably write the target's answer; releases whoever is parked for this record.

        Raises:
          TransientError: the database failed; the intent stands, so the target will be asked.
        """
        result = await self._submit(_Answer(record_id, document, receipt))
        if result.released:
            self._on_outbox(result.released)

    async def doubt(self, record_id: str, document: TargetDocument, reason: str, lease: datetime | None) -> None:
        """The call was made and never answered: the delivery is `in_doubt`, and whoever comes next may ask at once.

        `lease` is the intent's `leased_until`: it ends, unless somebody else holds one by now.
        """
        await self._submit(_Doubt(record_id, document, reason, lease))

    async def not_created(self, record_id: str, document: TargetDocument, lease: datetime | None) -> None:
        """The call is over and has created nothing: whoever comes next need not wait for the end of this lease.

        The intent stays: the target is asked before the next call.
        """
        await self._submit(_NotCreated(record_id, document, lease))

    async def _submit(self, order: _Order) -> _Result:
        result = await self._commits.submit(order)
        if result.error is not None:
            raise result.error
        return result

    async def _write(self, connection: AsyncConnection, group: Sequence[_Order]) -> list[_Result]:
        now = datetime.now(UTC)
        keys = [key for order in group if isinstance(order, _Answer) for key in order.keys]
        # Only read, not trusted: it says which rows to lock, all of them in one order. They are read again under lock.
        revisions_of = _REVISIONS_OF(sorted({order.record_id for order in group}))
        _, revisions = await ask(connection, BY_KEY, revisions_of)
        waiting = await rows_parked_under(connection, keys)
        wanted = {record_id for (record_id,) in revisions} | {row["record_id"] for row in waiting}
        standing, (revisions,) = await Standing.load_and_ask(connection, wanted, revisions_of)
        # A revision accepted while we waited for the locks may have been called for in the meantime.
        if missed := {record_id for (record_id,) in revisions} - standing.records.keys():
            await standing.load_more(connection, missed)
        removed = await _removed_in_target(connection, standing)
        family: dict[tuple[str, str, str], list[RecordRow]] = {}
        for record in standing.records.values():
            family.setdefault(record.source_key, []).append(record)

        told: list[Step] = []
        results = [self._carry_out(order, standing, family, removed, now, told) for order in group]
        await insert_rows(connection, steps, told, worker=self._worker)
        released = await self._outbox.release(connection, keys, standing)
        await standing.save(connection)
        await _recall_documents(connection, results)
        if released:
            # They have no caller of their own; whoever's answer came first announces them all.
            first = next(number for number, order in enumerate(group) if isinstance(order, _Answer))
            results[first].released = released
        return results

    def _carry_out(
        self,
        order: _Order,
        standing: Standing,
        family: dict[tuple[str, str, str], list[RecordRow]],
        removed: Collection[tuple[str, str]],
        now: datetime,
        told: list[Step],
    ) -> _Result:
        """Judge one order by where its record stands, after the orders before it."""
        document = order.document
        own = standing.records.get(order.record_id)
        if own is None:
            return _Result(error=UnknownRecord(f"record {order.record_id!r} was never accepted: it can't be posted"))
        delivery = standing.route(own.id, document.target, document.reference, *_worth(document))
        if isinstance(order, _Intend):
            others = [other for other in family[own.source_key] if other is not own]
            lease = timedelta(milliseconds=order.lease_ms)
            intent = decide(standing, own, delivery, others, document, removed, now, lease)
            return _Result(intent=intent, answered=document.reference if intent.status == "answered" else None)
        if delivery is None:
            return _Result(error=UnknownRecord(f"{document.reference}: a call that was never announced"))
        if isinstance(order, _Answer):
            _accept(standing, own, delivery, family[own.source_key], document, order.receipt)
        elif delivery.answered_at is None:
            if delivery.leased_until == order.lease:
                delivery.leased_until = None
            if isinstance(order, _NotCreated):
                return _Result()
            standing.move(own.id, delivery.target, IN_DOUBT)
            told.append(_step(order, IN_DOUBT, order.reason, now))
        return _Result()


def _step(order: _Order, outcome: str, detail: str, now: datetime) -> Step:
    return Step(
        record_id=order.record_id,
        at=now,
        stage=STAGE,
        outcome=outcome,
        target=order.document.target,
        detail=storable(detail),
    )


def _accept(
    standing: Standing,
    own: RecordRow,
    delivery: DeliveryRow,
    family: Sequence[RecordRow],
    document: TargetDocument,
    receipt: Receipt,
) -> None:
    """Write the answer, and what it means for the older revisions."""
    known = delivery.answered_at is not None
    if not known:
        delivery.answered_at, delivery.target_id, delivery.leased_until = receipt.at, receipt.target_id, None
        # Kept is what this was an answer to; a late copy, made from newer reference data, changes nothing.
        standing.keep_document(delivery.posting_key, msgspec.json.encode(document))
        # Sent after a doubt, it may have been made anew since it was announced.
        delivery.currency, delivery.amount_minor = _worth(document)
    # An answer that is known already is told by a late copy, unless a draft has become final since.
    standing.move(own.id, delivery.target, receipt.state, (SUBMITTED,) if known else (*_UNANSWERED, SUBMITTED))
    replaced = delivery.replaces or document.replaces
    for older in family:
        if older.order >= own.order:
            continue
        theirs = standing.delivery(older.id, delivery.target)
        if theirs is not None and theirs.posting_key == replaced:
            standing.move(older.id, delivery.target, SUPERSEDED)
        elif theirs is not None and theirs.state in (DEAD, PARKED) and theirs.intent_at is None:
            # It waited for a person or another record, to post what is no longer true.
            standing.move(older.id, delivery.target, SUPERSEDED)
        elif not standing.deliveries[older.id] and older.state in (DEAD, PARKED):
            standing.move(older.id, None, SUPERSEDED)


def _worth(document: TargetDocument) -> tuple[str, int]:
    return document.amount.currency, document.amount.minor()


async def _recall_documents(connection: AsyncConnection, results: Sequence[_Result]) -> None:
    """Add to the intents that have been answered what the target was sent."""
    known = {result.answered: result for result in results if result.answered is not None and result.intent is not None}
    if not known:
        return
    (rows,) = await ask(connection, _SENT(sorted(known)))
    for key, sent in rows:
        intent = known[key].intent
        assert intent is not None
        known[key].intent = msgspec.structs.replace(intent, document=_document_decoder.decode(sent))


async def _removed_in_target(connection: AsyncConnection, standing: Standing) -> set[tuple[str, str]]:
    """Answered deliveries that were found missing in the target since: there is nothing there to replace."""
    dead = {
        row.record_id
        for routed in standing.deliveries.values()
        for row in routed.values()
        if row.state in (DEAD, IN_FLIGHT) and row.answered_at is not None
    }
    found: set[tuple[str, str]] = set()
    for some in chunks(sorted(dead)):
        letters = await connection.execute(
            select(dead_letters.c.record_id, dead_letters.c.target).where(
                dead_letters.c.record_id.in_(some),
                dead_letters.c.code == NOT_IN_TARGET.name,
                dead_letters.c.status == OPEN,
            )
        )
        found |= {(record_id, target) for record_id, target in letters}
    return found
