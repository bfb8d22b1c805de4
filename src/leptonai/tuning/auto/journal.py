"""The journal of a search: all that lasts of it. ``asked``: a candidate is about to be tried. ``told``: how that ended. ``kept``: the model.

A candidate begins only once its ``asked`` is safe. One that was told is never tried again; one that was asked and not told is the one
that was at work when an attempt ended, and begins again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from leptonai.tuning.auto.spec import Candidate
from leptonai.tuning.spec import Kept


@dataclass
class Course:
    """A journal, read."""

    told: dict[int, Candidate] = field(default_factory=dict)  # in the order in which they ended
    said: dict[int, str] = field(default_factory=dict)  # the blob of what a candidate said of each fold
    made: dict[int, Mapping[str, Any]] = field(default_factory=dict)  # what makes the model of it
    kept: Mapping[str, Any] | None = None  # number, kept, tested
    seconds: float = 0.0  # that all attempts took until the last entry


def asked(number: int, candidate: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of a candidate that is about to be tried."""
    return {"kind": "asked", "number": number, "name": candidate["name"]}


def told(candidate: Candidate, made: Mapping[str, Any], said: str | None, seconds: float) -> dict[str, Any]:
    """Return the entry of a candidate that was tried; `made`: what makes its model."""
    line = candidate.model_dump(mode="json")
    return {"kind": "told", "candidate": line, "made": dict(made), "said": said, "seconds": seconds}


def kept(number: int, model: Kept, tested: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return the entry of the model that was chosen, and what the test said of it."""
    return {
        "kind": "kept", "number": number, "kept": model.model_dump(mode="json"), "tested": dict(tested), "seconds": seconds
    }  # fmt: skip


def read(entries: Iterable[Mapping[str, Any]]) -> Course:
    """Read a journal. An entry that is there twice counts once."""
    course = Course()
    for entry in entries:
        course.seconds = max(course.seconds, float(entry.get("seconds", 0.0)))
        if entry.get("kind") == "told":
            line = Candidate.model_validate(entry["candidate"])
            course.told.setdefault(line.number, line)
            course.made.setdefault(line.number, entry["made"])
            if entry["said"] is not None:
                course.said.setdefault(line.number, str(entry["said"]))
        elif entry.get("kind") == "kept" and course.kept is None:
            course.kept = entry
    return course
