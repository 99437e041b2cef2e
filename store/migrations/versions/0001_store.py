"""The store: records and their deliveries, steps, dead letters, outbox, and the reference data."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)
ORDER = sa.String(200).with_variant(sa.String(200, collation="C"), "postgresql")


def upgrade() -> None:
    """Create every table of store/tables.py as it is at this revision."""
    _create_intake()
    _create_records()
    _create_queues()
    _create_people()
    _create_reference()


def _create_intake() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("source", sa.String(100), nullable=False),
        sa.Column("document_type", sa.String(60), nullable=False),
        sa.Column("lane", sa.String(10), nullable=False),
        sa.Column("rows", NUMBER, nullable=False),
        sa.Column("filtered", NUMBER, nullable=False),
        sa.Column("read", NUMBER, nullable=False),
        sa.Column("accepted", NUMBER, nullable=False),
        sa.Column("seen_before", NUMBER, nullable=False),
        sa.Column("rejected", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "rejects",
        sa.Column("run_id", sa.String(40), nullable=False),
        sa.Column("row_number", NUMBER, nullable=False),
        sa.Column("document_type", sa.String(60), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("column", sa.String(200)),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("raw", sa.Text()),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("fingerprint", sa.String(40), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"]),
        sa.PrimaryKeyConstraint("run_id", "row_number"),
        sa.UniqueConstraint("fingerprint"),
    )


def _create_records() -> None:
    op.create_table(
        "records",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("source", sa.String(100), nullable=False),
        sa.Column("document_type", sa.String(60), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("revision", sa.String(200), nullable=False),
        sa.Column("revision_order", ORDER, nullable=False),
        sa.Column("fingerprint", sa.String(40), nullable=False),
        sa.Column("business_key", sa.String(40)),
        sa.Column("worker_day", sa.String(220)),
        sa.Column("hours", sa.String(20)),
        sa.Column("lane", sa.String(10), nullable=False),
        sa.Column("region", sa.String(40)),
        sa.Column("correlation_id", sa.String(60), nullable=False),
        sa.Column("run_id", sa.String(40)),
        sa.Column("row_number", NUMBER),
        sa.Column("accepted_at", INSTANT, nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("changed_at", INSTANT, nullable=False),
        sa.Column("flags", sa.String(200)),
        sa.Column("payload", sa.LargeBinary()),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"]),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("id"),
        sa.UniqueConstraint("subject", "source", "document_type", "revision", name="uq_records_source_key_revision"),
    )
    op.create_index("ix_records_balance", "records", ["document_type", "currency", "state"])
    op.create_index("ix_records_business_key", "records", ["business_key"])
    op.create_index("ix_records_state_changed", "records", ["state", "changed_at"])
    op.create_index("ix_records_worker_day", "records", ["worker_day"])
    op.create_table(
        "deliveries",
        sa.Column("posting_key", sa.String(600), nullable=False),
        sa.Column("record_id", sa.String(40), nullable=False),
        sa.Column("target", sa.String(60), nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("intent_at", INSTANT),
        sa.Column("leased_until", INSTANT),
        sa.Column("answered_at", INSTANT),
        sa.Column("target_id", sa.String(200)),
        sa.Column("replaces", sa.String(600)),
        sa.Column("document", sa.LargeBinary),
        sa.Column("changed_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["record_id"], ["records.id"]),
        sa.PrimaryKeyConstraint("posting_key"),
    )
    op.create_index("ix_deliveries_record", "deliveries", ["record_id"])
    op.create_index("ix_deliveries_target_state", "deliveries", ["target", "state"])
    op.create_table(
        "steps",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("record_id", sa.String(40), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("stage", sa.String(40), nullable=False),
        sa.Column("outcome", sa.String(20), nullable=False),
        sa.Column("target", sa.String(60)),
        sa.Column("code", sa.String(40)),
        sa.Column("detail", sa.Text()),
        sa.Column("message_id", sa.String(60)),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(100)),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("ix_steps_record", "steps", ["record_id"])


def _create_queues() -> None:
    op.create_table(
        "outbox",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("stage", sa.String(40), nullable=False),
        sa.Column("lane", sa.String(10), nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_table(
        "parked",
        sa.Column("record_id", sa.String(40), nullable=False),
        sa.Column("target", sa.String(60), nullable=False),
        sa.Column("key", sa.String(300), nullable=False),
        sa.Column("stage", sa.String(40), nullable=False),
        sa.Column("lane", sa.String(10), nullable=False),
        sa.Column("parked_at", INSTANT, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("record_id", "target"),
    )
    op.create_index("ix_parked_key", "parked", ["key"])


def _create_people() -> None:
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.String(60), nullable=False),
        sa.Column("record_id", sa.String(40)),
        sa.Column("target", sa.String(60)),
        sa.Column("status", sa.String(12), nullable=False),
        sa.Column("stage", sa.String(40), nullable=False),
        sa.Column("code", sa.String(40), nullable=False),
        sa.Column("category", sa.String(12), nullable=False),
        sa.Column("owner", sa.String(40), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("cause", sa.String(300), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("requeues", sa.Integer(), nullable=False),
        sa.Column("first_at", INSTANT, nullable=False),
        sa.Column("last_at", INSTANT, nullable=False),
        sa.Column("source", sa.String(100), nullable=False),
        sa.Column("document_type", sa.String(60), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("revision", sa.String(200), nullable=False),
        sa.Column("lane", sa.String(10), nullable=False),
        sa.Column("legal_entity", sa.String(40)),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("letter", sa.LargeBinary()),
        sa.Column("headers", sa.JSON()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_dead_letters_record", "dead_letters", ["record_id", "status"])
    op.create_index("ix_dead_letters_status_code", "dead_letters", ["status", "code"])
    op.create_table(
        "audit",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("record_id", sa.String(40)),
        sa.Column("dead_letter_id", sa.String(60)),
        sa.Column("detail", sa.JSON()),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("ix_audit_record", "audit", ["record_id"])


def _create_reference() -> None:
    op.create_table(
        "reference_clock",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "masters",
        sa.Column("document_type", sa.String(60), nullable=False),
        sa.Column("canonical_id", sa.String(200), nullable=False),
        sa.Column("reference", sa.String(600), nullable=False),
        sa.Column("revision_order", ORDER, nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("version", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("document_type", "canonical_id"),
    )
    op.create_index("ix_masters_reference", "masters", ["reference"])
    op.create_index("ix_masters_version", "masters", ["version"])
    op.create_table(
        "mappings",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(100), nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("value", sa.String(200), nullable=False),
        sa.Column("valid_from", sa.Date()),
        sa.Column("valid_to", sa.Date()),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("version", NUMBER, nullable=False),
        sa.Column("changed_by", sa.String(200), nullable=False),
        sa.Column("changed_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("ix_mappings_key", "mappings", ["kind", "key"])
    op.create_index("ix_mappings_version", "mappings", ["version"])
    op.create_table(
        "periods",
        sa.Column("legal_entity", sa.String(40), nullable=False),
        sa.Column("name", sa.String(10), nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.Column("version", NUMBER, nullable=False),
        sa.Column("changed_by", sa.String(200), nullable=False),
        sa.Column("changed_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("legal_entity", "name"),
    )
    op.create_index("ix_periods_version", "periods", ["version"])
    op.execute("INSERT INTO reference_clock (id, version) VALUES (1, 0)")
