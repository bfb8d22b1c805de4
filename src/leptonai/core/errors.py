"""Every error that leptonai raises on purpose.

::

    LeptonError
    ├── Invalid           what you sent is wrong; `errors` names each field, row or file
    │   ├── Unsupported   understood, but not possible here
    │   └── TooLarge      over a stated limit
    ├── Unauthenticated   no key, or one that is not known
    ├── Denied            the key is known, but lacks the permission that is named
    ├── NotFound
    ├── Conflict          clashes with what exists
    │   ├── Stale         the record changed since you last saw it
    │   └── Fenced        this attempt lost its lease; another one may be running
    ├── Busy              try again after `retry_after` seconds
    ├── DiskFull
    ├── Corrupt           stored bytes are not what was written
    ├── Unavailable       the server, the site or the model cannot be reached
    ├── MissingExtra      a part of leptonai is not installed
    ├── RunFailed         a Run ended in failure
    └── RunCancelled

An error carries a word (`code`), never an HTTP status: `server/wire.py` and the plane's front know those. The message is
one sentence that names the thing and the way out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong: where it is (``spec.epochs``, ``train.csv row 7``) and what would be right."""

    field: str
    message: str


class LeptonError(Exception):
    """The root of every error leptonai raises on purpose."""

    code: ClassVar[str] = "error"

    def __init__(
        self, message: str, *, errors: Sequence[FieldError] = (), retry_after: float | None = None, **about: Any
    ):
        super().__init__(message)
        self.message = message
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.about = about  # small JSON facts, such as the run's id

    def to_dict(self) -> dict[str, Any]:
        """Return the error as JSON data; `from_dict` makes the same error of it at the other end of a wire."""
        return {
            "code": self.code,
            "message": self.message,
            "errors": [{"field": e.field, "message": e.message} for e in self.errors],
            "retry_after": self.retry_after,
            "about": self.about,
        }


class Invalid(LeptonError):
    """What was sent is wrong."""

    code = "invalid"


class Unsupported(Invalid):
    """Understood, but not possible here."""

    code = "unsupported"


class TooLarge(Invalid):
    """Over a stated limit."""

    code = "too_large"


class Unauthenticated(LeptonError):
    """No key, or one that is not known."""

    code = "unauthenticated"


class Denied(LeptonError):
    """The key lacks a permission."""

    code = "denied"


class NotFound(LeptonError):
    """There is no such thing."""

    code = "not_found"


class Conflict(LeptonError):
    """Clashes with what exists."""

    code = "conflict"


class Stale(Conflict):
    """The record changed since it was read."""

    code = "stale"


class Fenced(Conflict):
    """This attempt lost its lease."""

    code = "fenced"


class Busy(LeptonError):
    """Too much at once; try again after `retry_after` seconds."""

    code = "busy"


class DiskFull(LeptonError):
    """No room to write."""

    code = "disk_full"


class Corrupt(LeptonError):
    """Stored bytes are not what was written."""

    code = "corrupt"


class Unavailable(LeptonError):
    """Something that has to answer does not."""

    code = "unavailable"


class MissingExtra(LeptonError):
    """A part of leptonai is not installed."""

    code = "missing_extra"


class RunFailed(LeptonError):
    """A Run ended in failure."""

    code = "run_failed"


class RunCancelled(LeptonError):
    """A Run was cancelled."""

    code = "run_cancelled"


def _tree(root: type[LeptonError]) -> dict[str, type[LeptonError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found = {**_tree(child), **found}  # a kind without a word of its own is not what its parent's word means
    return found


def from_dict(data: dict[str, Any]) -> LeptonError:
    """Make the error that `LeptonError.to_dict` described; an unknown code becomes a plain `LeptonError`."""
    kind = _tree(LeptonError).get(str(data.get("code")), LeptonError)
    fields = [FieldError(str(e["field"]), str(e["message"])) for e in data.get("errors") or ()]
    return kind(
        str(data.get("message") or "the server gave no reason"),
        errors=fields,
        retry_after=data.get("retry_after"),
        **(data.get("about") or {}),
    )
