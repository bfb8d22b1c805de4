"""Writes what a verb wants, with its row in the audit, in one transaction; asks the verb again when somebody was faster."""

from collections.abc import Callable, Sequence

from leptonai.core.errors import Busy, Conflict
from leptonai.core.nouns import Audit, Record
from leptonai.core.stages import Changes
from leptonai.server.context import Context

_TURNS = 5


def write(
    here: Context,
    verb: Callable[[], Changes],
    audit: Audit,
    *,
    more: Sequence[Record] = (),
    settled: Callable[[], bool] = lambda: False,
) -> Changes:
    """Write the changes that `verb` returns, `audit` and `more`: all or nothing. Return the changes.

    Where a `Conflict` meant that another writer was faster, `verb` looks again; `settled` says that this was a twin of the
    same request, which then is raised as it is. Raises `Conflict`, `Busy`.
    """
    for _ in range(_TURNS):
        changes = verb()
        try:
            here.catalog.change(*changes.change, add=(*changes.add, audit, *more), drop=changes.drop)
        except Conflict:
            if settled():
                raise
            continue
        return changes
    raise Busy(f"{audit.subject} changes too fast: try again", retry_after=1.0)
