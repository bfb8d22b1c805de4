"""The CNN by DistributedDataParallel as people write it: under torchrun, or by Ray Train alone.

torchrun --nproc-per-node 2 by_ddp.py FOLDER PLACE EPOCHS; where RAY_ADDRESS says so, python by_ddp.py … by Ray Train
"""

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))


def train(asked: dict[str, Any]) -> None:
    """Train in one of the processes, which are joined already."""
    sys.path.insert(0, asked["benchmarks"])
    import torch
    import torch.distributed as dist
    from torch import nn

    from training.parts import BATCH, accuracy, floats, load, network
    from training.turns import Turns

    rank, world = dist.get_rank(), dist.get_world_size()
    data = load(asked["folder"])
    x, y = torch.from_numpy(floats(data["x"])), torch.from_numpy(data["y"])
    model = nn.parallel.DistributedDataParallel(network())
    optimizer, loss = torch.optim.Adam(model.parameters()), nn.CrossEntropyLoss()
    turns, size = Turns(asked["place"]), BATCH // world
    for epoch in range(asked["epochs"]):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
        if rank == 0:
            turns.begin()
        dist.barrier()
        model.train()
        total = 0.0
        for at in range(0, len(x) - BATCH + 1, BATCH):
            some = order[at + rank * size : at + (rank + 1) * size]
            optimizer.zero_grad(set_to_none=True)
            value = loss(model(x[some]), y[some])
            value.backward()
            optimizer.step()
            total += value.item()
        dist.barrier()
        if rank == 0:
            turns.end()
    if rank == 0:
        print(accuracy(model.module, data), flush=True)


def main() -> None:
    folder, place, epochs = sys.argv[1:]
    asked = {"folder": folder, "place": place, "epochs": int(epochs), "benchmarks": str(Path(__file__).parents[1])}
    if "RAY_ADDRESS" not in os.environ:
        import torch.distributed as dist

        dist.init_process_group("gloo")
        train(asked)
        dist.destroy_process_group()
        return
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    ray.init(logging_level="error", log_to_driver=False)
    TorchTrainer(
        train,
        train_loop_config=asked,
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(storage_path=place),
    ).fit()


if __name__ == "__main__":
    main()
