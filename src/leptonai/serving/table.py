"""The table of routes, as an agent tells its planes: which versions answer for which service, and who gets which."""

from collections.abc import Mapping
from typing import Any, NamedTuple

# Why a line's models are not in memory: the next call loads them, also after nobody had called; or only `load` does.
COLD, IDLE, UNLOADED = "cold", "idle", "unloaded"


class Share(NamedTuple):
    """One version of a service and the requests it gets, in per cent; for a shadow, the share of which it gets copies."""

    variant: str
    model: str  # the id of a Model that was loaded before
    percent: int = 100


class Line(NamedTuple):
    """One service.

    `sticky`: how a caller keeps its variant: "" not at all, "key", or the name of a header. `salt`: what callers are dealt
    by; the counts of each variant are kept under it and `step`, so that another step begins anew. `compare`: how many
    requests a second, of each process, the canary computes too so that its answers are compared. `test`: requests are dealt
    by their ids where no caller is known, and callers may say how good an answer was.
    """

    service: str
    variants: tuple[Share, ...]  # the first is the stable one
    public: bool = False
    sticky: str = ""
    salt: str = ""
    step: int = 0
    compare: float = 0.0
    test: bool = False
    absent: str = ""  # "": its models are in memory; else `COLD`, `IDLE` or `UNLOADED`
    pinned: bool = False  # its models leave memory for no other ones
    idle: float = 0.0  # seconds without a request after which its models leave memory; 0: never
    answers: int = 0  # bytes of answers that each process remembers

    @classmethod
    def one(cls, service: str, model: str, public: bool = False) -> "Line":
        """Return the line of a service that one version answers for."""
        return cls(service, (Share("stable", model),), public)

    @property
    def models(self) -> tuple[str, ...]:
        """The ids of the Models in it."""
        return tuple(share.model for share in self.variants)

    def without(self, model: str) -> "Line | None":
        """Return the line without a Model; None when the service has no other, or this was its stable version."""
        left = tuple(share for share in self.variants if share.model != model)
        stable = next((share for share in left if share.variant == "stable"), None)
        if stable is None:
            return None
        if len(left) == len(self.variants):
            return self
        alone = Line.one(self.service, stable.model, self.public)
        return alone._replace(pinned=self.pinned, idle=self.idle, answers=self.answers)

    def to_dict(self) -> dict[str, Any]:
        """Return it as a message holds it; what is as usual is left out."""
        found = self._asdict()
        usual = self._field_defaults
        said = {name: value for name, value in found.items() if name not in usual or value != usual[name]}
        return {**said, "variants": [share._asdict() for share in self.variants]}

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Line":
        """Read it from a message. Raises `KeyError`, `TypeError`."""
        variants = tuple(Share(**share) for share in given["variants"])
        return cls(**{**given, "variants": variants})
