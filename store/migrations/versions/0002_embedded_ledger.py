"""The embedded ledger: accounts, journal entries and lines, periods."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create every table of connectors/ledger/tables.py as it is at this revision."""
    op.create_table(
        "ledger_accounts",
        sa.Column("code", sa.String(20), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("type", sa.String(12), nullable=False),
        sa.PrimaryKeyConstraint("code"),
    )
    op.create_table(
        "ledger_periods",
        sa.Column("legal_entity", sa.String(200), nullable=False),
        sa.Column("name", sa.String(7), nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("legal_entity", "name"),
    )
    _create_entries()
    _create_lines()


def _create_entries() -> None:
    op.create_table(
        "ledger_entries",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("reference", sa.String(620), nullable=False),
        sa.Column("document_type", sa.String(60), nullable=False),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("period", sa.String(7), nullable=False),
        sa.Column("legal_entity", sa.String(200), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("entity_currency", sa.String(3), nullable=False),
        sa.Column("entity_amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("memo", sa.Text(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("posted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reversed_by", NUMBER),
        sa.Column("reverses", NUMBER),
        sa.Column("replaced_by", NUMBER),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("reference"),
    )
    op.create_index("ix_ledger_entries_entity_period", "ledger_entries", ["legal_entity", "period"])


def _create_lines() -> None:
    op.create_table(
        "ledger_lines",
        sa.Column("entry", NUMBER, nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("account", sa.String(20), nullable=False),
        sa.Column("debit_minor", sa.BigInteger(), nullable=False),
        sa.Column("credit_minor", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.String(200)),
        sa.Column("project", sa.String(200)),
        sa.Column("customer", sa.String(200)),
        sa.Column("cost_center", sa.String(200)),
        sa.CheckConstraint(
            "(debit_minor > 0 AND credit_minor = 0) OR (credit_minor > 0 AND debit_minor = 0)",
            name="ck_ledger_lines_one_side",
        ),
        sa.ForeignKeyConstraint(["entry"], ["ledger_entries.number"]),
        sa.PrimaryKeyConstraint("entry", "line"),
    )
    op.create_index("ix_ledger_lines_account", "ledger_lines", ["account"])
