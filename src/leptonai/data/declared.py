"""What is declared of a dataset beside its rows: the rules that they keep, and how they are changed on their way to a model.

It belongs to a version's record and not to its content, so it can be declared anew for the same rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from leptonai.core.nouns import Dataset
from leptonai.core.stages import Desk
from leptonai.data.spec_check import names_of

DECLARED = ("checks", "augment")


def declared(word: str, name: str, desk: Desk) -> list[dict[str, Any]]:
    """Return what the newest version of a dataset was declared with: it holds for the next one too."""
    newest: list[Dataset] = sorted(desk.find(Dataset, {"name": name}, limit=10_000), key=lambda one: -one.version)
    return list(newest[0].source.get(word, [])) if newest else []


def carried(base: Mapping[str, Any], columns: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return what the source of a version declares, as far as it speaks of columns that are still there."""
    found = {word: [one for one in base.get(word, ()) if set(names_of(one)) <= set(columns)] for word in DECLARED}
    return {word: declarations for word, declarations in found.items() if declarations}


def again(there: Dataset, source: Mapping[str, Any], words: Sequence[str]) -> Dataset | None:
    """Return the version that is there with what is declared of it now; None where it says so already."""
    kept = {word: value for word, value in there.source.items() if word not in words}
    said = {**kept, **{word: source[word] for word in words if source.get(word)}}
    return None if said == there.source else there.model_copy(update={"source": said})
