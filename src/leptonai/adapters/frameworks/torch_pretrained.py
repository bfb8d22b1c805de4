"""Weights from elsewhere in a PyTorch module: matched by name, a part of the module too; the head may be new."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from leptonai.adapters.frameworks.shapes import outputs
from leptonai.adapters.frameworks.torch_layers import layers
from leptonai.core.beginning import Beginning, lacking, strangers, unlike, unreadable
from leptonai.core.errors import FieldError, Invalid

Tensor = torch.Tensor
_DEEP = 2  # how far down the part may be whose names are those of the file, and the file's whose are the module's


def read(beginning: Beginning) -> dict[str, Tensor]:
    """Return the tensors of the files. Raises `Invalid` for what is no safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    found: dict[str, Tensor] = {}
    for data in beginning.weights:
        try:
            found.update(load(data))
        except (SafetensorError, ValueError, KeyError) as error:
            raise unreadable(beginning.source) from error
    return found


def take(module: nn.Module, beginning: Beginning) -> dict[str, Any]:
    """Put the weights into the module, and return what was taken, what is new and what is not used.

    Names may stand behind that of a part: those of a file are looked for within ``encoder.`` too. What the file does not have
    must lie behind what it has. Raises `Invalid` that names what does not fit.
    """
    theirs = read(beginning)
    ours = module.state_dict()
    within, without = _prefixes(ours, theirs)
    pairs = {name: without + name.removeprefix(within) for name in ours if name.startswith(within)}
    if not any(there in theirs for there in pairs.values()):
        raise strangers(beginning.source, list(theirs), list(ours))
    head = set(list(layers(module).values())[-1])
    taken, new, wrong = [], [], []
    for name, there in pairs.items():
        value, given = ours[name], theirs.get(there)
        if given is None or (name in head and not beginning.head):
            new.append(name)
        elif tuple(given.shape) == tuple(value.shape):
            taken.append(name)
        elif name in head:
            new.append(name)
        else:
            wrong.append((name, tuple(value.shape), tuple(given.shape)))
    if wrong:
        raise unlike(beginning.source, wrong)
    _only_behind(list(pairs), taken, new, ours, beginning.source)
    with torch.no_grad():
        for name in taken:
            ours[name].copy_(theirs[pairs[name]])
    shared = {ours[name].data_ptr() for name in taken}
    new += [name for name in ours if name not in pairs]
    used = {pairs[name] for name in taken}
    return {
        "source": beginning.source,
        "tensors": len(theirs),
        "taken": len(used),
        "unused": sum(name not in used and not name.endswith("position_ids") for name in theirs),
        "new": [name for name in new if ours[name].data_ptr() not in shared and not _counts(name)],
    }


def _only_behind(names: list[str], taken: list[str], new: list[str], ours: Mapping[str, Tensor], source: str) -> None:
    """Refuse a file that lacks what lies before something that it has: it is one of another architecture."""
    shared = {ours[name].data_ptr() for name in taken}
    last = max(map(names.index, taken))
    missing = [
        name for name in names[:last] if name in new and not _counts(name) and ours[name].data_ptr() not in shared
    ]
    if missing:
        raise lacking(source, missing, len(names))


def _counts(name: str) -> bool:
    return name.endswith("num_batches_tracked")  # how many batches a normalisation has seen: not every file has it


def _prefixes(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> tuple[str, str]:
    """Return the part of the module, and that of the file, whose names agree most: the outermost of equal ones."""
    best, found = 0, ("", "")
    for within in _parts(ours):
        names = [name.removeprefix(within) for name in ours if name.startswith(within)]
        for without in _parts(theirs):
            same = sum(without + name in theirs for name in names)
            if same > best:
                best, found = same, (within, without)
    return found


def _parts(names: Mapping[str, Tensor]) -> list[str]:
    found = {""}
    for name in names:
        steps = name.split(".")[:-1]
        found |= {".".join(steps[:many]) + "." for many in range(1, min(_DEEP, len(steps)) + 1)}
    return sorted(found, key=lambda prefix: (prefix.count("."), prefix))


def fit_head(module: nn.Module, wanted: int) -> nn.Module:
    """Return the module with a new last layer of so many outputs. Raises `Invalid` where that is no plain layer."""
    name, last = [
        (name, part) for name, part in module.named_modules() if next(part.parameters(recurse=False), None) is not None
    ][-1]
    made: nn.Module
    if isinstance(last, nn.Linear):
        made = nn.Linear(last.in_features, wanted, bias=last.bias is not None)
    elif isinstance(last, nn.Conv2d) and last.kernel_size == (1, 1) and last.groups == 1:
        made = nn.Conv2d(last.in_channels, wanted, 1, bias=last.bias is not None)
    else:
        raise Invalid(
            f"pretrained: the target needs {wanted} outputs, and the last layer {name!r}, {last}, cannot be made anew: give a model",
            errors=[FieldError("pretrained", "a model whose last layer is linear")],
        )
    made.to(next(last.parameters()).device)
    if not name:
        return made
    holder, _, own = name.rpartition(".")
    setattr(module.get_submodule(holder), own, made)
    return module


def wanted(task: str, classes: int, output: Tensor, y: Any) -> int | None:
    """Return how many outputs the target needs; None where the model has as many."""
    have = outputs(output.shape)
    if task == "classification":
        return None if have == classes or (have == 1 and classes == 2) else classes
    need = int(y.shape[-1]) if y.ndim > 1 else 1
    return None if have == need else need


def begun(
    module: nn.Module, beginning: Beginning, task: str, classes: int, output: Tensor, y: Any
) -> tuple[nn.Module, dict[str, Any]]:
    """Return the module with the weights in it, and with a new head where the target needs one, and what was taken."""
    need = wanted(task, classes, output, y) if beginning.fit_head else None
    if need is not None:
        module = fit_head(module, need)
    return module, cast(dict[str, Any], {**take(module, beginning), "changed": need is not None})
