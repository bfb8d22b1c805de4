"""What computes a PyTorch module's outputs while it learns, in one of the ways that `torch_paths` names."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from leptonai.adapters.frameworks import torch_device, torch_paths

Tensor = torch.Tensor


class Compute:
    """A module on a device, with the precision that was asked for. `images`: whether its batches are such."""

    def __init__(self, module: nn.Module, device: torch.device, precision: str = "auto"):
        self.path = torch_paths.PLAIN
        self.images = False
        self.rounded = torch_device.rounded(precision, device)  # what sums are rounded to; None: fp32
        self._module, self._device = module, device
        self._may_round = precision == "auto" and torch_paths.rounds_here(device)
        self._compiled: Callable[[Tensor], Tensor] | None = None
        self._size: torch.Size | None = None  # of the batches that the compiled module computes: the first

    @property
    def paths(self) -> tuple[str, ...]:
        """The ways there are, the plainest first, but those that are compiled."""
        return torch_paths.paths(self._module, self.images, self._may_round)

    def compiled_path(self, path: str) -> str | None:
        """Return the same way, compiled; None where nothing is there to compile with."""
        return torch_paths.and_compiled(path) if torch_paths.compiles_here(self._device) else None

    def take(self, path: str) -> None:
        """Compute in this way from now on; as far as this machine can, where another one chose it."""
        torch_paths.lay(self._module, path)
        self.path, self._compiled, self._size = path, None, None
        if torch_paths.has(path, torch_paths.COMPILED) and torch_paths.compiles_here(self._device):
            self._compiled = torch_paths.compiled(self._module)

    def output(self, x: Any) -> Any:
        """Return the module's output, or its outputs by name, in fp32."""
        rounded = torch.bfloat16 if torch_paths.has(self.path, torch_paths.ROUNDED) else self.rounded
        if rounded is None:
            return self._run(x)
        with torch.autocast(self._device.type, rounded):
            output = self._run(x)
        return output.float() if isinstance(output, Tensor) else {name: part.float() for name, part in output.items()}

    def _run(self, x: Any) -> Any:
        if self._compiled is not None:
            self._size = self._size or x.shape
            if x.shape == self._size:  # what is left over at the end of an epoch is not worth a compilation
                return self._compiled(x)
        return self._module(x)

    def timed(self, paths: Sequence[str], batch: Callable[[], None], forget: Callable[[], None]) -> dict[str, float]:
        """Return the seconds of a batch by each of these ways, without those that fail, or learn something else than the first.

        `batch` goes forth and back, so that gradients come together until `forget`.
        """

        def alone() -> None:
            batch()
            forget()

        found = torch_paths.timed(paths, self.take, alone, torch_paths.clock(self._device))
        exact: list[Tensor] = []
        for path in [path for path in found if torch_paths.has(path, torch_paths.ROUNDED)]:
            exact = exact or self._gradient(paths[0], batch, forget)
            if not torch_paths.alike(exact, self._gradient(path, batch, forget)):
                del found[path]
        return found

    def _gradient(self, path: str, batch: Callable[[], None], forget: Callable[[], None]) -> list[Tensor]:
        self.take(path)
        before = torch.get_rng_state()  # dropout leaves out the same in each
        batch()
        torch.set_rng_state(before)
        found = [p.grad.detach().clone() for p in self._module.parameters() if p.grad is not None]
        forget()
        return found
