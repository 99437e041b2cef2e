"""Where records and their deliveries stand while one transaction changes them.

`Standing.load` takes the rows' locks in a fixed order, so that two processes never wait for each other in a circle.
Everything that changes a record, its deliveries, its parkings or its dead letters holds the record's lock; that makes
it exact to judge in memory what may become what, and to write the difference with a few bulk statements.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Column, bindparam, delete, func, update
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.money import NO_CURRENCY
from pipeline.errors import PipelineError
from pipeline.ports import posting_key
from pipeline.states import ALLOWED_FROM, DEAD, DISCARDED, IN_FLIGHT, LEAST_DONE_FIRST, PARKED, STOOD_FOR
from store.bulk import insert_rows, update_rows
from store.statements import BY_KEY, Call, Rows, ask, readers, statement
from store.tables import dead_letters, deliveries, parked, records

flags_length_max = 200

OPEN = "open"
RESOLVED = "resolved"

#: In `parked`, whose primary key takes no null, a record as a whole has no target.
NO_TARGET = ""

_LATENESS = {state: number for number, state in enumerate(LEAST_DONE_FIRST)}


class UnknownRecord(PipelineError):
    """The ledger has never accepted this record."""


class RecordRow(msgspec.Struct):
    """The part of a record's row that is judged by, or changed."""

    number: int
    id: str
    source: str
    document_type: str
    subject: str
    revision: str
    revision_order: str
    fingerprint: str
    currency: str
    amount_minor: int
    state: str
    flags: str | None

    @property
    def order(self) -> tuple[str, int]:
        """Sorts the revisions of one source key, oldest first."""
        return (self.revision_order, self.number)

    @property
    def source_key(self) -> tuple[str, str, str]:
        return (self.source, self.document_type, self.subject)


class DeliveryRow(msgspec.Struct):
    """A delivery's row."""

    posting_key: str
    record_id: str
    target: str
    state: str
    currency: str
    amount_minor: int
    intent_at: datetime | None = None
    leased_until: datetime | None = None
    answered_at: datetime | None = None
    target_id: str | None = None
    replaces: str | None = None


_RECORD_CHANGES = ("currency", "amount_minor", "state", "flags")
_DELIVERY_COLUMNS: list[Column[Any]] = [deliveries.c[name] for name in DeliveryRow.__struct_fields__]
_DELIVERY_CHANGES = tuple(
    name for name in DeliveryRow.__struct_fields__ if name not in ("posting_key", "record_id", "target")
)

# NO KEY UPDATE: inserting a delivery, which refers to its record, waits for nobody.
_LOCK_RECORDS = statement(
    f"SELECT {', '.join(RecordRow.__struct_fields__)} FROM records WHERE id AMONG :? ORDER BY id"
).locking("FOR NO KEY UPDATE")
_READ_DELIVERIES = statement(
    f"SELECT {', '.join(DeliveryRow.__struct_fields__)} FROM deliveries WHERE record_id AMONG :?"
)


