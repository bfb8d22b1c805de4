"""What a PyTorch training remembers beside its weights, as bytes: its optimiser and its random generators."""

import base64
import json
from typing import Any

import torch
from torch import nn

from leptonai.adapters.frameworks import arrays, torch_lora
from leptonai.adapters.frameworks.torch_way import on_cpu

Tensor = torch.Tensor


def seed_all(seed: int) -> None:
    """Seed all generators, and have the same sums come out in the same order."""
    arrays.seed_generators(seed)
    torch.manual_seed(seed)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs time, and nothing here reads such memory
    # Not torch.use_deterministic_algorithms: it does the same, and imports a compiler (two seconds) on the way.
    torch._C._set_deterministic_algorithms(True, warn_only=True)


def generators() -> list[str]:
    """Return the states of PyTorch's generators, of each device."""
    states = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else ())]
    return [base64.b64encode(state.numpy().tobytes()).decode() for state in states]


def set_generators(states: list[str]) -> None:
    """Put the generators into states that `generators` gave."""
    found = [torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8) for text in states]
    torch.set_rng_state(found[0])
    if torch.cuda.is_available() and len(found) == 1 + torch.cuda.device_count():
        torch.cuda.set_rng_state_all(found[1:])


def dump_optimizer(optimizer: torch.optim.Optimizer) -> bytes:
    """Return all that an optimiser remembers, as safetensors."""
    from safetensors.torch import save

    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for number, entries in state["state"].items():
        plain[str(number)] = {}
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{number}/{name}"] = on_cpu(value)
            else:
                plain[str(number)][name] = value
    groups = [{k: v.item() if isinstance(v, Tensor) else v for k, v in g.items()} for g in state["param_groups"]]
    return save(tensors, {"about": json.dumps({"plain": plain, "groups": groups})})


def load_optimizer(optimizer: torch.optim.Optimizer, data: bytes) -> None:
    """Have an optimiser remember what `dump_optimizer` gave."""
    from safetensors.torch import load

    about = arrays.about(data)
    state: dict[int, dict[str, Any]] = {int(number): dict(entries) for number, entries in about["plain"].items()}
    for key, value in load(data).items():
        number, _, name = key.partition("/")
        state[int(number)][name] = value
    groups = [
        {name: tuple(v) if isinstance(v, list) and name != "params" else v for name, v in group.items()}
        for group in about["groups"]
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for parameter, entries in optimizer.state.items():
        for (
            name,
            value,
        ) in entries.items():  # as they lay in memory: the same sums by other kernels have other last bits
            if isinstance(value, Tensor) and value.dim() == 4 and value.shape == parameter.shape:
                entries[name] = torch.empty_like(parameter).copy_(value).detach()


def load_into(module: nn.Module, weights: bytes) -> None:
    """Put safetensors into a module, or add what LoRA learnt to it. Raises `RuntimeError` when they are those of another one."""
    from safetensors.torch import load

    if torch_lora.about(weights) is not None:
        torch_lora.merge(module, weights)
    else:
        module.load_state_dict(load(weights))
