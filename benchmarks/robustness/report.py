"""What a row found of a product: figures, and whether our target is met."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ROWS: Mapping[int, tuple[str, str]] = {
    1: ("malformed bodies (200)", "4xx 200/200, no traceback"),
    2: ("NaN, Infinity, 1e400, duplicate keys, 5,000 digits", "all refused, the place named"),
    3: ("nested JSON 1e3, 1e5, 2e6", "4xx in under 50 ms, alive"),
    4: ("oversize bodies and headers, false lengths", "413/431/408 early, memory + under 64 MB"),
    5: ("a small body that declares a huge tensor", "4xx, memory flat"),
    6: ("slowloris: silent, slow header, slow body", "all closed by their deadline, no good request failed"),
    7: ("kill -9 of a worker under load", "failed = 0, hung = 0"),
    8: ("kill -9 of the main process, restart", "state lost = 0"),
    9: ("rolling updates under load, then a broken version", "failed = 0, the broken version gets nothing"),
    12: ("exposure as in the quick start", "no socket beyond loopback, no state-changing route without credentials"),
    18: ("API fuzz by Schemathesis", "no 5xx, no schema violation"),
    19: ("overload five times, then normal", "p99 of admitted bounded, normal within 2 s"),
}


@dataclass(frozen=True)
class Found:
    """Figures of one row for one product. `green`: whether the target is met; None where it has no such thing."""

    green: bool | None
    short: str  # for the table
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def word(self) -> str:
        """The colour."""
        return "n/a" if self.green is None else "green" if self.green else "red"

    def to_dict(self) -> dict[str, Any]:
        """Return it for the result file."""
        return {"verdict": self.word, "said": self.short, **self.figures}


def nothing(why: str) -> Found:
    """Return the cell of a product that has no such thing."""
    return Found(None, why)
