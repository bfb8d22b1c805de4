"""Tags of dataset versions."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table and its indexes."""
    op.create_table(
        "tag",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("dataset", sa.Text()),
        sa.Column("body", sa.Text(), nullable=False),
    )
    for name in ("name", "dataset"):
        op.create_index(f"tag_{name}", "tag", [name, "id"])


def downgrade() -> None:
    """Drop the table; the versions stay."""
    op.drop_table("tag")
