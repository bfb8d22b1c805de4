"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# kind -> (columns beside id, rev and body; the columns that are unique together)
KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "dataset": (("name", "version", "digest"), (), ("name", "version")),
    "run": (("name", "stage", "state", "site", "parent"), ("epoch", "lease"), ()),
    "model": (("name", "version", "run", "digest"), (), ("name", "version")),
    "alias": (("name", "model"), (), ()),
    "service": (("name", "site"), (), ("name",)),
    "site": (("name",), (), ("name",)),
    "key": (("name",), (), ("name",)),
    "blob": (("name", "owner"), (), ()),
    "audit": (("name", "subject"), (), ()),
    "receipt": (("name",), (), ()),
}
NUMBERS = {"version": sa.Integer, "epoch": sa.Integer, "lease": sa.Float}

# A Run that ended is never written again, whoever asks: the database itself holds it.
SQLITE_TRIGGER = """
CREATE TRIGGER run_ends_once BEFORE UPDATE ON run
WHEN OLD.state IN ('succeeded', 'failed', 'cancelled')
BEGIN SELECT RAISE(ABORT, 'run_ended'); END
"""
POSTGRES_FUNCTION = """
CREATE FUNCTION run_ended() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'run_ended' USING ERRCODE = 'integrity_constraint_violation'; END $$
"""
POSTGRES_TRIGGER = """
CREATE TRIGGER run_ends_once BEFORE UPDATE ON run FOR EACH ROW
WHEN (OLD.state IN ('succeeded', 'failed', 'cancelled')) EXECUTE FUNCTION run_ended()
"""


def upgrade() -> None:
    """Make the tables, their indexes, and the trigger that lets a Run end once."""
    for kind, (indexed, more, unique) in KINDS.items():
        op.create_table(
            kind,
            sa.Column("id", sa.Text(), primary_key=True),
            sa.Column("rev", sa.Integer(), nullable=False),
            *(sa.Column(name, NUMBERS.get(name, sa.Text)()) for name in (*indexed, *more)),
            sa.Column("body", sa.Text(), nullable=False),
            *([sa.UniqueConstraint(*unique, name=f"{kind}_unique")] if unique else []),
        )
        for name in indexed:
            op.create_index(f"{kind}_{name}", kind, [name, "id"])
    op.create_index("run_queue", "run", ["site", "state", "id"])
    op.create_index("run_lease", "run", ["site", "state", "lease"])
    op.create_table(
        "event",
        sa.Column("seq", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_index("event_run", "event", ["run", "seq"])
    if op.get_bind().dialect.name == "sqlite":
        op.execute(SQLITE_TRIGGER)
    else:
        op.execute(POSTGRES_FUNCTION)
        op.execute(POSTGRES_TRIGGER)


def downgrade() -> None:
    """Drop everything."""
    for kind in (*KINDS, "event"):
        op.drop_table(kind)
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION run_ended")
