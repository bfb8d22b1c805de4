"""What the server answers at once about checks."""

from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from leptonai.core import personal
from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Dataset
from leptonai.core.stages import Desk, Plan
from leptonai.data.exactly import exact
from leptonai.data.spec_check import Check, ForeignKey, Rules

_RULES: TypeAdapter[Rules] = TypeAdapter(Rules)


def prepare_check(spec: Check, desk: Desk) -> Plan:
    """Make the versions exact, and see that the columns are there. Raises `Invalid`, `NotFound` or `Denied`."""
    data, ref = exact(spec.data, desk)
    rules, opens = resolved(spec.rules, desk, data)
    found = spec.model_copy(update={"data": ref, "rules": rules})
    return Plan(found.model_dump(mode="json"), opens, "data", f"check-{data.name}"[:100])


def resolved(rules: Sequence[Any], desk: Desk, data: Dataset | None) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """Return rules whose other datasets are exact, and the blobs that holding `data` against them takes.

    `data` is None for rows that are yet to be imported. Rules may be JSON data. Raises `Invalid`, `NotFound` or `Denied`.
    """
    try:
        known = _RULES.validate_python(tuple(rules))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, ("checks", *first["loc"])))
        raise Invalid(f"{where}: {first['msg']}", errors=[FieldError(where, first["msg"])]) from error
    found: list[Any] = []
    used: set[str] = set()
    opens: list[str] = []
    for at, rule in enumerate(known):
        names = (*getattr(rule, "columns", ()), *filter(None, (getattr(rule, "column", None),)))
        used |= set(names)
        if data is not None:
            _has(names, data, f"checks.{at}")
        if isinstance(rule, ForeignKey):
            other, ref = exact(rule.to, desk)
            _has((rule.key,), other, f"checks.{at}.key")
            opens += personal.opens(other, desk, (rule.key,))
            rule = rule.model_copy(update={"at": ref})
        found.append(rule)
    if data is not None:
        opens += personal.opens(data, desk, used)
    return tuple(found), tuple(dict.fromkeys(opens))


def train_rules(
    rules: Sequence[dict[str, Any]], desk: Desk, data: Dataset
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return the rules of a training as JSON data with exact versions, and the blobs that they take."""
    found, opens = resolved(rules, desk, data)
    return [rule.model_dump(mode="json") for rule in found], opens


def _has(names: Sequence[str], data: Dataset, where: str) -> None:
    known = [column.name for column in data.columns]
    for name in names:
        if name not in known:
            listed = ", ".join(known[:30])
            raise Invalid(
                f"{where}: {data.name}@v{data.version} has no column {name!r}: its columns are {listed}",
                errors=[FieldError(where, f"one of {listed}")],
            )
