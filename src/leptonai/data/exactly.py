"""References made exact: a Run reads the version that there was when it was asked for."""

from leptonai.core.nouns import Dataset
from leptonai.core.refs import DatasetRef
from leptonai.core.stages import Desk


def exact(ref: str, desk: Desk) -> tuple[Dataset, str]:
    """Return a version, and the reference that names it, and a part of it, exactly."""
    found = desk.dataset(ref)
    parsed = (
        DatasetRef.parse(ref)
        if ref.startswith("datasets:") or not ref.startswith("ds_")
        else DatasetRef(name=found.name)
    )
    return found, str(parsed.model_copy(update={"name": found.name, "version": found.version}))
