"""PyTorch modules that learn in several processes at once: gradients are averaged over the rows of all, and so are the same.

`torch.distributed` carries the numbers; over gloo on processors, over NCCL where each process has a GPU of its own. The sums are
made in one flat array in a fixed order: DistributedDataParallel orders its parts anew after the first step, so that with more
than two processes a training that goes on after a kill would have other last bits than one that was not killed.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import FileStore

from leptonai.core.errors import Unavailable
from leptonai.core.ranks import Rank

Tensor = torch.Tensor
_MEET_SECONDS = 300.0  # in which all must have come
_STILL = timedelta(minutes=30)  # how long one may keep the others waiting, such as by a callback
_SEEDS = 1_000_003  # between the seeds of two processes
_FLAGS = 5  # rows, loss times rows, gradients that are missing, stop, save


class TorchGroup:
    """The processes of one training. See `training.sharing.Group`."""

    def __init__(self, parts: Any, rank: Rank, device: str = "cpu"):
        self.rank = rank
        self.loss = float("nan")  # of the last batch, over all rows
        self._parts = parts  # what has `allreduce`, `broadcast` and `allgather`
        self._device = torch.device(device)  # where the numbers that travel lie
        self._module: nn.Module
        self._all: list[nn.Parameter] = []
        self._frozen: tuple[bool, ...] = ()  # of each, whether it learns, as of the last step
        self._learnt: list[nn.Parameter] = []
        self._floats: list[Tensor] = []
        self._flat: dict[torch.dtype, tuple[Tensor, list[Tensor], list[Tensor]]] = {}
        self._rows, self._value = 0, 0.0
        self._wanted = (False, False)
        self._heard = (False, False)

    # --------------------------------------------------------------------------------------------- agreeing

    def ask(self, *, stop: bool, save: bool) -> None:
        """Say, before a step, whether to stop or to leave a checkpoint after it."""
        self._wanted = (stop, save)

    @property
    def asked(self) -> tuple[bool, bool]:
        """Whether any process asked for the stop, and for the checkpoint, before the last step."""
        return self._heard

    def share(self, data: bytes) -> bytes:
        """Return what the first process has given."""
        length = torch.tensor([len(data)], dtype=torch.int64, device=self._device)
        self._broadcast(length)
        many = int(length.item())
        given = _tensor(data, self._device) if self.rank.number == 0 else _empty(many, self._device)
        if many:
            self._broadcast(given)
        return _bytes(given, many)

    def gather(self, data: bytes) -> list[bytes]:
        """Return what each has given."""
        lengths = self._of_all(torch.tensor([len(data)], dtype=torch.int64, device=self._device))
        many = [int(length.item()) for length in lengths]
        padded = _empty(max(1, *many), self._device)
        padded[: len(data)] = _tensor(data, self._device)
        return [_bytes(given, size) for given, size in zip(self._of_all(padded), many, strict=True)]

    def align(self) -> None:
        """Have all take the weights of the first."""
        with torch.no_grad():
            for value in (*self._module.parameters(), *self._module.buffers()):
                moved = value.detach().to(self._device, copy=True).contiguous()
                self._broadcast(moved)
                value.copy_(moved)

    # -------------------------------------------------------------------------------------------- gradients

    def begin(self, module: nn.Module) -> None:
        """Take the module that learns; its lazy layers are filled."""
        self._module = module
        self._all = list(module.parameters())
        self._floats = [b for b in module.buffers() if b.is_floating_point()]
        self._frozen = ()
        self._flat = {}
        self.align()

    def seed(self, seed: int) -> int:
        """Return the seed of this process: what is drawn for a row differs from what the others draw."""
        return (seed + _SEEDS * self.rank.number) % 2**31

    def next(self, rows: int) -> None:
        """Say how many rows of the batch this process has; 0: it has nothing to add."""
        self._rows, self._value = rows, 0.0

    def average(self, loss: Tensor | None) -> None:
        """Put in place of each gradient its mean over the rows of all processes, and so with the means of batches.

        A process that has no rows gets the gradients of the others. Raises `Unavailable` when one is gone.
        """
        rows = float(self._rows)
        frozen = tuple(p.requires_grad for p in self._all)
        if frozen != self._frozen:  # layers begin to learn, or cease to, while the training goes on
            self._frozen, self._flat = frozen, {}
            self._learnt = [p for p in self._all if p.requires_grad]
        missing = [p for p in self._learnt if p.grad is None] if rows else []
        value = 0.0 if loss is None else float(loss.detach()) * rows
        flags = [rows, value, float(len(missing)), *map(float, self._wanted)]
        found: list[float] = []
        with torch.no_grad():
            for number, (flat, views, targets) in enumerate(self._laid()):
                self._fill(flat, views, targets, rows)
                if number == 0:
                    flat[-_FLAGS:] = torch.tensor(flags, dtype=flat.dtype)
                self._sum(flat)
                if number == 0:
                    found = flat[-_FLAGS:].tolist()
                flat /= max(1.0, found[0])
            self._put(self._absent(missing) if found[2] else set())
        self.loss = found[1] / max(1.0, found[0])
        self._heard = (found[3] > 0, found[4] > 0)

    def _laid(self) -> list[tuple[Tensor, list[Tensor], list[Tensor]]]:
        """Return, of each kind of number: the flat array, its pieces, and what each piece is of."""
        if not self._flat:
            kinds: dict[torch.dtype, list[Tensor]] = {}
            for value in (*self._learnt, *self._floats):
                kinds.setdefault(value.dtype, []).append(value)
            for number, (kind, values) in enumerate(kinds.items()):
                sizes = [value.numel() for value in values]
                flat = torch.zeros(sum(sizes) + (0 if number else _FLAGS), dtype=kind, device=self._device)
                pieces = list(torch.split(flat[: sum(sizes)], sizes))
                views = [piece.view(value.shape) for piece, value in zip(pieces, values, strict=True)]
                self._flat[kind] = (flat, views, values)
        return list(self._flat.values())

    def _fill(self, flat: Tensor, views: list[Tensor], targets: list[Tensor], rows: float) -> None:
        if not rows:
            flat.zero_()
            return
        given = [self._given(target) for target in targets]
        here = [(view, value) for view, value in zip(views, given, strict=True) if value is not None]
        for view, value in zip(views, given, strict=True):
            if value is None:
                view.zero_()
        torch._foreach_copy_([view for view, _ in here], [value for _, value in here])
        flat *= rows

    def _given(self, target: Tensor) -> Tensor | None:
        return target.grad if isinstance(target, nn.Parameter) else target

    def _put(self, absent: set[int]) -> None:
        """Take the averages. `absent`: parameters that no process has a gradient of."""
        for _, views, targets in self._laid():
            into, values = [], []
            for view, target in zip(views, targets, strict=True):
                if isinstance(target, nn.Parameter):
                    if id(target) in absent:
                        continue
                    if target.grad is None:
                        target.grad = torch.empty_like(target)
                    into.append(target.grad)
                else:
                    into.append(target)
                values.append(view)
            torch._foreach_copy_(into, values)

    def _absent(self, missing: list[nn.Parameter]) -> set[int]:
        mine = {id(p) for p in missing}
        here = [float(bool(self._rows) and id(p) not in mine) for p in self._learnt]
        there = torch.tensor(here, device=self._device)
        self._sum(there)
        return {id(p) for p, count in zip(self._learnt, there.tolist(), strict=True) if not count}

    # --------------------------------------------------------------------------------------------- numbers

    def _sum(self, value: Tensor) -> None:
        with _all_there(self.rank):
            self._parts.allreduce([value]).wait()

    def _broadcast(self, value: Tensor) -> None:
        with _all_there(self.rank):
            self._parts.broadcast(value, 0).wait()

    def _of_all(self, value: Tensor) -> list[Tensor]:
        found = [torch.empty_like(value) for _ in range(self.rank.of)]
        with _all_there(self.rank):
            self._parts.allgather([found], [value]).wait()
        return found


@contextmanager
def _all_there(rank: Rank) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        short = " ".join(str(error).split())[:300]
        raise Unavailable(f"{rank.words} cannot go on without the others, one of which is gone: {short}") from error


def join(rank: Rank) -> TorchGroup:
    """Join the other processes of the Run. Raises `Unavailable` when they cannot be reached."""
    if not rank.meet:  # whoever started them has joined them
        parts = dist.distributed_c10d._get_default_group()
        return TorchGroup(parts, rank, "cuda" if dist.get_backend(parts) == "nccl" else "cpu")
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // rank.of))
    many = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if many:
        torch.cuda.set_device(rank.number % many)
    store = FileStore(rank.meet, rank.of)
    store.set_timeout(timedelta(seconds=_MEET_SECONDS))
    own = many >= rank.of
    return TorchGroup(_met(_nccl if own else _gloo, store, rank), rank, "cuda" if own else "cpu")


def _met(make: Callable[[Any, Rank], Any], store: Any, rank: Rank) -> Any:
    try:
        return make(store, rank)
    except RuntimeError as error:
        short = " ".join(str(error).split())[:300]
        raise Unavailable(f"{rank.words} could not reach the others within {_MEET_SECONDS:g} s: {short}") from error


def _gloo(store: Any, rank: Rank) -> Any:
    options = dist.ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    options._devices = [dist.ProcessGroupGloo.create_device(hostname="127.0.0.1")]
    options._threads = 1
    options._timeout = timedelta(seconds=_MEET_SECONDS)
    made: Any = dist.ProcessGroupGloo(store, rank.number, rank.of, options)
    made.allreduce([torch.zeros(1)]).wait()
    made._set_default_timeout(_STILL)
    return made


def _nccl(store: Any, rank: Rank) -> Any:
    options = dist.ProcessGroupNCCL.Options()
    options._timeout = _STILL
    made: Any = dist.ProcessGroupNCCL(store, rank.number, rank.of, options)
    made.allreduce([torch.zeros(1, device="cuda")]).wait()
    return made


def _tensor(data: bytes, device: torch.device) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).to(device) if data else _empty(0, device)


def _empty(many: int, device: torch.device) -> Tensor:
    return torch.zeros(many, dtype=torch.uint8, device=device)


def _bytes(value: Tensor, many: int) -> bytes:
    return value[:many].cpu().numpy().tobytes()
