"""The layers of a PyTorch module, from the input to the head: which of them learn, and how fast each does."""

from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.learning import ALL_BUT_HEAD, Learning


def layer_of(parameter: str, holders: Collection[str] = ()) -> str:
    """Return the layer that a parameter belongs to, by its name.

    A place in a list of layers ends the name (``encoder.layer.3``, ``blocks.2.1``, ``features.0``); where there is none it is the
    part that holds the leaf (``embeddings``), or the leaf itself (``head``) where that part is one of the `holders` of lists.
    """
    parts = parameter.split(".")
    for at, part in enumerate(parts[:-1]):
        if part.isdigit():
            while at + 1 < len(parts) - 1 and parts[at + 1].isdigit():
                at += 1  # a list within a list
            return ".".join(parts[: at + 1])
    part = ".".join(parts[:-2])
    return (part if part not in holders else "") or ".".join(parts[:-1]) or parameter


def _holders(names: Iterable[str]) -> set[str]:
    """Return the parts within which there are lists of layers."""
    found: set[str] = set()
    for name in names:
        parts = name.split(".")
        first = next((at for at, part in enumerate(parts[:-1]) if part.isdigit()), 0)
        found |= {".".join(parts[:many]) for many in range(1, first + 1)}
    return found


def layers(module: nn.Module) -> dict[str, list[str]]:
    """Return the names of the parameters of each layer, in the order of the module; the last one is the head."""
    names = [name for name, _ in module.named_parameters()]
    holders = _holders(names)
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(layer_of(name, holders), []).append(name)
    return found


def rates(module: nn.Module, decay: float) -> list[tuple[list[nn.Parameter], float]]:
    """Return the parameters of each layer with the share of the head's learning rate: `decay` to the power of how far it is away.

    Howard and Ruder 2018, arXiv:1801.06146, section 3.2; Clark et al. 2020, arXiv:2003.10555.
    """
    parameters = dict(module.named_parameters())
    found = list(layers(module).values())
    groups = []
    for place, names in enumerate(found):
        learning = [parameters[name] for name in names if parameters[name].requires_grad]
        if learning:
            groups.append((learning, decay ** (len(found) - 1 - place)))
    return groups


class Frozen:
    """The layers that do not learn, at first or for good. What is frozen follows from the epoch alone, so it needs no state.

    Normalisations within them keep their means too, as in Keras: else what was learnt would be measured otherwise.
    """

    def __init__(self, module: nn.Module, learning: Learning):
        self._learning = learning
        known = layers(module)
        holders = _holders(name for name, _ in module.named_parameters())
        asked = wanted(learning.freeze or (), known)
        parameters = dict(module.named_parameters())
        self._layers = {
            name: [parameters[one] for one in names if parameters[one].requires_grad] for name, names in asked.items()
        }
        kept = {one for names in asked.values() for one in names}
        self._norms: dict[str, list[nn.Module]] = {name: [] for name in asked}
        for path, part in module.named_modules():
            if getattr(part, "running_mean", None) is None:
                continue
            layer = layer_of(f"{path}.weight", holders)
            if layer in self._norms and (getattr(part, "weight", None) is None or f"{path}.weight" in kept):
                self._norms[layer].append(part)
        self._now: tuple[str, ...] = ()
        self._said: tuple[str, ...] = ()
        self._module, self._many = module, len(known)

    def at(self, epoch: int) -> None:
        """Freeze what is to be frozen in an epoch, from 0, and let the rest learn."""
        names = tuple(self._layers)
        after, each = self._learning.unfreeze_after, self._learning.unfreeze_layers
        if after is not None and epoch >= after:
            left = 0 if each is None else max(0, len(names) - (epoch - after + 1) * each)
            names = names[:left]
        self._now = names
        for name, parameters in self._layers.items():
            for parameter in parameters:
                parameter.requires_grad_(name not in names)
                if name in names:
                    parameter.grad = None

    def news(self) -> str | None:
        """Return a line that says what is frozen, where that was not said yet."""
        if self._now == self._said:
            return None
        self._said = self._now
        learning = sum(p.numel() for p in self._module.parameters() if p.requires_grad)
        return f"{len(self._now)} of {self._many} layers are frozen: {learning:,} numbers learn"

    def free(self) -> None:
        """Let everything learn."""
        for parameters in self._layers.values():
            for parameter in parameters:
                parameter.requires_grad_(True)

    def still(self) -> None:
        """Have normalisations of what is frozen keep their means; to be called when the module was set to learn."""
        for name in self._now:
            for part in self._norms[name]:
                part.eval()


def wanted(asked: Sequence[str], known: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return the layers that are asked for, with the names that are. Raises `Invalid` for a pattern that fits none."""
    if ALL_BUT_HEAD in asked:
        return dict(list(known.items())[:-1])
    found: dict[str, list[str]] = {}
    for layer, names in known.items():
        if chosen := [name for name in names if any(_fits(name, pattern) for pattern in asked)]:
            found[layer] = chosen
    every = [name for names in known.values() for name in names]
    for pattern in asked:
        if not any(_fits(name, pattern) for name in every):
            raise no_layer(pattern, known)
    if sum(map(len, found.values())) == len(every):
        raise Invalid(
            "freeze: every layer is frozen, and nothing is left to learn: leave the last one out",
            errors=[FieldError("learning.freeze", "leave a layer out")],
        )
    return found


def no_layer(pattern: str, known: Iterable[str]) -> Invalid:
    """Return the error for a pattern that fits no layer."""
    listed = list(known)
    shown = ", ".join(listed[:20]) + (f", … {len(listed)} in all" if len(listed) > 20 else "")
    return Invalid(
        f"freeze: there is no layer {pattern!r}; the model has {shown}",
        errors=[FieldError("learning.freeze", f"'{ALL_BUT_HEAD}', or layers of the model")],
    )


def _fits(name: str, pattern: str) -> bool:
    """Whether a pattern is the name of a parameter, or that of a part that it is in."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:many]), pattern) for many in range(1, len(parts) + 1))


def grouped(
    module: nn.Module, decay: float | None
) -> tuple[list[dict[str, list[torch.nn.Parameter]]], list[float]] | None:
    """Return the groups of parameters for an optimiser, and the share of the rate of each; None where all have the same."""
    if decay is None or decay == 1:
        return None
    found = rates(module, decay)
    return [{"params": parameters} for parameters, _ in found], [share for _, share in found]
