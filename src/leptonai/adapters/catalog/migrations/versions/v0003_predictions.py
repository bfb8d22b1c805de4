"""The batches of the prediction log."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table and its indexes."""
    op.create_table(
        "prediction",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("service", sa.Text()),
        sa.Column("body", sa.Text(), nullable=False),
    )
    for name in ("name", "service"):
        op.create_index(f"prediction_{name}", "prediction", [name, "id"])


def downgrade() -> None:
    """Drop the table; the blobs stay, and no key opens them from here."""
    op.drop_table("prediction")
