"""Gates: the rules that versions of a model must keep."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the table and its index."""
    op.create_table(
        "gate",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_index("gate_name", "gate", ["name", "id"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("gate")
