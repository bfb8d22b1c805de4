"""Ways to compute the same PyTorch module: how its images and weights lie in memory, how sums are rounded, what is compiled.

A way is named by its words: "plain", "channels-last", "channels-last bf16", "channels-last bf16 compiled".
"""

import importlib.util
import shutil
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

PLAIN, LAST, ROUNDED, COMPILED = "plain", "channels-last", "bf16", "compiled"
_ROUNDS = 3
_HOPELESS = 2.0  # a way that takes this many times as long in its first round is not tried again
_SAME = 0.99  # cosine between the gradients of a rounded batch and of an exact one


def paths(module: nn.Module, images: bool, may_round: bool) -> tuple[str, ...]:
    """Return the ways there are but those that are compiled, the plainest first.

    Images lie in two ways only where they meet convolutions; sums are rounded only where nobody asked for a precision.
    """
    convolves = images and any(isinstance(part, nn.Conv2d) for part in module.modules())
    layouts = (PLAIN, LAST) if convolves else (PLAIN,)
    return layouts + (tuple(_joined(way, ROUNDED) for way in layouts) if may_round else ())


def usual(paths: Sequence[str], device: torch.device) -> str:
    """Return the way of these that is taken where nobody measured: convolutions of a processor are quicker with channels last."""
    return LAST if device.type == "cpu" and LAST in paths else paths[0]


def rounds_here(device: torch.device) -> bool:
    """Whether the processor has instructions for bf16 that PyTorch knows; without them it takes many times as long."""
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def compiles_here(device: torch.device) -> bool:
    """Whether `torch.compile` finds what it compiles with: a C++ compiler, or Triton on a GPU."""
    if device.type == "cuda":
        return importlib.util.find_spec("triton") is not None
    return device.type == "cpu" and any(shutil.which(name) for name in ("g++", "clang++"))


def compiled(module: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the module compiled for batches of one size, in this process alone."""
    import torch._inductor.config as inductor

    inductor.compile_threads = 1
    made: Callable[[torch.Tensor], torch.Tensor] = torch.compile(module, dynamic=False)
    return made


def clock(device: torch.device) -> Callable[[], float]:
    """Return what a race is timed by: on a processor its time by thread, which others that work on the machine do not change."""
    return time.perf_counter if device.type != "cpu" else lambda: time.process_time() / torch.get_num_threads()


def has(path: str, word: str) -> bool:
    """Whether a way is one with this word."""
    return word in path.split()


def and_compiled(path: str) -> str:
    """Return the same way, compiled."""
    return _joined(path, COMPILED)


def _joined(path: str, word: str) -> str:
    return word if path == PLAIN else f"{path} {word}"


def lay(module: nn.Module, path: str) -> None:
    """Have the module's weights lie as a way wants them; their values stay."""
    wanted = torch.channels_last if has(path, LAST) else torch.contiguous_format
    for value in (*module.parameters(), *module.buffers()):
        if value.dim() == 4:
            # A copy: weights of one channel lie both ways at once, and what they compute would follow the plain one.
            value.data = value.data.clone(memory_format=wanted)


def lie(x: torch.Tensor, path: str) -> torch.Tensor:
    """Return a batch as a way wants it."""
    if x.dim() != 4:
        return x
    if has(path, LAST):
        return x.contiguous(memory_format=torch.channels_last)
    # One channel lies both ways at once, and the kernels take what the strides say: they depend on where the batch was gathered.
    return x.flatten().view(x.shape)


def timed(
    paths: Sequence[str], take: Callable[[str], None], batch: Callable[[], None], clock: Callable[[], float]
) -> dict[str, float]:
    """Return the seconds of a batch by each way and this clock, the best of a few, taken in turns: a machine's speed drifts.

    One that fails, or takes hopelessly long, is left out; the first never is.
    """
    best = dict.fromkeys(paths, float("inf"))
    for _ in range(_ROUNDS):
        for path in list(best):
            take(path)
            try:
                batch()  # the first one finds its kernels and its memory
                for _ in range(2):
                    began = clock()
                    batch()
                    best[path] = min(best[path], clock() - began)
                    if best[path] > _HOPELESS * best[paths[0]]:
                        break
            except RuntimeError:  # a kernel or a compiler that this machine does not have
                if path == paths[0]:
                    raise
                del best[path]
        best = {path: seconds for path, seconds in best.items() if seconds <= _HOPELESS * best[paths[0]]}
    return best


def alike(exact: Sequence[torch.Tensor], rounded: Sequence[torch.Tensor]) -> bool:
    """Whether two gradients of the same batch point the same way, so that what is learnt is the same but for noise."""
    a, b = (torch.cat([part.flatten().double() for part in parts]) for parts in (exact, rounded))
    length = float(a.norm() * b.norm())
    return length > 0 and float(a @ b) / length >= _SAME
