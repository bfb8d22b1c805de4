"""The keyword `pretrained` of `Model.fit`: a model version, a safetensors file, or a folder as Hugging Face writes it."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.refs import ModelRef
from leptonai.sdk.client import Client
from leptonai.sdk.registry import ModelVersion
from leptonai.training.spec_pretrained import CONFIG, TOKENIZER, WEIGHTS, unsafe

_INDEX = "model.safetensors.index.json"
_POOLING = "1_Pooling/config.json"


class Chosen(NamedTuple):
    """A version, by reference; or files of this machine, under the names they get."""

    model: str | None
    files: dict[str, Path]
    source: str

    def sent(self, via: Client) -> dict[str, Any]:
        """Upload the files, and return the field of a train spec."""
        if self.model is not None:
            return {"model": self.model}
        found = {name: via.http.upload(path.read_bytes()) for name, path in self.files.items()}
        return {"files": found, "source": self.source}


def choose(given: "ModelVersion | str | Path | None") -> Chosen | None:
    """Look at what was given, and at each file's beginning. Raises `Invalid` that names what is wrong; nothing is sent yet.

    A text that begins with ``models:/`` is a version; one that names a file or a folder of this machine is that.
    """
    if given is None:
        return None
    if isinstance(given, ModelVersion):
        return Chosen(given.ref, {}, given.ref)
    text = str(given)
    path = Path(text).expanduser()
    if isinstance(given, str) and (text.startswith("models:/") or not path.exists()):
        return Chosen(str(_reference(text)), {}, text)
    if not path.exists():
        raise Invalid(f"pretrained: there is no file or folder {path}", errors=[FieldError("pretrained", "a file")])
    files = _folder(path) if path.is_dir() else {path.name: path}
    for name, file in files.items():
        if not name.endswith(".json"):
            _look(name, file)
    return Chosen(None, files, path.name)


def _reference(text: str) -> ModelRef:
    try:
        return ModelRef.parse(text)
    except Invalid:
        right = "a version such as models:/flowers/3, or a file or folder that is there"
        raise Invalid(
            f"pretrained: {text[:200]!r} is neither {right}", errors=[FieldError("pretrained", right)]
        ) from None


def _folder(path: Path) -> dict[str, Path]:
    names = [file.name for file in sorted(path.iterdir()) if file.is_file()]
    weights = [name for name in names if name.endswith(WEIGHTS)]
    if _INDEX in names:
        weights = sorted(set(_json(path / _INDEX).get("weight_map", {}).values()))
        if gone := [name for name in weights if name not in names]:
            raise Invalid(f"pretrained: {path.name} lacks {gone[0]}, which {_INDEX} names")
    elif "model.safetensors" in weights:
        weights = ["model.safetensors"]
    if not weights:
        pickled = next((name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt", ".h5"))), None)
        if pickled is not None:
            raise unsafe(f"{path.name}/{pickled}")
        raise Invalid(
            f"pretrained: the folder {path.name} has no safetensors file",
            errors=[FieldError("pretrained", "a folder with model.safetensors")],
        )
    found = {name: path / name for name in weights}
    found |= {name: path / name for name in (CONFIG, TOKENIZER) if name in names}
    if (path / _POOLING).is_file():
        found["1_Pooling.json"] = path / _POOLING
    for name, file in found.items():
        if name.endswith(".json"):
            _json(file)
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Invalid(f"pretrained: {path.name} is not JSON: {str(error)[:200]}") from None
    if not isinstance(found, dict):
        raise Invalid(f"pretrained: {path.name} must hold an object")
    return found


def _look(name: str, path: Path) -> None:
    """Raise `Invalid` for a file that is no safetensors file: eight bytes of a length, then JSON of that length."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(9)
    length = int.from_bytes(start[:8], "little")
    if not name.endswith(WEIGHTS) or len(start) < 9 or start[8:9] != b"{" or length > size - 8:
        raise unsafe(name)
