"""Steps say when a record that waits on a retry tier is due again."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; older steps have none, and their records count as due."""
    op.add_column("steps", sa.Column("due_at", sa.DateTime(timezone=True)))
