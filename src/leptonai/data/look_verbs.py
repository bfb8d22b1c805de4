"""What the server answers at once about looking at rows: profiles, checks and differences."""

from typing import Any

from leptonai.core import personal
from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Dataset
from leptonai.core.stages import Desk, Plan
from leptonai.data.exactly import exact
from leptonai.data.spec_diff import Diff
from leptonai.data.spec_private import FindPii
from leptonai.data.spec_profile import Profile


def prepare_profile(spec: Profile, desk: Desk) -> Plan:
    """Make the versions exact. Raises `Invalid` or `NotFound`."""
    found, opens = _exactly(spec, ("data", "against", "test"), desk)
    name = f"profile-{found['data'][0].name}"[:100]
    return Plan(_renamed(spec, found), opens, "data", name)


def prepare_diff(spec: Diff, desk: Desk) -> Plan:
    """Make the versions exact, and see that the key is in both. Raises `Invalid` or `NotFound`."""
    found, opens = _exactly(spec, ("before", "after"), desk)
    for data, ref in found.values():
        known = [column.name for column in data.columns if not column.pii]
        for name in spec.key:
            if name not in known:
                listed = ", ".join(known[:30])
                raise Invalid(
                    f"key: {ref} has no column {name!r} that can be read: its columns are {listed}",
                    errors=[FieldError("key", f"one of {listed}")],
                )
    return Plan(_renamed(spec, found), opens, "data", f"diff-{found['after'][0].name}"[:100])


def prepare_find_pii(spec: FindPii, desk: Desk) -> Plan:
    """Make the version exact; columns that are personal already are not looked at. Raises `Invalid` or `NotFound`."""
    found, opens = _exactly(spec, ("data",), desk)
    return Plan(_renamed(spec, found), opens, "data", f"find-pii-{found['data'][0].name}"[:100])


def _exactly(spec: Any, fields: tuple[str, ...], desk: Desk) -> tuple[dict[str, tuple[Dataset, str]], tuple[str, ...]]:
    """Return the versions that the fields of a spec name, with their exact references; and the blobs they need."""
    found = {field: exact(getattr(spec, field), desk) for field in fields if getattr(spec, field) is not None}
    opens = [blob for data, _ in found.values() for blob in personal.opens(data, desk, mask=True)]
    return found, tuple(dict.fromkeys(opens))


def _renamed(spec: Any, found: dict[str, tuple[Dataset, str]]) -> dict[str, Any]:
    updated: dict[str, Any] = spec.model_copy(update={field: ref for field, (_, ref) in found.items()}).model_dump(
        mode="json"
    )
    return updated
