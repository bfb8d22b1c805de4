"""LoRA: small matrices that learn beside large ones, put into a PyTorch module by peft, and added to the large ones to compute.

What was learnt is a safetensors file with these matrices and the head, and with the settings in its header; the weights that they
stand beside are those of the module that it is loaded into.
"""

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from leptonai.adapters.frameworks import arrays
from leptonai.adapters.frameworks.torch_layers import layers
from leptonai.adapters.frameworks.torch_way import on_cpu
from leptonai.core.errors import FieldError, Invalid, MissingExtra
from leptonai.core.learning import Lora

Tensor = torch.Tensor
_ATTENTION = (
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "out_proj",
    "query",
    "key",
    "value",
    "qkv",
    "q_lin",
    "k_lin",
    "v_lin",
)
_A, _B = ".lora_A.default.weight", ".lora_B.default.weight"


class Adapters:
    """The small matrices within a module. Nothing else of it learns but the head, where there is one."""

    def __init__(self, module: nn.Module, lora: Lora, *, head: bool):
        try:
            import peft
        except ImportError as error:
            raise MissingExtra("lora needs peft:  pip install 'lepton-ai-sdk[transformers]'") from error
        self._module, self._lora = module, lora
        self._all = sum(p.numel() for p in module.parameters())
        last = list(layers(module).values())[-1] if head else []
        names = _targets(module, lora)
        scale = lora.alpha if lora.alpha is not None else 2.0 * lora.rank
        config = peft.LoraConfig(r=lora.rank, lora_alpha=scale, target_modules=names, bias="none")
        peft.inject_adapter_in_model(config, module)
        self._learnt = []
        for name, parameter in module.named_parameters():
            learns = name in last or name.endswith((_A, _B))
            parameter.requires_grad_(learns)
            if learns:
                self._learnt.append(name)
        self._header = {"lora": {"rank": lora.rank, "scale": scale / lora.rank, "targets": names}}
        self._said = False

    def still(self) -> None:
        """Have normalisations keep their means, which belong to the weights beside; to be called when the module was set to learn."""
        for part in self._module.modules():
            if getattr(part, "running_mean", None) is not None:
                part.eval()

    def dumped(self) -> bytes:
        """Return what learns, as safetensors."""
        from safetensors.torch import save

        state = self._module.state_dict()
        return save({name: on_cpu(state[name]) for name in self._learnt}, {"about": json.dumps(self._header)})

    def load(self, weights: bytes) -> None:
        """Take what `dumped` gave."""
        from safetensors.torch import load

        self._module.load_state_dict(load(weights), strict=False)

    def news(self) -> str | None:
        """Return a line that says how much learns, once."""
        if self._said:
            return None
        self._said = True
        learning = sum(p.numel() for p in self._module.parameters() if p.requires_grad)
        many = len(self._header["lora"]["targets"])  # type: ignore[arg-type]
        return f"LoRA of rank {self._lora.rank} beside {many} matrices: {learning:,} numbers learn beside {self._all:,}"


def _targets(module: nn.Module, lora: Lora) -> list[str]:
    linear = [name for name, part in module.named_modules() if isinstance(part, nn.Linear) and name]
    if lora.targets:
        found = [name for name in linear if any(_fits(name, pattern) for pattern in lora.targets)]
        wanted = ", ".join(lora.targets)
    else:
        found = [name for name in linear if name.rpartition(".")[2] in _ATTENTION]
        wanted = "the matrices of attention"
    if not found:
        shown = ", ".join(linear[:12]) + (", …" if len(linear) > 12 else "")
        raise Invalid(
            f"lora: the model has no linear layer for {wanted}: name layers with targets=…, such as some of {shown or 'none'}",
            errors=[FieldError("learning.lora.targets", "linear layers of the model")],
        )
    return found


def _fits(name: str, pattern: str) -> bool:
    steps = name.split(".")
    return any(fnmatchcase(".".join(steps[start:]), pattern) for start in range(len(steps)))


def about(weights: bytes) -> Mapping[str, Any] | None:
    """Return the settings in the header of weights that were learnt in this way; None for others."""
    found: Mapping[str, Any] | None = arrays.about(weights).get("lora")
    return found


def merge(module: nn.Module, weights: bytes) -> None:
    """Add what was learnt to the matrices that it stood beside: W + scale B A. Raises `RuntimeError` where they are not there."""
    from safetensors.torch import load

    found, scale = load(weights), float((about(weights) or {})["scale"])
    state = module.state_dict()
    with torch.no_grad():
        for name, value in found.items():
            if name.endswith(_B):
                continue
            into = name.removesuffix(_A) + ".weight" if name.endswith(_A) else name
            if into not in state:
                raise RuntimeError(f"there is no {into}")
            if name.endswith(_A):
                state[into].add_(scale * (found[name.removesuffix(_A) + _B] @ value))
            else:
                state[into].copy_(value)
