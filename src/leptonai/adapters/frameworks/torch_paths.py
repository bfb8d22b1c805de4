"""Ways to compute the same PyTorch module: how its images and weights lie in memory."""

import time
from collections.abc import Callable

import torch
from torch import nn

PLAIN, LAST = "plain", "channels-last"
_ROUNDS = 3


def paths(module: nn.Module, images: bool) -> tuple[str, ...]:
    """Return the ways there are, the plainest first: another one only where images meet convolutions."""
    convolves = images and any(isinstance(part, nn.Conv2d) for part in module.modules())
    return (PLAIN, LAST) if convolves else (PLAIN,)


def lay(module: nn.Module, path: str) -> None:
    """Have the module's weights lie as a way wants them; their values stay."""
    for value in (*module.parameters(), *module.buffers()):
        if value.dim() == 4:
            value.data = value.data.contiguous(memory_format=_FORMATS[path])


def lie(x: torch.Tensor, path: str) -> torch.Tensor:
    """Return a batch as a way wants it."""
    return x.contiguous(memory_format=_FORMATS[path]) if path == LAST and x.dim() == 4 else x


def timed(paths: tuple[str, ...], take: Callable[[str], None], batch: Callable[[], None]) -> dict[str, float]:
    """Return the seconds of a batch by each way, the best of a few, taken in turns: a machine's speed drifts."""
    best = dict.fromkeys(paths, float("inf"))
    for _ in range(_ROUNDS):
        for path in paths:
            take(path)
            batch()  # the first one finds its kernels and its memory
            for _ in range(2):
                began = time.perf_counter()
                batch()
                best[path] = min(best[path], time.perf_counter() - began)
    return best


_FORMATS = {PLAIN: torch.contiguous_format, LAST: torch.channels_last}
