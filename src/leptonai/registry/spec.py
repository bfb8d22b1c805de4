"""What you ask of the registry."""

from pydantic import Field

from leptonai.core.nouns import Frozen, Name


class SetAlias(Frozen):
    """Point an alias, such as ``champion``, at one version of a model."""

    alias: Name
    version: int = Field(ge=1)
