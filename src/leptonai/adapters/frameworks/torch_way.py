"""How a PyTorch module learns from a loss: gradients added up and clipped, weights decayed and averaged.

One place for all of it. What it keeps between two batches (gradients that wait, averages) is in its `state`.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from leptonai.adapters.frameworks import arrays
from leptonai.core.learning import Way, no_dropout

Tensor = torch.Tensor


class TorchWay:
    """Makes steps of an optimiser from losses, as a `Way` asks for."""

    def __init__(
        self,
        way: Way,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler | None = None,
        shares: list[float] | None = None,  # of the rate, for each group of the optimiser's parameters
    ):
        self._learning = way.learning
        if way.learning.dropout is not None:
            _drop(module, way.learning.dropout)
        self._optimizer = optimizer
        self._scaler = scaler  # in fp16 small gradients vanish unless the loss is large
        self._parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._decayed: list[Tensor] = [p for p in self._parameters.values() if p.dim() > 1]
        # Buffers that are floats, such as the means of a batch normalisation, belong to the weights they were measured with.
        floats = {name: b for name, b in module.named_buffers() if b.is_floating_point()}
        self._tracked: dict[str, Tensor] = {**self._parameters, **floats} if self._learning.ema else {}
        self._averages: dict[str, Tensor] = {}
        self._averaged = False  # whether the module holds the averages, and `_averages` what learns
        self._waiting = 0  # batches whose gradients wait for a step
        self.shared: Callable[[Tensor | None], None] | None = None  # averages gradients with other processes
        if self._learning.rate is not None:
            _set_rate(optimizer, self._learning.rate)
        for group, share in zip(optimizer.param_groups if shares else (), shares or (), strict=True):
            _put_rate(group, float(group["lr"]) * share)
        if self._learning.weight_decay is not None:
            for group in optimizer.param_groups:
                group["weight_decay"] = 0.0  # it would be done twice
        self._rates = [float(group["lr"]) for group in optimizer.param_groups]
        self._step = bare_step(optimizer)

    def rate(self, share: float) -> None:
        """Set the learning rate to this share of the full one."""
        for group, full in zip(self._optimizer.param_groups, self._rates, strict=True):
            _put_rate(group, full * share)

    def learn(self, loss: Tensor | None) -> None:
        """Go back through the loss, and make a step where enough batches came together. None: only others have rows."""
        many = self._learning.accumulate
        if loss is not None:
            part = loss / many if many > 1 else loss
            (part if self._scaler is None else self._scaler.scale(part)).backward()  # type: ignore[no-untyped-call]
        if self.shared is not None:
            self.shared(loss)
        self._waiting += 1
        if self._waiting < many:
            return
        self._waiting = 0
        if self._scaler is not None:
            self._scaler.unscale_(self._optimizer)
        self._clip()
        self._decay()
        if self._scaler is None:
            self._step()
        else:
            self._scaler.step(self._optimizer)
            self._scaler.update()
        self._drop_gradients()
        self._average()

    def forget(self) -> None:
        """Drop the gradients that came together."""
        self._drop_gradients()
        self._waiting = 0

    def _drop_gradients(self) -> None:
        # As `zero_grad` does, which notes it for a profiler at seven times the cost.
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def _clip(self) -> None:
        if self._learning.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters.values(), self._learning.clip_norm)
        if self._learning.clip_value is not None:
            nn.utils.clip_grad_value_(self._parameters.values(), self._learning.clip_value)

    def _decay(self) -> None:
        """Decay apart from the gradient (Loshchilov and Hutter 2017, arXiv:1711.05101), whatever the optimiser is."""
        if not self._learning.weight_decay:
            return
        with torch.no_grad():
            for group in self._optimizer.param_groups:
                mine = {id(p) for p in group["params"]}
                found = [p for p in self._decayed if id(p) in mine and p.grad is not None]
                if found:
                    torch._foreach_mul_(found, 1 - float(group["lr"]) * self._learning.weight_decay)

    def _average(self) -> None:
        if not self._tracked:
            return
        with torch.no_grad():
            now = [value.detach() for value in self._tracked.values()]
            if not self._averages:
                self._averages = {name: value.detach().clone() for name, value in self._tracked.items()}
            else:
                assert self._learning.ema is not None  # noqa: S101  (else nothing is tracked)
                torch._foreach_lerp_([self._averages[name] for name in self._tracked], now, 1 - self._learning.ema)

    def averaged(self, wanted: bool) -> None:
        """Have the module hold the averages of its weights, or the weights that learn. Without averages: nothing."""
        if not self._averages or self._averaged == wanted:
            return
        for name, value in self._tracked.items():
            value.data, self._averages[name] = self._averages[name], value.data
        self._averaged = wanted

    def taken(self) -> None:
        """Note that the module was given other weights: they are the averages too."""
        if self._averages:
            self._averages = {name: value.detach().clone() for name, value in self._tracked.items()}

    def state(self) -> dict[str, bytes]:
        """Return what must be kept; the module is to hold what learns."""
        kept = {f"averages/{name}": value for name, value in self._averages.items()}
        if self._waiting:
            kept |= {f"gradients/{n}": p.grad for n, p in self._parameters.items() if p.grad is not None}
        if not kept and self._scaler is None:
            return {}
        from safetensors.torch import save

        about = {"about": json.dumps({"waiting": self._waiting, "scale": self._scaler and self._scaler.state_dict()})}
        return {"way.safetensors": save({name: on_cpu(value) for name, value in kept.items()}, about)}

    def restore(self, state: Mapping[str, bytes]) -> None:
        """Go on from a `state`; the module holds what learns."""
        self._drop_gradients()
        self._averages, self._averaged, self._waiting = {}, False, 0
        data = state.get("way.safetensors")
        if data is None:
            return
        from safetensors.torch import load

        about = arrays.about(data)
        self._waiting = int(about["waiting"])
        if self._scaler is not None and about["scale"]:
            self._scaler.load_state_dict(about["scale"])
        for key, value in load(data).items():
            kind, _, name = key.partition("/")
            if kind == "gradients":
                parameter = self._parameters[name]
                parameter.grad = torch.empty_like(parameter).copy_(value)
            else:
                self._averages[name] = torch.empty_like(self._tracked[name]).copy_(value).detach()


def bare_step(optimizer: torch.optim.Optimizer) -> Callable[[], object]:
    """Return the optimiser's step without what PyTorch wraps around it for profilers and compilers: a fifth of a small step.

    Whoever hooked on to it is called all the same, and an optimiser that is not PyTorch's own is left as it is.
    """
    kind = type(optimizer)
    if not kind.__module__.startswith("torch.optim") or optimizer.defaults.get("differentiable"):
        return optimizer.step
    bare = inspect.unwrap(kind.step)
    hooks = [getattr(optimizer, f"_optimizer_step_{when}_hooks", {}) for when in ("pre", "post")]
    hooks += [_global_optimizer_pre_hooks, _global_optimizer_post_hooks]

    def step() -> object:
        if any(hooks):
            return optimizer.step()
        with torch.no_grad():
            return bare(optimizer)

    return step


def on_cpu(value: Tensor) -> Tensor:
    """Return a copy in the processor's memory: tied weights must not share memory in a file."""
    return value.detach().to("cpu", copy=True).contiguous()


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    first = float(optimizer.param_groups[0]["lr"])
    for group in optimizer.param_groups:  # groups keep their proportions
        _put_rate(group, rate * float(group["lr"]) / first if first else rate)


def _put_rate(group: dict[str, Any], rate: float) -> None:
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def _drop(module: nn.Module, share: float) -> None:
    """Have the dropout layers leave out this share. Raises `Unsupported` where there are none."""
    found = [part for part in module.modules() if isinstance(part, nn.modules.dropout._DropoutNd)]
    if not found:
        raise no_dropout("torch.nn.Dropout(0.1)")
    for part in found:
        part.p = share
