"""What you ask of the serving stage."""

from typing import Any

from pydantic import ConfigDict, Field

from leptonai.core.nouns import Frozen, Name, Signature
from leptonai.serving.workers import Work


class Deploy(Frozen):
    """Make a model version answer under a name; an existing service moves to it without a failed request."""

    name: Name
    model: str  # a model reference or id
    site: str = "home"
    public: bool | None = None  # whether anybody may call it without a key; None: as it is, and a new one needs a key


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
