"""Every table of the store, on one page. Migrations create them; a test holds the two against each other.

Amounts are whole minor units (cents) beside their currency, so that sums are exact in every database.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator

metadata = MetaData()


class Instant(TypeDecorator[datetime]):
    """A moment in UTC, aware on both sides; SQLite, which keeps no zone, is given UTC and read as UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


#: Sorts by code point in every database, as Python does; a locale's collation would not.
_Order = String(200).with_variant(String(200, collation="C"), "postgresql")

#: SQLite only numbers rows by itself in a column of type INTEGER.
_Number = BigInteger().with_variant(Integer, "sqlite")

#: One run of `ingest` over one file (or one webhook call): the counters are written in the records' own transaction.
runs = Table(
    "runs",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("started_at", Instant, nullable=False),
    Column("finished_at", Instant),
    Column("actor", String(200), nullable=False),
    Column("origin", Text, nullable=False),
    Column("source", String(100), nullable=False),
    Column("document_type", String(60), nullable=False),
    Column("lane", String(10), nullable=False),
    Column("rows", _Number, nullable=False, default=0),
    Column("filtered", _Number, nullable=False, default=0),
    Column("read", _Number, nullable=False, default=0),
    Column("accepted", _Number, nullable=False, default=0),
    Column("seen_before", _Number, nullable=False, default=0),
    Column("rejected", _Number, nullable=False, default=0),
)

#: Rows refused at the door: not even a record.
rejects = Table(
    "rejects",
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True),
    Column("row_number", _Number, primary_key=True),
    Column("document_type", String(60), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("amount_minor", BigInteger, nullable=False, default=0),
    Column("column", String(200)),
    Column("reason", Text, nullable=False),
    Column("raw", Text),
    Column("at", Instant, nullable=False),
    #: The same refused row read again (same origin content) is counted once: by its fingerprint.
    Column("fingerprint", String(40), nullable=False, unique=True),
)

