"""Models of text that were made elsewhere: a Hugging Face folder, or a GGUF file, becomes a model version.

Only formats that carry no code are taken. What is sent is looked at first, so that a wrong file is told before it travels; it is
read for good where it is loaded, in a process of its own.
"""

import hashlib
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from leptonai.core.errors import FieldError, Invalid, Unsupported
from leptonai.core.nouns import Model as ModelRecord
from leptonai.core.refs import check_name
from leptonai.registry.spec import FILES, check_files
from leptonai.sdk import client, show
from leptonai.sdk.registry import ModelVersion

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack")
_PLACES = {  # where sentence-transformers keeps what the bundle has under a plain name
    "encoder.onnx": ("model.onnx", "onnx/model.onnx"),
    "pooling.json": ("1_Pooling/config.json",),
    "sentence.json": ("sentence_bert_config.json",),
}


def import_model(
    folder: str | Path,
    *,
    name: str,
    task: Literal["chat", "embedding"],
    aliases: Sequence[str] = (),
    note: str = "",
) -> ModelVersion:
    """Make a version of a model of text that lies in a folder, or in one GGUF file; ``deploy`` then serves it.

    For ``chat`` that is a GGUF file with a chat template; for ``embedding`` a folder as sentence-transformers writes it, with
    safetensors or ONNX. Raises `Invalid` that names what is missing, `Unsupported` for formats that can carry code.
    """
    check_name(name, "model")
    found = model_files(folder, task)
    http = client.current().http
    files: dict[str, dict[str, object]] = {}
    total = sum(path.stat().st_size for path in found.values())
    with show.Progress(f"import {name}") as bar:
        done = 0
        for kind, path in found.items():
            data = path.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            files[kind] = {"blob": http.upload(data), "sha256": digest, "size": len(data)}
            done += len(data)
            bar.update(done, max(done, total), "bytes")
    body = {"name": name, "task": task, "files": files, "aliases": list(aliases), "note": note}
    return ModelVersion(ModelRecord.model_validate(http.call("POST", "/models", json=body)), client.current())


def model_files(folder: str | Path, task: str) -> dict[str, Path]:
    """Return which files are sent, under the names they get. Raises `Invalid`, `Unsupported`."""
    if task not in FILES:
        right = f"one of {', '.join(FILES)}"
        raise Invalid(f"task {task!r} is not known: {right}", errors=[FieldError("task", right)])
    place = Path(folder).expanduser()
    if not place.exists():
        raise Invalid(f"{folder}: there is no such file or folder", errors=[FieldError("folder", "no such folder")])
    found = _chat(place) if task == "chat" else _embedding(place)
    check_files(task, found)
    for path in found.values():
        _look(path)
    return found


def _chat(place: Path) -> dict[str, Path]:
    if place.is_file():
        if place.suffix.lower() != ".gguf":
            raise _refused(place)
        return {"model.gguf": place}
    files = sorted(place.glob("*.gguf"))
    if len(files) > 1:
        raise Invalid(f"{place} has {len(files)} GGUF files: name the one that is meant, such as {files[0]}")
    if not files:
        weights = next((path for path in sorted(place.iterdir()) if path.suffix in (*_PICKLES, ".safetensors")), None)
        found = "" if weights is None else f", only {weights.name}"
        raise Unsupported(
            f"{place} has no GGUF file{found}: chats are computed by llama.cpp, whose convert_hf_to_gguf.py makes one of a folder",
            errors=[FieldError("folder", "a GGUF file")],
        )
    return {"model.gguf": files[0]}


def _embedding(place: Path) -> dict[str, Path]:
    if not place.is_dir():
        raise Invalid(f"{place} is a file: give the folder with tokenizer.json, config.json and the weights")
    found = {}
    for name in FILES["embedding"]:
        for candidate in _PLACES.get(name, (name,)):
            if (place / candidate).is_file():
                found[name] = place / candidate
                break
    if "encoder.onnx" in found:
        found.pop("model.safetensors", None)
    elif "model.safetensors" not in found:
        pickle = next((path for path in sorted(place.iterdir()) if path.suffix in _PICKLES), None)
        if pickle is not None:
            raise _refused(pickle)
    return found


def _refused(path: Path) -> Unsupported:
    right = "safetensors, ONNX or GGUF"
    return Unsupported(
        f"{path.name} is not a format that is taken, since such files can carry code: bring the model as {right}",
        errors=[FieldError(path.name, right)],
    )


def _look(path: Path) -> None:
    """Raise `Invalid` when a file is not what its name says."""
    with path.open("rb") as file:
        start = file.read(9)
        size = path.stat().st_size
        if path.suffix.lower() == ".gguf":
            good = start.startswith(b"GGUF")
        elif path.suffix == ".safetensors":
            length = struct.unpack("<Q", start[:8])[0] if len(start) == 9 else size
            good = length <= min(size - 8, 100 << 20) and start[8:9] == b"{"
        elif path.suffix == ".json":
            good = _is_json(path)
        else:
            good = size > 0
    if not good:
        raise Invalid(f"{path} is not what its name says", errors=[FieldError(path.name, f"a {path.suffix[1:]} file")])


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError):
        return False
    return True
