"""Gates: rules that a version must keep before an alias such as ``champion`` may point at it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from leptonai.core.refs import check_name
from leptonai.registry.spec import SetGate
from leptonai.sdk import client
from leptonai.sdk.specs import check, sent

if TYPE_CHECKING:
    from leptonai.sdk.registry import ModelVersion


def set_gate(
    model: str, rules: Sequence[str], *, aliases: Sequence[str] = ("champion",), data: str | None = None
) -> dict[str, Any]:
    """Keep rules with the name of a model, and return them as they stand.

    A rule is a line: ``f1 >= 0.9``, ``worst slice >= 0.8``, ``latency_p99 <= 5 ms``, ``not worse than champion (p < 0.05)``. They are judged
    by the newest evaluation of a version (of `data`, a dataset's reference, where it is given) whenever one of `aliases` is to point
    at it; where one is not kept, the alias stays where it is. Needs the permission ``model:gate``. Raises `Invalid`.
    """
    check_name(model)
    lines = (rules,) if isinstance(rules, str) else tuple(rules)
    body = sent(check(SetGate, {"rules": lines, "aliases": tuple(aliases), "data": data}, "gate"))
    found: dict[str, Any] = client.current().http.call("PUT", f"/gates/{model}", json=body)
    return found


def get_gate(model: str) -> dict[str, Any]:
    """Return the rules of a model, the aliases they guard, and the data. Raises `NotFound`."""
    check_name(model)
    found: dict[str, Any] = client.current().http.call("GET", f"/gates/{model}")
    return found


def drop_gate(model: str) -> None:
    """Take the rules of a model away. Raises `NotFound`."""
    check_name(model)
    client.current().http.call("DELETE", f"/gates/{model}")


def verdicts(version: "ModelVersion") -> list[dict[str, Any]]:
    """Return, for each rule, ``passed`` and a sentence with the figures."""
    found = version._client.http.call("GET", f"/gates/{version.name}/versions/{version.version}")
    return list(found["verdicts"])
