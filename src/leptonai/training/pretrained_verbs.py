"""What the server checks of the weights that a training is to begin with: the exact version, and the blobs it opens."""

import json
from typing import Any, NamedTuple

from leptonai.core import plugins
from leptonai.core.beginning import BASE
from leptonai.core.errors import FieldError, Invalid, Unsupported
from leptonai.core.nouns import Model
from leptonai.core.stages import Desk
from leptonai.training.spec_pretrained import CONFIG, TOKENIZER, WEIGHTS, Pretrained, unsafe

_NATIVE = "weights.safetensors"
_FOLDER = {
    CONFIG: CONFIG,
    TOKENIZER: TOKENIZER,
    "model.safetensors": "model.safetensors",
    "pooling.json": "1_Pooling.json",
}


class Found(NamedTuple):
    """The exact beginning; the model it brings along, where none was given: fields of a train spec; and blobs."""

    pretrained: Pretrained
    model: dict[str, Any]
    opens: tuple[str, ...]


def resolve(asked: Pretrained, given: bool, desk: Desk) -> Found:
    """Make a beginning exact. `given`: the spec has a model of its own. Raises `Invalid`, `NotFound`, `Unsupported`."""
    if asked.model is None:
        for name in asked.files:
            if name.endswith((".pt", ".pth", ".bin", ".ckpt", ".h5", ".pkl")):
                raise unsafe(name)
        if not given and not asked.is_folder:
            raise Invalid(
                f"pretrained: {asked.name} holds weights, and no model to put them in: give a model, or a folder with {CONFIG} and {TOKENIZER}",
                errors=[FieldError("pretrained", "with a model, or a folder as Hugging Face writes it")],
            )
        made = {} if given else {"facts": {"texts": True}}
        return Found(asked.model_copy(update={"whole": not given}), made, tuple(asked.files.values()))
    found: Model = desk.model(asked.model)
    ref = f"models:/{found.name}/{found.version}"
    known: dict[str, Any] = {"model": ref, "digest": found.digest, "source": ref}
    if found.lineage.get("imported"):
        return _imported(asked, found, known, given)
    if _NATIVE not in found.files or "fitted.json" not in found.files:
        raise Unsupported(
            f"pretrained: {ref} is a model of {found.framework}, which begins anew each time: name one of Keras or PyTorch",
            errors=[FieldError("pretrained", "a version of a Keras or PyTorch model")],
        )
    if any(name.startswith(BASE) for name in found.files):
        raise Unsupported(
            f"pretrained: {ref} holds what LoRA learnt beside other weights: begin with those, {_base_of(found)}",
            errors=[FieldError("pretrained", "the weights it was learnt beside")],
        )
    fitted = json.loads(desk.read(found.files["fitted.json"]))
    files = {_NATIVE: found.files[_NATIVE], "fitted.json": found.files["fitted.json"]}
    known |= {"files": files, "classes": tuple(found.signature.classes), "whole": not given}
    opens = list(files.values())
    model: dict[str, Any] = {}
    if not given:
        compiled = found.lineage.get("spec", {}).get("compiled", {})
        model = {name: fitted[name] for name in ("framework", "flavour", "code", "facts")} | {"compiled": compiled}
        opens.append(fitted["code"])
    return Found(asked.model_copy(update=known), model, tuple(opens))


def _imported(asked: Pretrained, found: Model, known: dict[str, Any], given: bool) -> Found:
    files = {_FOLDER[name]: blob for name, blob in found.files.items() if name in _FOLDER}
    if not any(name.endswith(WEIGHTS) for name in files):
        raise Unsupported(
            f"pretrained: {known['model']} was imported without safetensors, which is what can be learnt from",
            errors=[FieldError("pretrained", "a version with safetensors")],
        )
    made = {} if given else {"facts": {"texts": True}}
    return Found(asked.model_copy(update={**known, "files": files, "whole": not given}), made, tuple(files.values()))


def _base_of(found: Model) -> str:
    spec = found.lineage.get("spec", {}).get("pretrained") or {}
    return str(spec.get("source") or spec.get("model") or "its base")


def check_starts(asked: Pretrained | None, framework: str) -> None:
    """Raise `Unsupported` where models of this framework cannot begin with weights of elsewhere."""
    if asked is None:
        return
    can = [name for name in plugins.names("frameworks") if getattr(plugins.framework(name), "starts", False)]
    if framework not in can:
        raise Unsupported(
            f"pretrained: a model of {framework} cannot begin with given weights; models of {' and '.join(can)} can",
            errors=[FieldError("pretrained", f"for {', '.join(can)}")],
        )
