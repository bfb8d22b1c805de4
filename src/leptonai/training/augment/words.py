"""Changes of texts, word by word; words are what white space parts. What is missing stays missing."""

from typing import Any

from numpy.typing import NDArray

from leptonai.training.augment.draws import Draws
from leptonai.training.augment.spec import DropWords, SwapWords, Synonyms

Array = NDArray[Any]
MOST = 4096  # words of a text that are looked at; the others stay as they are


def change(step: DropWords | SwapWords | Synonyms, texts: Array, draws: Draws) -> Array:
    """Return the texts (object array of str or None) with some of their words changed."""
    words = [text.split()[:MOST] if isinstance(text, str) else [] for text in texts]
    longest = max(map(len, words), default=0)
    if not longest:
        return texts
    chosen = draws.chosen(step.p).tolist()
    hit = draws.uniform(shape=(longest,)) < step.share
    other = draws.uniform(shape=(longest,))
    found = texts.copy()
    for row, given in enumerate(words):
        if not chosen[row] or not given or not hit[row, : len(given)].any():
            continue
        rest = texts[row].split()[MOST:]
        found[row] = " ".join([*_changed(step, given, hit[row].tolist(), other[row].tolist()), *rest])
    return found


def _changed(step: Any, words: list[str], hit: list[bool], other: list[float]) -> list[str]:
    if isinstance(step, DropWords):
        kept = [word for word, gone in zip(words, hit, strict=False) if not gone]
        return kept or [words[int(other[0] * len(words))]]
    if isinstance(step, SwapWords):
        swapped, at = list(words), 0
        while at + 1 < len(swapped):
            if hit[at]:
                swapped[at], swapped[at + 1] = swapped[at + 1], swapped[at]
                at += 1
            at += 1
        return swapped
    table = {word.lower(): others for word, others in step.table.items()}
    return [
        others[int(draw * len(others))] if take and (others := table.get(word.lower())) else word
        for word, take, draw in zip(words, hit, other, strict=False)
    ]
