"""What you ask of the serving stage."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Frozen, Guard, Name, Percent
from leptonai.core.replicas import Replicas
from leptonai.core.signature import Signature
from leptonai.serving.workers import Work

HEADER = r"^(key|[A-Za-z][A-Za-z0-9-]{0,63})?$"
CALLER = "X-Leptonai-Caller"  # the header that callers of a test are known by, where nobody names another one

Sticky = Annotated[str, Field(pattern=HEADER)]
Steps = Annotated[tuple[Annotated[int, Field(ge=1, le=100)], ...], Field(min_length=1, max_length=20)]


class Deploy(Frozen):
    """Make a model version answer under a name; an existing service moves to it without a failed request.

    A service that answers moves step by step: the new version is tried on recorded requests, then on ever more of the live
    ones, and is turned back by itself when it fails more often, is slower, or answers otherwise.
    """

    name: Name
    model: str  # a model reference or id
    site: str = "home"
    public: bool | None = None  # whether anybody may call it without a key; None: as it is, and a new one needs a key
    pin: bool | None = None  # whether its model stays in memory; None: as it is, and that of a new one may leave
    replicas: Replicas | None = None  # how many processes compute it; None: as it is, and a new one as its version says
    strategy: Literal["guarded", "now", "shadow"] = (
        "guarded"  # shadow: it gets copies of requests, until it is promoted
    )
    percent: Percent = 100  # of the requests that a shadow gets copies of
    sticky: Sticky | None = None  # how a caller keeps its version: "key", or the name of a header; "": not at all
    steps: Steps | None = None  # per cent of the requests, one after the other
    step_seconds: float | None = Field(default=None, gt=0, le=7 * 86400)  # what each takes at most
    alpha: float | None = Field(default=None, gt=0, lt=0.5)  # chance to turn back a version that is no worse
    agree: float | None = Field(
        default=None, ge=0, le=1
    )  # the share of answers that must be those of the version before

    @model_validator(mode="after")
    def _upwards(self) -> "Deploy":
        if self.steps is not None and list(self.steps) != sorted(set(self.steps)):
            right = f"must grow, such as 1,5,25,50, not {','.join(map(str, self.steps))}"
            raise Invalid(f"steps {right}", errors=[FieldError("steps", right)])
        return self

    def guard(self) -> Guard:
        """Return what the new version is held to."""
        fields = ("step_seconds", "alpha", "agree")
        given = {name: getattr(self, name) for name in fields if getattr(self, name) is not None}
        if self.steps is not None:
            given["steps"] = tuple(step for step in self.steps if step < 100) or (100,)
        return Guard(**given)


class Range(Frozen):
    """How many replicas a service may have. None: as many as its version says."""

    replicas: Replicas | None


class Share(Frozen):
    """One version of a service, and its share of the requests."""

    name: Literal["stable", "canary", "shadow"] = "stable"
    model: str  # a model reference or id
    percent: int = Field(default=100, ge=0, le=100)


class Split(Frozen):
    """Divide the requests of a service by hand. Stable and canary sum to 100; a shadow gets copies, nobody its answers."""

    variants: Annotated[tuple[Share, ...], Field(min_length=1, max_length=3)]
    sticky: Sticky | None = None


class Trial(Frozen):
    """Try a version against the one that answers, by what callers say of the answers; it ends by itself with a winner."""

    model: str  # a model reference or id
    percent: int = Field(default=50, ge=1, le=99)
    sticky: Sticky | None = None  # None: by the header X-Leptonai-Caller
    alpha: float = Field(default=0.05, gt=0, lt=0.5)  # chance to find a difference where there is none
    least: float = Field(default=0.01, gt=0, lt=1)  # a smaller difference is none
    seconds: float = Field(default=14 * 86400.0, gt=0, le=366 * 86400)  # what it takes at most


class Package(Frozen):
    """Make a model version of a class that a user wrote. Its code is loaded only in processes of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    name: Name
    code: str  # blob: the packed class, or an instance of it
    kind: str = Field(default="", alias="class", max_length=500)  # what it is called, for people to read
    python: tuple[int, int]  # that packed it, such as (3, 11)
    signature: Signature
    work: Work = Work()
    files: dict[str, str] = Field(
        default_factory=dict, max_length=200
    )  # its name below the folder of the service -> blob
    requirements: tuple[str, ...] = ()  # such as "transformers>=4.40", to be installed at the Site
    options: dict[str, Any] = Field(default_factory=dict)  # for its `load`
    flavour: str = "data"  # which libraries are loaded before it starts
    aliases: tuple[Name, ...] = ()