records = Table(
    "records",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("source", String(100), nullable=False),
    Column("document_type", String(60), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("revision", String(200), nullable=False),
    Column("revision_order", _Order, nullable=False),
    Column("fingerprint", String(40), nullable=False),
    Column("business_key", String(40)),
    Column("worker_day", String(220)),
    Column("hours", String(20)),
    Column("lane", String(10), nullable=False),
    Column("region", String(40)),
    Column("correlation_id", String(60), nullable=False),
    Column("run_id", ForeignKey("runs.id")),
    Column("row_number", _Number),
    Column("accepted_at", Instant, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("amount_minor", BigInteger, nullable=False, default=0),
    Column("state", String(12), nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("flags", String(200)),
    Column("payload", LargeBinary),
    # The subject comes first, so that the same index finds a record by the id that people know it by.
    UniqueConstraint("subject", "source", "document_type", "revision", name="uq_records_source_key_revision"),
    Index("ix_records_balance", "document_type", "currency", "state"),
    Index("ix_records_state_changed", "state", "changed_at"),
    Index("ix_records_business_key", "business_key"),
    Index("ix_records_worker_day", "worker_day"),
)

#: One record on its way to one target. `intent_at` without `answered_at` is a call whose outcome is unknown.
deliveries = Table(
    "deliveries",
    metadata,
    Column("posting_key", String(600), primary_key=True),
    Column("record_id", ForeignKey("records.id"), nullable=False),
    Column("target", String(60), nullable=False),
    Column("state", String(12), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("amount_minor", BigInteger, nullable=False, default=0),
    Column("intent_at", Instant),
    Column("leased_until", Instant),
    Column("answered_at", Instant),
    Column("target_id", String(200)),
    Column("replaces", String(600)),
    #: What was sent, encoded: what the target holds is compared with this, whatever has changed here since.
    Column("document", LargeBinary),
    Column("changed_at", Instant, nullable=False),
    Index("ix_deliveries_record", "record_id"),
    Index("ix_deliveries_target_state", "target", "state"),
)

#: The life of every record, append-only. A step delivered twice stands here twice: that is what happened.
steps = Table(
    "steps",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("record_id", String(40), nullable=False),
    Column("at", Instant, nullable=False),
    Column("stage", String(40), nullable=False),
    Column("outcome", String(20), nullable=False),
    Column("target", String(60)),
    Column("code", String(40)),
    Column("detail", Text),
    Column("message_id", String(60)),
    Column("attempt", Integer, nullable=False, default=1),
    Column("worker", String(100)),
    #: Until when a retried record waits on the broker: nobody should miss it before.
    Column("due_at", Instant),
    Index("ix_steps_record", "record_id"),
)

#: Messages that are owed to the broker: written with what they announce, deleted when confirmed.
outbox = Table(
    "outbox",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("created_at", Instant, nullable=False),
    Column("stage", String(40), nullable=False),
    Column("lane", String(10), nullable=False),
    Column("records", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

parked = Table(
    "parked",
    metadata,
    Column("record_id", String(40), primary_key=True),
    Column("target", String(60), primary_key=True, default=""),
    Column("key", String(300), nullable=False),
    Column("stage", String(40), nullable=False),
    Column("lane", String(10), nullable=False),
    Column("parked_at", Instant, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("ix_parked_key", "key"),
)

#: The archive of dead letters. `status`: open, requeued, resolved, discarded. Nothing here expires.
dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", String(60), primary_key=True),
    Column("record_id", String(40)),
    Column("target", String(60)),
    Column("status", String(12), nullable=False),
    Column("stage", String(40), nullable=False),
    Column("code", String(40), nullable=False),
    Column("category", String(12), nullable=False),
    Column("owner", String(40), nullable=False),
    Column("message", Text, nullable=False),
    Column("cause", String(300), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("requeues", Integer, nullable=False, default=0),
    Column("first_at", Instant, nullable=False),
    Column("last_at", Instant, nullable=False),
    Column("source", String(100), nullable=False),
    Column("document_type", String(60), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("revision", String(200), nullable=False),
    Column("lane", String(10), nullable=False),
    Column("legal_entity", String(40)),
    Column("currency", String(3), nullable=False),
    Column("amount_minor", BigInteger, nullable=False, default=0),
    Column("letter", LargeBinary),
    Column("headers", JSON),
    Index("ix_dead_letters_status_code", "status", "code"),
    # With the status, or SQLite looks for the open letter of a record among all open ones.
    Index("ix_dead_letters_record", "record_id", "status"),
)

#: What people did: who, when, why. `detail` keeps the filter of a requeue, the original of an edit.
audit = Table(
    "audit",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("at", Instant, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("action", String(40), nullable=False),
    Column("reason", Text),
    Column("record_id", String(40)),
    Column("dead_letter_id", String(60)),
    Column("detail", JSON),
    Index("ix_audit_record", "record_id"),
)

#: One row: the version of the reference data. Writers take its row lock, so versions become visible in order.
reference_clock = Table(
    "reference_clock",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("version", _Number, nullable=False),
)

#: Master data by canonical id, as the stages see it (`document` is the encoded contract).
masters = Table(
    "masters",
    metadata,
    Column("document_type", String(60), primary_key=True),
    Column("canonical_id", String(200), primary_key=True),
    Column("reference", String(600), nullable=False),
    Column("revision_order", _Order, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("version", _Number, nullable=False),
    Index("ix_masters_version", "version"),
    Index("ix_masters_reference", "reference"),
)

#: The cross-reference: effective-dated values by kind and key.
mappings = Table(
    "mappings",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("kind", String(100), nullable=False),
    Column("key", String(200), nullable=False),
    Column("value", String(200), nullable=False),
    Column("valid_from", Date),
    Column("valid_to", Date),
    Column("deleted", Boolean, nullable=False, default=False),
    Column("version", _Number, nullable=False),
    Column("changed_by", String(200), nullable=False),
    Column("changed_at", Instant, nullable=False),
    Index("ix_mappings_version", "version"),
    Index("ix_mappings_key", "kind", "key"),
)

#: Targets that somebody has set up. `options` and `limits` hold what was said, not the defaults; `secrets` the names of
#: the environment variables that hold them, never a value.
targets = Table(
    "targets",
    metadata,
    Column("name", String(60), primary_key=True),
    Column("kind", String(60), nullable=False),
    Column("options", JSON, nullable=False),
    Column("secrets", JSON, nullable=False),
    Column("limits", JSON, nullable=False),
    Column("version", _Number, nullable=False),
    Column("created_by", String(200), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("changed_by", String(200), nullable=False),
    Column("changed_at", Instant, nullable=False),
)

#: Accounting periods that somebody has closed (or reopened); a month without a row is open.
periods = Table(
    "periods",
    metadata,
    Column("legal_entity", String(40), primary_key=True),
    Column("name", String(10), primary_key=True),
    Column("closed", Boolean, nullable=False),
    Column("version", _Number, nullable=False),
    Column("changed_by", String(200), nullable=False),
    Column("changed_at", Instant, nullable=False),
    Index("ix_periods_version", "version"),
)
