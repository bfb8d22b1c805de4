"""``lepton run create train --pretrained``: what the flag names, as a train spec has it."""

from typing import Any


def sent(text: str, *, dry_run: bool) -> dict[str, Any] | str:
    """Upload what the flag names; for a dry run only look at it, and return its reference or the names of its files."""
    from leptonai.sdk import client
    from leptonai.sdk.pretrained import choose

    chosen = choose(text)
    assert chosen is not None  # noqa: S101  (a text was given)
    if chosen.model is not None:
        return chosen.model
    if dry_run:
        return {"files": dict.fromkeys(chosen.files, "0" * 64), "source": chosen.source}
    return chosen.sent(client.current())
