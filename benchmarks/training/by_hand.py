"""The best that a hand-written loop of PyTorch does: images gathered in memory, ways by their words.

last: channels last · fused: the optimiser's step as one kernel · order: pooling before the ReLU · bf16: rounded sums.
Rows come in the order in which our Run has them: after a few epochs of few rows two orders differ by three points of accuracy.
"""

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from leptonai.core.stages import Shuffle
from leptonai.data.loader_order import Epoch

sys.path.insert(0, str(Path(__file__).parents[1]))
from training.parts import BATCH, accuracy, floats, load, network
from training.turns import Turns


class Loop:
    """A network, its optimiser, and one way of computing."""

    def __init__(self, words: str, data: dict[str, np.ndarray]):
        self.words = set(words.split("+"))
        self.model = network()
        if "order" in self.words:
            parts = list(self.model)
            for at in (1, 4):
                parts[at], parts[at + 1] = parts[at + 1], parts[at]
            self.model = nn.Sequential(*parts)
        if "last" in self.words:
            self.model.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.model.parameters(), fused="fused" in self.words)
        self.loss = nn.CrossEntropyLoss()
        self.x, self.y = torch.from_numpy(floats(data["x"])), torch.from_numpy(data["y"])
        self.epochs = 0

    def epoch(self, batches: int | None = None, after: Callable[[], None] = lambda: None) -> float:
        """Learn from all rows once, or from some batches; return the mean loss. `after`: is called after each batch."""
        rows = len(self.x) if batches is None else batches * BATCH
        order = torch.from_numpy(Epoch([len(self.x)], Shuffle(seed=0, window=0), self.epochs).numbers())[:rows]
        self.epochs += 1
        total, right = 0.0, 0
        self.model.train()
        for at in range(0, rows, BATCH):
            some = order[at : at + BATCH]
            x, y = self.x[some], self.y[some]
            if "last" in self.words:
                x = x.contiguous(memory_format=torch.channels_last)
            self.optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16) if "bf16" in self.words else contextlib.nullcontext():
                scores = self.model(x).float()
            value = self.loss(scores, y)
            value.backward()
            self.optimizer.step()
            total += value.item() * len(some)
            right += int((scores.argmax(1) == y).sum())
            after()
        return total / rows


def main() -> None:
    what, folder, words = sys.argv[1:4]
    data = load(folder)
    if what == "race":  # several ways, a few batches each in turns: seconds of a batch, best of a few
        loops = {one: Loop(one, data) for one in words.split(",")}
        best = dict.fromkeys(loops, float("inf"))
        for turn in range(4):
            for name, loop in loops.items():
                if turn and best[name] > 1.5 * min(best.values()):
                    continue
                began = time.perf_counter()
                loop.epoch(2 if turn == 0 else 10)
                best[name] = min(best[name], (time.perf_counter() - began) / (2 if turn == 0 else 10))
        print(*(f"{name}={seconds}" for name, seconds in best.items()))
        return
    turns, loop = Turns(sys.argv[4]), Loop(words, data)
    for _ in range(int(sys.argv[5])):
        turns.begin()
        loop.epoch(after=turns.batch)
        turns.end()
    print(round(accuracy(loop.model, data), 4))


if __name__ == "__main__":
    main()
