"""Every move of a Run is in its series; long series; listing by several fields stays quick."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# The event is written by the database, in the transaction of the move: no path can forget it. A new attempt at a Run whose
# agent was lost is a move too, though the state stays `running`. The time is the database's: its JSON functions are kept away
# from the body, in which PostgreSQL would refuse a \u0000.
SQLITE_EVENT = """
INSERT INTO event (run, stream, body) VALUES (NEW.id, 'state', json_object(
    'stream', 'state',
    'body', json_object('state', NEW.state, 'epoch', NEW.epoch),
    'time', strftime('%Y-%m-%dT%H:%M:%fZ', 'now')));
"""
SQLITE_TRIGGERS = (
    f"CREATE TRIGGER run_added AFTER INSERT ON run BEGIN {SQLITE_EVENT} END",
    f"CREATE TRIGGER run_moved AFTER UPDATE ON run WHEN OLD.state <> NEW.state OR OLD.epoch <> NEW.epoch BEGIN {SQLITE_EVENT} END",
)
POSTGRES_FUNCTION = """
CREATE FUNCTION run_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO event (run, stream, body) VALUES (NEW.id, 'state', json_build_object(
        'stream', 'state',
        'body', json_build_object('state', NEW.state, 'epoch', NEW.epoch),
        'time', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))::text);
    RETURN NULL;
END $$
"""
POSTGRES_TRIGGERS = (
    "CREATE TRIGGER run_added AFTER INSERT ON run FOR EACH ROW EXECUTE FUNCTION run_moved()",
    "CREATE TRIGGER run_moved AFTER UPDATE ON run FOR EACH ROW "
    "WHEN (OLD.state <> NEW.state OR OLD.epoch <> NEW.epoch) EXECUTE FUNCTION run_moved()",
)

# How many rows share a value, as SQLite's planner is to believe it (https://sqlite.org/fileformat2.html#stat1tab). Without
# it SQLite takes all indexes for equally good, and looks for one name among a hundred thousand Runs by their state. Given
# once and never measured, so that the plan of a query never changes while a catalog grows; `noskipscan`, because few Sites in
# a catalog do not make an index that begins with the Site good for queries that name none.
STATISTICS = {
    "run_parent": "1000000 100 1",
    "run_name": "1000000 1000 1",
    "run_stage": "1000000 100000 1",
    "run_state": "1000000 100000 1",
    "run_site": "1000000 150000 1",
    "run_stage_state": "1000000 100000 10000 1 noskipscan",
    "run_queue": "1000000 150000 10000 1 noskipscan",
    "run_lease": "1000000 150000 10000 1 noskipscan",
}


def upgrade() -> None:
    """Add the triggers, the index by stage and state, and what lets the planner choose; let the series of all Runs grow."""
    op.create_index("run_stage_state", "run", ["stage", "state", "id"])
    if op.get_bind().dialect.name == "sqlite":  # its integers have 64 bits already
        for trigger in SQLITE_TRIGGERS:
            op.execute(trigger)
        op.execute("ANALYZE site")  # makes the table of statistics
        op.execute("DELETE FROM sqlite_stat1")
        table = sa.table("sqlite_stat1", sa.column("tbl"), sa.column("idx"), sa.column("stat"))
        op.bulk_insert(table, [{"tbl": "run", "idx": name, "stat": stat} for name, stat in STATISTICS.items()])
        op.execute("ANALYZE sqlite_schema")  # has this connection read them
    else:
        op.execute(POSTGRES_FUNCTION)
        for trigger in POSTGRES_TRIGGERS:
            op.execute(trigger)
        op.execute("ALTER TABLE event ALTER COLUMN seq TYPE bigint")
        op.execute("ALTER SEQUENCE event_seq_seq AS bigint")


def downgrade() -> None:
    """Take it back; a sequence that grew long stays so."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER run_added")
        op.execute("DROP TRIGGER run_moved")
        op.execute("DELETE FROM sqlite_stat1")
    else:
        op.execute("DROP TRIGGER run_added ON run")
        op.execute("DROP TRIGGER run_moved ON run")
        op.execute("DROP FUNCTION run_moved")
    op.drop_index("run_stage_state", "run")
