"""Rows pass by the steps: as often as steps need to learn from what the ones before them leave, then once to be written."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from leptonai.data.cleaning.action import ROW, Action, Moved
from leptonai.data.cleaning.arrays import DenoiseImages, Smooth
from leptonai.data.cleaning.blanks import Blank
from leptonai.data.cleaning.groups import KAnonymous
from leptonai.data.cleaning.plan import Planned
from leptonai.data.cleaning.private import Anonymise
from leptonai.data.cleaning.rows import DropDuplicates, Resample, changed, dropped
from leptonai.data.cleaning.series import Series
from leptonai.data.cleaning.shape import Drop, Rename, Select
from leptonai.data.cleaning.values import (
    Bound,
    Cap,
    CastValues,
    DropMissing,
    ImputeNumbers,
    ImputeValues,
    WriteAlike,
)
from leptonai.data.personal import SHOWN
from leptonai.data.pieces import Version
from leptonai.data.spec_clean import StepReport

_EXAMPLES = 5
_LONGEST = 80  # characters of a value that an example shows
_KINDS: dict[str, type[Action]] = {
    "drop_duplicates": DropDuplicates, "outliers": Bound, "cast": CastValues, "text": WriteAlike,
    "denoise_images": DenoiseImages, "smooth": Smooth, "resample": Resample, "series": Series, "cap_categories": Cap, "drop": Drop,
    "select": Select, "rename": Rename, "blank": Blank,
}  # fmt: skip


def action(planned: Planned, pepper: bytes) -> Action:
    """Return what does a step; `pepper` is the key of keyed digests."""
    if planned.step.step in ("mask", "hash", "generalise"):
        return Anonymise(planned, pepper)
    if planned.step.step == "k_anonymity":
        return KAnonymous(planned)
    if planned.step.step == "impute":
        by = planned.step.by
        kind = DropMissing if by == "drop" else ImputeNumbers if by in ("mean", "median") else ImputeValues
        return kind(planned)
    return _KINDS[planned.step.step](planned)


class Flow:
    """The steps of one cleaning."""

    def __init__(
        self,
        planned: Sequence[Planned],
        version: Version,
        progress: Callable[[float, float, str], None],
        pepper: bytes = b"",
    ):
        self._actions = [action(one, pepper) for one in planned]
        self._version = version
        self._progress = progress
        self._accounts = [Account({n for n, c in {**one.before, **one.after}.items() if c.pii}) for one in planned]
        self._done = 0
        self._passes = 1 + sum(one.learns for one in self._actions)

    def learn(self, chosen: np.ndarray | None) -> None:
        """Pass the rows by until every step has learnt; from the rows `chosen` (bool, by number) where given."""
        takes = {name for one in self._actions for name in one.takes}
        while any(not one.ready for one in self._actions):
            learning, applied = self._next()
            for number, table in enumerate(self._tables(sorted(takes), applied, learning, chosen)):
                del table, number
            for at in learning:
                self._actions[at].learnt()
                self._actions[at].ready = True
        self._passes = self._done // max(1, self._version.rows) + 1

    def _next(self) -> tuple[set[int], set[int]]:
        """Return which steps can learn in the next pass, and which are applied in it.

        A step learns once nothing before it is left open that changes what it looks at.
        """
        learning: set[int] = set()
        applied: set[int] = set()
        open_columns: set[str] = set()
        open_rows = False
        for at, one in enumerate(self._actions):
            touched = bool(open_columns & set(one.takes))
            if one.ready and not touched:
                applied.add(at)
                continue
            if not one.ready and not touched and not open_rows:
                learning.add(at)
            open_columns |= set(one.writes)
            open_rows = open_rows or one.moves_rows
        return learning, applied

    def tables(self) -> Iterator[pa.Table]:
        """Yield the rows as all steps leave them, and keep the account."""
        for table in self._tables(None, set(range(len(self._actions))), set(), None, account=True):
            yield table.drop_columns([ROW])

    def _tables(
        self,
        names: Sequence[str] | None,
        applied: set[int],
        learning: set[int],
        chosen: np.ndarray | None,
        *,
        account: bool = False,
    ) -> Iterator[pa.Table]:
        for one in self._actions:
            one.begin()

        def push(at: int, table: pa.Table) -> pa.Table:
            for place in range(at, len(self._actions)):
                if not table.num_rows:
                    break
                one = self._actions[place]
                if place in learning:
                    one.learn(table if chosen is None else table.filter(pa.array(chosen[table[ROW].to_numpy()])))
                if place in applied:
                    table = self._apply(one, table, self._accounts[place] if account else None)
            return table

        for table, numbers in self._version.pieces(names):
            self._done += table.num_rows
            table = table.append_column(ROW, pa.array(numbers))
            yield push(0, table)
            self._progress(self._done, self._version.rows * max(self._passes, 1), "rows")
        for place, one in enumerate(self._actions):
            if place in applied and (moved := one.rest()) is not None:
                if account:
                    self._accounts[place].moved(moved, one.writes)
                yield push(place + 1, moved.after)

    def _apply(self, one: Action, table: pa.Table, account: "Account | None") -> pa.Table:
        if account is not None:
            account.came(table)
        if (kept := one.keep(table)) is not None:
            if account is not None:
                account.left_out(table, kept)
            return table if kept.all() else table.filter(pa.array(kept))
        moved = one.apply(table)
        if account is not None:
            account.moved(moved, one.writes)
        return moved.after

    def reports(self) -> tuple[StepReport, ...]:
        """Return what each step did."""
        return tuple(
            StepReport(
                step=one.step.model_dump(mode="json", exclude_defaults=True) | {"step": one.step.step},
                rows_before=account.before,
                rows_after=account.after,
                changed=account.changed,
                learnt={name: value for name, value in one.told().items() if name not in account.personal},
                examples=tuple(account.examples),
            )
            for one, account in zip(self._actions, self._accounts, strict=True)
        )


class Account:
    """What a step did: rows, values, and a few examples."""

    def __init__(self, personal: Collection[str] = ()) -> None:
        self.personal = personal  # columns whose values are not shown
        self.before = self.after = 0
        self.changed: dict[str, int] = {}
        self.examples: list[dict[str, Any]] = []

    def came(self, table: pa.Table) -> None:
        """Count rows that came to the step."""
        self.before += table.num_rows

    def left_out(self, table: pa.Table, kept: np.ndarray) -> None:
        """Count rows that stay, and show some that do not."""
        self.after += int(kept.sum())
        if len(self.examples) < _EXAMPLES and not kept.all():
            found = dropped(table, kept, _EXAMPLES - len(self.examples))
            self.examples += [
                {**one, "left_out": {name: self._shown(name, value) for name, value in one["left_out"].items()}}
                for one in found
            ]

    def moved(self, moved: Moved, writes: Sequence[str]) -> None:
        """Count the values that are others than before, and show some of them."""
        after, before = moved.after, moved.before
        self.after += after.num_rows
        if before is None:
            return
        for name in (name for name in writes if name in after.column_names):
            if name not in before.column_names:
                if pa.types.is_boolean(after[name].type):
                    self._count(name, np.asarray(after[name].to_numpy(), bool), None, after)
            else:
                self._count(name, changed(before[name], after[name]), before, after)

    def _count(self, name: str, which: np.ndarray, before: pa.Table | None, after: pa.Table) -> None:
        count = int(which.sum())
        if not count:
            return
        self.changed[name] = self.changed.get(name, 0) + count
        own = sum(one.get("column") == name for one in self.examples)
        for row in np.flatnonzero(which)[: max(0, min(2 - own, _EXAMPLES - len(self.examples)))].tolist():
            number = after[ROW][row].as_py()
            self.examples.append(
                {
                    "row": None if number is None else number + 1,
                    "column": name,
                    **({"before": self._shown(name, before[name][row].as_py())} if before is not None else {}),
                    "after": self._shown(name, after[name][row].as_py()),
                }
            )

    def _shown(self, name: str, value: Any) -> Any:
        return SHOWN if name in self.personal and value is not None else _shown(value)


def _shown(value: Any) -> Any:
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
