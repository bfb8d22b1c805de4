"""References made exact: a Run reads the version that there was when it was asked for."""

import re

from leptonai.core.nouns import Dataset
from leptonai.core.refs import DatasetRef
from leptonai.core.stages import Desk

_ID = re.compile(r"ds_[0-9a-z]{26}")


def exact(ref: str, desk: Desk) -> tuple[Dataset, str]:
    """Return a version, and the reference that names it, and a part of it, exactly."""
    found = desk.dataset(ref)
    parsed = DatasetRef(name=found.name) if _ID.fullmatch(ref) else DatasetRef.parse(ref)
    return found, str(parsed.model_copy(update={"name": found.name, "version": found.version}))
