"""What you ask of the serving stage."""

from leptonai.core.nouns import Frozen, Name


class Deploy(Frozen):
    """Make a model version answer under a name; an existing service moves to it without a failed request."""

    name: Name
    model: str  # a model reference or id
    site: str = "home"
    public: bool | None = None  # whether anybody may call it without a key; None: as it is, and a new one needs a key
