"""The table of keys that a serving plane is given: the server says which there are, and again when one is made or revoked.

While the server is away the last table holds; keys that end at a set time end all the same.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

Table = list[list[Any]]  # as `serving.plane.keys.Keys.update` reads it


def line(key: Mapping[str, Any]) -> list[Any]:
    """Return the line of a plane's table for a key as the server tells of it: end in seconds of the wall clock."""
    ends = key["expires"]
    return [
        key["check"],
        key["name"],
        key["services"],
        ends and datetime.fromisoformat(ends).timestamp(),
        key.get("metrics", False),
        key.get("manages", False),
    ]
