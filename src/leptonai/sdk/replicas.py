"""How many replicas a Service has, as user code holds it: the part of `sdk.services.Service` that says."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Service as ServiceRecord
from leptonai.core.replicas import Replicas

if TYPE_CHECKING:
    from leptonai.sdk.http import Http

Range = Replicas | str | int | Sequence[int] | Mapping[str, Any]
"""``"1..4"``, ``3``, ``(1, 4)``, or ``{"min": 1, "max": 4, "wait_ms": 50, "down_seconds": 30}``."""


class Count(NamedTuple):
    """How many replicas a Service may have, and has."""

    asked: Replicas | None  # None: as many as its version says
    wanted: int | None  # None: its Site did not say yet
    ready: int | None
    why: str  # there are as many
    changes: list[dict[str, Any]]  # the last ones, newest first: time, text, before, after


class Scaling:
    """Say how many replicas there may be, and see how many there are."""

    record: ServiceRecord

    @property
    def http(self) -> "Http":
        """The connection to its server."""
        raise NotImplementedError

    def refresh(self) -> Self:
        """Ask the server how it stands."""
        raise NotImplementedError

    def replicas(self, range: Range | Any | None = ..., **aim: float) -> Count:
        """Say how many worker processes may compute it, and return how many there are.

        `range`: ``"1..4"``, ``(1, 4)``, or one number; None: as many as its version says. Without it the range stays. `wait_ms`:
        nine in ten requests are to wait no longer than that, else there is another replica; `down_seconds`: for so long fewer
        must have been enough before one goes. Raises `Unsupported` for a version that has no workers, `Invalid`.
        """
        from leptonai.sdk.specs import check

        path = f"/services/{self.record.name}/replicas"
        if range is not ... or aim:
            made = None
            if range is not None:
                before = self.refresh().record.replicas
                known = {} if before is None else before.model_dump()
                made = check(Replicas, {**known, **({} if range is ... else document(range)), **aim}, "replicas")
            body = {"replicas": None if made is None else made.model_dump(mode="json")}
            self.record = ServiceRecord.model_validate(self.http.call("PUT", path, json=body))
        said = self.http.call("GET", path)
        now: dict[str, Any] = said["now"] or {}
        asked = said["replicas"]
        return Count(
            None if asked is None else Replicas.model_validate(asked),
            now.get("wanted"),
            now.get("ready"),
            now.get("why", ""),
            said["changes"],
        )


def document(given: Range) -> dict[str, Any]:
    """Return what a range says as `Replicas` has it. Raises `Invalid`."""
    if isinstance(given, Replicas):
        return given.model_dump()
    if isinstance(given, Mapping):
        return dict(given)
    try:
        if isinstance(given, str):
            parts = [int(part) for part in given.split("..")]
        else:
            parts = [given] if isinstance(given, int) else [int(part) for part in given]
        low, high = parts if len(parts) == 2 else parts * 2
    except (ValueError, TypeError):
        right = "MIN..MAX such as 1..4, or one number"
        raise Invalid(f"replicas must be {right}, not {given!r}", errors=[FieldError("replicas", right)]) from None
    return {"min": low, "max": high}


def counted(record: ServiceRecord) -> str:
    """Return how many replicas a service has, for people to read; "" when it has no range."""
    if record.replicas is None:
        return ""
    now = record.status.replicas
    if now is None:
        return f"of {record.replicas}"
    coming = f", {now.wanted} wanted" if now.wanted != now.ready else ""
    return f"{now.ready} of {record.replicas}{coming}"
