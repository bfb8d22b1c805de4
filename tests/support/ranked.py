"""Train as one of several processes: ``python -m tests.support.ranked FOLDER RANK WORLD``; the first writes what was learnt."""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from tests.support.handle import FileHandle
from tests.support.train_child import digits
from torch import nn

from leptonai.core import plugins
from leptonai.core.learning import Learning
from leptonai.core.ranks import Rank
from leptonai.training.spec import EarlyStopping, Train
from leptonai.training.work import train

LEARNING = {
    "schedule": "plateau:warmup=0.5,patience=1,factor=0.7", "clip_norm": 1.0, "accumulate": 2, "weight_decay": 0.01,
    "label_smoothing": 0.1, "ema": 0.95, "class_weights": "balanced", "balanced_sampling": True, "learning_rate": 0.003,
}  # fmt: skip


def main(folder: Path, rank: int, world: int) -> None:
    own = folder / f"{rank}-of-{world}"
    handle = FileHandle(own, datasets=dict(zip(("train", "test"), digits(), strict=True)))
    handle.rank = Rank(rank, world, str(folder / f"meet-{world}") if world > 1 else "")  # type: ignore[attr-defined]
    os.chdir(own)
    torch.manual_seed(1)
    torch.set_num_threads(1)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    framework = plugins.framework_of(net)
    code = framework.pack(net, {"optimizer": "adam", "loss": "cross_entropy", "metrics": ["accuracy", "f1"]}).code
    spec = Train(
        data="train", validation="test", framework="torch", flavour="torch", code=handle.write(code), epochs=3, seed=4,
        batch_size=50, learning=Learning.model_validate(LEARNING), augment=("shift", "rotate"),
        early_stopping=EarlyStopping(monitor="val_accuracy", patience=2),
    )  # fmt: skip
    result = train(spec, handle)
    if rank:
        return
    weights = framework.load(code, handle.read(result["weights"])).model
    values = torch.cat([p.detach().flatten() for p in weights.parameters()]).numpy()
    history = {f"history.{name}": np.array(found) for name, found in result["history"].items()}
    np.savez(folder / f"{world}.npz", weights=values, **history)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
