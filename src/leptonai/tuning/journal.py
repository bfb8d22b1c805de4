"""The journal of a study: all that lasts of it, written by the Run as it goes on, one entry after the other.

``asked``: a trial is about to begin, with its settings. ``told``: how it ended. A trial begins only once its ``asked`` is
safe, and the next is asked in the same write that tells of the one before. So, wherever an attempt ends: each trial that was
told is told for good, each that was asked and not told is the one that was at work, and begins again
with the same settings, and none has two results. Attempts are kept apart by the Run's fencing: once an attempt reads the
journal, no earlier one adds to it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from leptonai.core.errors import Corrupt
from leptonai.tuning.spec import Kept, Trial


@dataclass
class Course:
    """A journal, read: trials by number, in the order in which they were asked for."""

    asked: dict[int, Mapping[str, Any]] = field(default_factory=dict)  # the entries
    told: dict[int, Trial] = field(default_factory=dict)
    attrs: dict[int, Mapping[str, Any]] = field(default_factory=dict)  # what the engine noted at their end
    kept: dict[int, Kept] = field(default_factory=dict)
    seconds: float = 0.0  # that all attempts took until the last entry

    @property
    def open(self) -> list[int]:
        """The trials that began and did not end."""
        return [number for number in self.asked if number not in self.told]


def asked(number: int, params: Mapping[str, Any], attrs: Mapping[str, Any], study: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of a trial that is about to begin; `attrs` and `study` are what the engine noted of it, and of all."""
    return {"kind": "asked", "number": number, "params": dict(params), "attrs": dict(attrs), "study": dict(study)}


def told(trial: Trial, attrs: Mapping[str, Any], kept: Kept | None, seconds: float) -> dict[str, Any]:
    """Return the entry of a trial that ended."""
    return {
        "kind": "told",
        "trial": trial.model_dump(mode="json"),
        "attrs": dict(attrs),
        "kept": None if kept is None else kept.model_dump(mode="json"),
        "seconds": seconds,
    }


def read(entries: Iterable[Mapping[str, Any]]) -> Course:
    """Read a journal. An entry that is there twice counts once. Raises `Corrupt` where an end has no beginning."""
    course = Course()
    for entry in entries:
        if entry.get("kind") == "asked":
            number = int(entry["number"])
            if number != len(course.asked) and number not in course.asked:
                raise Corrupt(f"the journal of the study lacks the beginning of trial {len(course.asked)}")
            course.asked.setdefault(number, entry)
        elif entry.get("kind") == "told":
            trial = Trial.model_validate(entry["trial"])
            if trial.number not in course.asked:
                raise Corrupt(f"the journal of the study has an end of trial {trial.number}, and no beginning")
            if trial.number in course.told:
                continue
            course.told[trial.number] = trial
            course.attrs[trial.number] = entry["attrs"]
            if entry["kept"] is not None:
                course.kept[trial.number] = Kept.model_validate(entry["kept"])
            course.seconds = max(course.seconds, float(entry["seconds"]))
    return course