class Standing:
    """Records and deliveries under lock, what has been changed about them, and what follows from that."""

    def __init__(self) -> None:
        self.records: dict[str, RecordRow] = {}
        self.deliveries: dict[str, dict[str, DeliveryRow]] = defaultdict(dict)
        self._records_before: dict[str, tuple[Any, ...]] = {}
        self._deliveries_before: dict[str, tuple[Any, ...]] = {}
        self._sent: dict[str, bytes] = {}
        self._unparked: set[tuple[str, str]] = set()
        self._resolved: dict[tuple[str, str], str] = {}

    @classmethod
    async def load(cls, connection: AsyncConnection, record_ids: Collection[str]) -> "Standing":
        """Lock these records, in the order of their ids, and read them and their deliveries; unknown ids are left out.

        Once per transaction: a second call would take its locks out of order.
        """
        standing, _ = await cls.load_and_ask(connection, record_ids)
        return standing

    @classmethod
    async def load_and_ask(
        cls, connection: AsyncConnection, record_ids: Collection[str], *calls: Call
    ) -> tuple["Standing", list[Rows]]:
        """`load`, and what these statements find once the records are locked."""
        standing = cls()
        return standing, (await standing._lock(connection, record_ids, *calls))

    async def load_more(self, connection: AsyncConnection, record_ids: Collection[str]) -> None:
        """Add records that turned up once the others were locked.

        Their locks are taken out of order: in the rare case that two processes wait for each other in a circle, the
        database ends one transaction, which is then done again.
        """
        await self._lock(connection, record_ids)

    def holds(self, record_id: str) -> bool:
        """Whether the record is known and locked."""
        return record_id in self.records

    def delivery(self, record_id: str, target: str) -> DeliveryRow | None:
        return self.deliveries[record_id].get(target)

    def route(self, record_id: str, target: str, key: str, currency: str, amount_minor: int) -> DeliveryRow | None:
        """The record's delivery to a target, made if there is none yet.

        None when the record has ended without one (a late copy of its message arrives here): it stays as it is.

        Raises:
          UnknownRecord: there is no such record.
        """
        if (found := self.delivery(record_id, target)) is not None:
            return found
        record = self.records.get(record_id)
        if record is None:
            raise UnknownRecord(f"record {record_id!r} was never accepted, so it can't be delivered to {target!r}")
        if record.state not in ALLOWED_FROM[IN_FLIGHT]:
            return None
        made = DeliveryRow(key, record_id, target, IN_FLIGHT, currency, amount_minor)
        if not self.deliveries[record_id]:
            self._left(record_id, NO_TARGET, record.state)
        self.deliveries[record_id][target] = made
        self._derive(record_id)
        return made

    def move(self, record_id: str, target: str | None, state: str, allowed_from: Collection[str] | None = None) -> bool:
        """Bring a record (with a target: its delivery) to a state, if it may come there from where it is.

        Returns whether it is there now. Of a record that has been routed only its deliveries move; a person's
        decision to discard the record as a whole means all of them. So does a first stage's that another record stands
        for it, when recovery has driven it again: that ends the deliveries for which no target was called.
        """
        record = self.records.get(record_id)
        if record is None:
            return False
        allowed = ALLOWED_FROM[state] if allowed_from is None else allowed_from
        if target:
            return self._move_delivery(record, target, state, allowed)
        routed = self.deliveries[record_id]
        if routed:
            ended = list(routed)
            if state in STOOD_FOR:
                ended = [name for name, delivery in routed.items() if delivery.intent_at is None]
                allowed = (IN_FLIGHT, PARKED)
            elif state != DISCARDED:
                return False
            moved = [self._move_delivery(record, name, state, allowed) for name in ended]
            return any(moved)
        if record.state not in allowed:
            return False
        if record.state != state:
            self._left(record_id, NO_TARGET, record.state)
            record.state = state
        return True

    def value(self, record_id: str, currency: str, amount_minor: int) -> None:
        """Note what a record is worth.

        Once routed, its deliveries say what it is worth, and a late copy of its message changes nothing; only a
        record that was never valued takes the amount still. That nothing is known now is no reason to forget.
        """
        record = self.records.get(record_id)
        if record is None or (currency == NO_CURRENCY and not amount_minor):
            return
        never_valued = record.currency == NO_CURRENCY and not record.amount_minor
        if never_valued or (record.state in ALLOWED_FROM[IN_FLIGHT] and not self.deliveries[record_id]):
            record.currency, record.amount_minor = currency, amount_minor

    def flag(self, record_id: str, flags: Sequence[str]) -> None:
        """Add remarks to a record."""
        record = self.records.get(record_id)
        if record is not None and flags:
            known = record.flags.split(",") if record.flags else []
            record.flags = ",".join(dict.fromkeys([*known, *flags]))[:flags_length_max]

    def state(self, record_id: str, target: str) -> str | None:
        """Where a delivery stands (no target: the record itself, as long as it has not been routed)."""
        if target:
            delivery = self.delivery(record_id, target)
            return delivery.state if delivery is not None else None
        return self.records[record_id].state if self.holds(record_id) and not self.deliveries[record_id] else None

    def in_doubt(self, record_id: str, target: str | None) -> bool:
        """Whether a call of the delivery (no target: of any) was announced and never answered."""
        return any(
            delivery.intent_at is not None and delivery.answered_at is None
            for delivery in self.deliveries[record_id].values()
            if target in (None, delivery.target)
        )

    def take_back_intent(self, record_id: str, target: str) -> None:
        """The target has refused for good: it was called, and it certainly holds nothing."""
        delivery = self.delivery(record_id, target)
        if delivery is not None and delivery.answered_at is None:
            delivery.intent_at = delivery.leased_until = None

    def keep_document(self, key: str, document: bytes) -> None:
        """Keep what a target was sent with its delivery, which has just been answered, when this is saved."""
        self._sent[key] = document

    def unpark(self, record_id: str, target: str) -> None:
        """Take a parked row away when this is saved."""
        self._unparked.add((record_id, target))

    def keep_parked(self, record_id: str, target: str) -> None:
        """It is parked again: its row, if there is one, is about to be written anew."""
        self._unparked.discard((record_id, target))

    def resolve_letters(self, record_id: str, target: str | None, but: str = "") -> None:
        """Close the open dead letters of a record (or delivery) when this is saved, all but one."""
        self._resolved[record_id, target or NO_TARGET] = but

    async def save(self, connection: AsyncConnection) -> None:
        """Write the difference. Called before new parkings and dead letters are inserted."""
        now = datetime.now(UTC)
        fresh: list[DeliveryRow] = []
        changed: list[DeliveryRow] = []
        answered: list[dict[str, Any]] = []
        for routed in self.deliveries.values():
            for row in routed.values():
                before = self._deliveries_before.get(row.posting_key)
                if before is None:
                    fresh.append(row)
                elif row.posting_key in self._sent:
                    answered.append(msgspec.structs.asdict(row) | {"document": self._sent[row.posting_key]})
                elif before != msgspec.structs.astuple(row):
                    changed.append(row)
        key, columns = "posting_key", _DELIVERY_CHANGES
        await insert_rows(connection, deliveries, fresh, conflict="ON CONFLICT DO NOTHING", changed_at=now)
        await update_rows(connection, deliveries, key, columns, changed, changed_at=now)
        await update_rows(connection, deliveries, key, (*columns, "document"), answered, changed_at=now)
        altered = [row for row in self.records.values() if self._records_before[row.id] != msgspec.structs.astuple(row)]
        await update_rows(connection, records, "id", _RECORD_CHANGES, altered, changed_at=now)
        await self._close_what_was_left(connection)

    async def _lock(self, connection: AsyncConnection, record_ids: Collection[str], *calls: Call) -> list[Rows]:
        """Lock records in the order of their ids; add them and their deliveries."""
        wanted = sorted(record_ids)
        _, record_rows, delivery_rows, *found = await ask(
            connection, BY_KEY, _LOCK_RECORDS(wanted), _READ_DELIVERIES(wanted), *calls
        )
        for values in record_rows:
            record = RecordRow(*values)
            self.records[record.id] = record
            self._records_before[record.id] = values
        convert = readers(connection, _DELIVERY_COLUMNS)
        for values in delivery_rows:
            own = list(values)
            for place, process in convert:
                own[place] = process(own[place])
            delivery = DeliveryRow(*own)
            self.deliveries[delivery.record_id][delivery.target] = delivery
            self._deliveries_before[delivery.posting_key] = tuple(own)
        return found

    def _move_delivery(self, record: RecordRow, target: str, state: str, allowed: Collection[str]) -> bool:
        delivery = self.delivery(record.id, target)
        if delivery is None:
            # Its message overtook the entry that was to announce the delivery.
            key = posting_key(target, record.document_type, record.source, record.subject, record.revision)
            delivery = self.route(record.id, target, key, record.currency, record.amount_minor)
        if delivery is None or delivery.state not in allowed:
            return False
        if delivery.state != state:
            self._left(record.id, target, delivery.state)
            delivery.state = state
            self._derive(record.id)
        return True

    def _left(self, record_id: str, target: str, state: str) -> None:
        """Nothing that waited for the state just left may stay behind."""
        if state == PARKED:
            self.unpark(record_id, target)
        elif state == DEAD:
            self.resolve_letters(record_id, target)

    def _derive(self, record_id: str) -> None:
        """A routed record is counted under the delivery that is furthest from done."""
        self.records[record_id].state = least_done(row.state for row in self.deliveries[record_id].values())

    async def _close_what_was_left(self, connection: AsyncConnection) -> None:
        if self._unparked:
            await connection.execute(
                delete(parked).where(parked.c.record_id == bindparam("of"), parked.c.target == bindparam("to")),
                [{"of": record_id, "to": target} for record_id, target in sorted(self._unparked)],
            )
        if self._resolved:
            await connection.execute(
                update(dead_letters)
                .where(
                    dead_letters.c.record_id == bindparam("of"),
                    func.coalesce(dead_letters.c.target, NO_TARGET) == bindparam("to"),
                    dead_letters.c.status == OPEN,
                    dead_letters.c.id != bindparam("but"),
                )
                .values(status=RESOLVED),
                [
                    {"of": record_id, "to": target, "but": but}
                    for (record_id, target), but in sorted(self._resolved.items())
                ],
            )


def least_done(states: Iterable[str]) -> str:
    """The state that a record with these deliveries is counted under."""
    return min(states, key=_LATENESS.__getitem__)
