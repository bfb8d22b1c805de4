"""Checks as user code asks for them: rules in, and whether the rows keep them."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Frozen
from leptonai.data import check_words
from leptonai.data.spec_check import Check, CheckReport
from leptonai.sdk import runs, show
from leptonai.sdk.specs import check, sent

if TYPE_CHECKING:
    from rich.console import RenderableType

    from leptonai.sdk.client import Client

Rule = str | Mapping[str, Any] | Frozen
"""A rule: a word such as ``range:age=0..120``, a dict, or a value of `leptonai.data.spec_check`."""


def rules_of(rules: Sequence[Rule], what: str = "checks") -> list[dict[str, Any]]:
    """Return rules as JSON data, checked. Raises `Invalid` that names the rule."""
    if isinstance(rules, (str, Mapping, Frozen)):
        rules = [rules]
    found = [_one(rule) for rule in rules]
    if found:
        check(Check, {"data": "any", "rules": found}, what)
    return found


def _one(rule: Rule) -> dict[str, Any]:
    if isinstance(rule, str):
        return check_words.rule(rule)
    return rule.model_dump(mode="json", exclude_none=True) if isinstance(rule, Frozen) else dict(rule)


def run(via: "Client", ref: str, rules: Sequence[Rule]) -> "Checked":
    """Hold a dataset version against rules."""
    spec = sent(check(Check, {"data": ref, "rules": rules_of(rules)}, "check"))
    record = runs.follow(via.http, runs.submit(via.http, "check", spec).id, title="check")
    return Checked(CheckReport.model_validate_json(via.http.download((record.result or {})["report"])))


class Checked:
    """Whether rows keep rules; true where all are kept."""

    def __init__(self, record: CheckReport):
        self.record = record

    @property
    def passed(self) -> bool:
        """Whether all rules are kept."""
        return self.record.passed

    def __bool__(self) -> bool:
        return self.passed

    def hold(self) -> None:
        """Raise `Invalid`, which names the first bad rows, unless all rules are kept."""
        broken = [rule for rule in self.record.rules if not rule.passed]
        if broken:
            fields = [FieldError(row["place"], rule.text) for rule in broken for row in rule.rows]
            raise Invalid(f"{self.record.data} does not keep its rules: {broken[0].text}", errors=fields)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return self.record.model_dump(mode="json")

    def json(self, indent: int | None = 2) -> str:
        """Return it as JSON."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    _HEAD = ("", "rule", "bad rows", "the first")

    def _rows(self) -> list[list[object]]:
        found: list[list[object]] = []
        for one in self.record.rules:
            said, _, rest = one.text.partition(": ")
            places = "; ".join(f"{row['place']}{_values(row['values'])}" for row in one.rows[:3])
            found.append(["kept" if one.passed else "BROKEN", said, one.bad, places or ("" if one.passed else rest)])
        return found

    def _title(self) -> str:
        kept = sum(rule.passed for rule in self.record.rules)
        return f"{self.record.data}: {kept} of {len(self.record.rules)} rules are kept by {self.record.rows:,} rows"

    def __rich__(self) -> "RenderableType":
        return show.titled(show.table(self._HEAD, self._rows()), self._title())

    def __repr__(self) -> str:
        return show.text(self.__rich__())

    def _repr_html_(self) -> str:
        return show.card(self._title(), {}, show.html_table(self._HEAD, self._rows()))


def _values(values: Mapping[str, Any]) -> str:
    return f" ({', '.join(f'{name} {show.number(value)}' for name, value in values.items())})" if values else ""
