"""What a check Run does, and how an import and a training hold their rows against rules."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter

from leptonai.core.stages import Handle
from leptonai.data.checking import Checker, columns_of, hold, key_hashes
from leptonai.data.origin import Origin
from leptonai.data.pieces import Version
from leptonai.data.spec_check import Check, CheckReport, ForeignKey, Rules

_RULES: TypeAdapter[Rules] = TypeAdapter(Rules)


def check(spec: Check, handle: Handle) -> dict[str, Any]:
    """Hold the rows against the rules; return the blob of a `CheckReport`, and whether all are kept."""
    report = _looked(spec.rules, spec.data, handle)
    stored = handle.blobs.write([report.model_dump_json().encode()])  # sealed: bad values are values of the dataset
    for rule in report.rules:
        handle.say(
            f"{'kept' if rule.passed else 'broken'}: {rule.text if rule.passed else rule.text.partition(' (')[0]}"
        )
    return {"report": stored.id, "rows": report.rows, "passed": report.passed}


def hold_rows(rules: Sequence[dict[str, Any]], data: str, handle: Handle) -> None:
    """Raise `Invalid`, which names the first rows, unless a dataset version keeps rules; for a Run that reads it."""
    hold(_looked(_RULES.validate_python(rules), data, handle).rules, data)


def _looked(rules: Rules, data: str, handle: Handle) -> CheckReport:
    names = sorted({name for rule in rules for name in columns_of(rule)})
    version = Version(data, handle)
    if set(names) & set(version.hidden):
        version = Version(data, handle, personal=True)
    checker = Checker(rules, keys(rules, handle), [c.name for c in version.columns if c.pii])
    known = [column.name for column in version.columns if column.name in names] or [version.columns[0].name]
    for table, numbers in version.pieces(known):
        checker.add(table, lambda row, numbers=numbers: f"row {int(numbers[row]) + 1:,}")  # type: ignore[misc]
        handle.progress(checker.rows, version.rows, "rows")
    reports = checker.finish()
    return CheckReport(data=data, rows=checker.rows, passed=all(one.passed for one in reports), rules=reports)


def keys(rules: Sequence[Any], handle: Handle) -> dict[int, np.ndarray]:
    """Return the hashes of the keys in the other dataset, by rule."""
    found = {}
    for at, rule in enumerate(rules):
        if isinstance(rule, ForeignKey):
            other = Version(rule.at or rule.to, handle)
            parts = [np.unique(key_hashes(table[rule.key])) for table, _ in other.pieces([rule.key])]
            found[at] = np.unique(np.concatenate(parts))
    return found


class Watch:
    """What an import shows its rows to, before they are a version."""

    def __init__(self, rules: Sequence[Any], handle: Handle, personal: Sequence[str], name: str):
        self._names = {name for rule in rules for name in columns_of(rule)}
        self._checker = Checker(rules, keys(rules, handle), personal)
        self._name = name

    def begin(self, base: str, handle: Handle) -> None:
        """Look at the rows that come first, unless a rule is of a personal column, which an import does not read again."""
        version = Version(base, handle)
        if not self._names & set(version.hidden):
            for table, numbers in version.pieces(sorted(self._names) or None):
                first = int(numbers[0]) + 1
                self._checker.add(table, lambda row, first=first: f"{base}, row {first + row:,}")  # type: ignore[misc]

    def see(self, table: pa.Table, origin: Origin) -> None:
        """Look at rows as they are stored."""
        self._checker.add(table, origin.place)

    def end(self) -> None:
        """Raise `Invalid`, which names the first rows, unless all rules are kept."""
        hold(self._checker.finish(), f"what is imported as {self._name}")
