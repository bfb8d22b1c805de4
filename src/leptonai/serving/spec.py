"""What you ask of the serving stage."""

from leptonai.core.nouns import Frozen, Name


class Deploy(Frozen):
    """Make a model version answer under a name; an existing service moves to it without a failed request."""

    name: Name
    model: str  # a model reference or id
    site: str = "home"
