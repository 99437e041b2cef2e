"""The embedded ledger's own tables, on one page; `store/migrations` creates them, a test holds the two together.

Amounts are whole minor units (cents) beside their currency, so that sums are exact in every database.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.types import TypeDecorator

metadata = MetaData()

#: The longest reference a document may bring; a reversal adds its suffix.
reference_length_max = 600
text_length_max = 200


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


#: SQLite only numbers rows by itself in a column of type INTEGER.
_Number = BigInteger().with_variant(Integer, "sqlite")

accounts = Table(
    "ledger_accounts",
    metadata,
    Column("code", String(20), primary_key=True),
    Column("name", String(text_length_max), nullable=False),
    Column("type", String(12), nullable=False),
)

#: One row per journal entry. `reference` is the poster's own key: the reason why nothing is ever posted twice.
#: `reversed_by`, `reverses` and `replaced_by` are numbers of other entries.
entries = Table(
    "ledger_entries",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("reference", String(reference_length_max + 20), nullable=False, unique=True),
    Column("document_type", String(60), nullable=False),
    Column("date", Date, nullable=False),
    Column("period", String(7), nullable=False),
    Column("legal_entity", String(text_length_max), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("entity_currency", String(3), nullable=False),
    Column("entity_amount_minor", BigInteger, nullable=False),
    Column("memo", Text, nullable=False),
    Column("body", JSON, nullable=False),
    Column("posted_at", Instant, nullable=False),
    Column("reversed_by", _Number),
    Column("reverses", _Number),
    Column("replaced_by", _Number),
    Index("ix_ledger_entries_entity_period", "legal_entity", "period"),
)

#: Debits and credits in the legal entity's currency; exactly one of the two, never negative.
lines = Table(
    "ledger_lines",
    metadata,
    Column("entry", ForeignKey("ledger_entries.number"), primary_key=True),
    Column("line", Integer, primary_key=True),
    Column("account", String(20), nullable=False),
    Column("debit_minor", BigInteger, nullable=False),
    Column("credit_minor", BigInteger, nullable=False),
    Column("worker", String(text_length_max)),
    Column("project", String(text_length_max)),
    Column("customer", String(text_length_max)),
    Column("cost_center", String(text_length_max)),
    CheckConstraint(
        "(debit_minor > 0 AND credit_minor = 0) OR (credit_minor > 0 AND debit_minor = 0)",
        name="ck_ledger_lines_one_side",
    ),
    Index("ix_ledger_lines_account", "account"),
)

#: Months in which something was posted or decided; posting locks the row it relies on. `*` stands for every entity.
periods = Table(
    "ledger_periods",
    metadata,
    Column("legal_entity", String(text_length_max), primary_key=True),
    Column("name", String(7), primary_key=True),
    Column("closed", Boolean, nullable=False),
)
