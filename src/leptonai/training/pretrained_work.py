"""Weights from elsewhere, inside a Run: read, told to the Learner before it begins, and noted in what it comes to."""

import hashlib
import json
from typing import Any, cast

from leptonai.core.beginning import BASE, Beginning
from leptonai.core.errors import Unsupported
from leptonai.core.ports import Learner
from leptonai.core.stages import Handle
from leptonai.training.spec import Encoding, Train
from leptonai.training.spec_pretrained import WEIGHTS, Pretrained, lines_of

_FITTED = "fitted.json"


def give(learner: Learner, spec: Train, encoding: Encoding, handle: Handle) -> None:
    """Tell a Learner which weights to begin with; before it begins. Without any: nothing."""
    given = spec.pretrained
    if given is None:
        return
    if not hasattr(learner, "beginning"):
        raise Unsupported(f"pretrained: {type(learner).__name__} cannot begin with given weights")
    weights = tuple(_read(handle, blob) for name, blob in sorted(given.files.items()) if name.endswith(WEIGHTS))
    same = given.classes is None or encoding.task != "classification" or tuple(given.classes) == encoding.classes
    cast(Any, learner).beginning = Beginning(weights, given.name, head=same, fit_head=given.whole)


def began(learner: Learner, handle: Handle) -> None:
    """Say what was taken over, once the Learner has begun, and let go of the files."""
    found = getattr(learner, "began", None)
    if found is not None:
        handle.say(lines_of(found))
        cast(Any, learner).beginning = None


def folder(given: Pretrained, handle: Handle) -> dict[str, bytes]:
    """Return the files of a folder that say how a model is made, without its weights."""
    return {name: _read(handle, blob) for name, blob in given.files.items() if name.endswith(".json")}


def facts(learner: Learner, spec: Train, handle: Handle) -> dict[str, Any] | None:
    """Return what the result says of where the weights came from: lineage by version and by SHA-256 of each file."""
    given, found = spec.pretrained, getattr(learner, "began", None)
    if given is None or found is None:
        return None
    sums = {name: hashlib.sha256(_read(handle, blob)).hexdigest() for name, blob in sorted(given.files.items())}
    return {
        "model": given.model,
        "digest": given.digest,
        "source": given.name,
        "sha256": sums,
        **{name: found[name] for name in ("taken", "tensors", "unused", "new")},
    }


def base(spec: Train) -> dict[str, str]:
    """Return the blobs, by the names they get in a bundle, of the weights that those learnt stand beside; none without LoRA."""
    if spec.learning.lora is None or spec.pretrained is None:
        return {}
    blobs = [blob for name, blob in sorted(spec.pretrained.files.items()) if name.endswith(WEIGHTS)]
    return {
        f"{BASE}.safetensors" if len(blobs) == 1 else f"{BASE}-{place}.safetensors": blob
        for place, blob in enumerate(blobs, 1)
    }


def code_of(learner: Learner, code: str, handle: Handle) -> str:
    """Return the blob of the model's code: another one where its head was made anew."""
    found = getattr(learner, "began", None)
    if found is None or not found["changed"]:
        return code
    return handle.blobs.write([cast(Any, learner).repacked()]).id


def encoded(spec: Train, found: Encoding, handle: Handle) -> Encoding:
    """Return how rows are encoded: as for the version that the weights are from, where the columns are the same.

    A weight means what it did only if its column is scaled, or its categories are numbered, as when it was learnt.
    """
    given = spec.pretrained
    if given is None or _FITTED not in given.files:
        return found
    parent = Encoding.model_validate(json.loads(_read(handle, given.files[_FITTED]))["encoding"])
    ours = [(f.column, f.type, f.shape) for f in found.features]
    if ours != [(f.column, f.type, f.shape) for f in parent.features] or found.dtype != parent.dtype:
        return found
    handle.say(f"columns are encoded as for {given.name}")
    return found.model_copy(update={"features": parent.features})


def _read(handle: Handle, blob: str) -> bytes:
    with handle.blobs.open(blob) as file:
        return file.read()
