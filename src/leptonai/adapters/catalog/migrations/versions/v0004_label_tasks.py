"""Label tasks, and what people answered."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_TABLES = {"labeltask": ("name",), "labelanswer": ("name", "task")}


def upgrade() -> None:
    """Make the tables and their indexes."""
    for table, indexed in _TABLES.items():
        op.create_table(
            table,
            sa.Column("id", sa.Text(), primary_key=True),
            sa.Column("rev", sa.Integer(), nullable=False),
            *(sa.Column(name, sa.Text()) for name in indexed),
            sa.Column("body", sa.Text(), nullable=False),
        )
        for name in indexed:
            op.create_index(f"{table}_{name}", table, [name, "id"])


def downgrade() -> None:
    """Drop the tables."""
    for table in _TABLES:
        op.drop_table(table)
