"""Trainers of others, as their users write them. ``python peers.py NAME DATA TURNS EPOCHS`` prints the accuracy at the end."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from training.parts import BATCH, accuracy, floats, load, network
from training.turns import Turns


def lightning(data: dict[str, Any], turns: Turns, epochs: int) -> float:
    import pytorch_lightning as pl
    import torch
    from torch.nn import functional

    class Net(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = network()

        def training_step(self, batch: Any, _: int) -> Any:
            x, y = batch
            scores = self.model(x)
            loss = functional.cross_entropy(scores, y)
            right = (scores.argmax(1) == y).float().mean()
            self.log_dict({"loss": loss, "accuracy": right}, on_step=False, on_epoch=True, prog_bar=True)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters())

    class Turn(pl.Callback):
        def on_train_epoch_start(self, *_: Any) -> None:
            turns.begin()

        def on_train_batch_end(self, *_: Any) -> None:
            turns.batch()

        def on_train_epoch_end(self, *_: Any) -> None:
            turns.end()

    net = Net()
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", callbacks=[Turn()], logger=False, enable_checkpointing=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(net, loader(data))
    return accuracy(net.model, data)


def accelerate(data: dict[str, Any], turns: Turns, epochs: int) -> float:
    import torch
    from accelerate import Accelerator
    from torch import nn

    accelerator, model, loss = Accelerator(cpu=True), network(), nn.CrossEntropyLoss()
    model, optimizer, batches = accelerator.prepare(model, torch.optim.Adam(model.parameters()), loader(data))
    for _ in range(epochs):
        turns.begin()
        model.train()
        total, right = 0.0, 0
        for x, y in batches:
            optimizer.zero_grad()
            scores = model(x)
            value = loss(scores, y)
            accelerator.backward(value)
            optimizer.step()
            total += value.item() * len(x)
            right += int((scores.argmax(1) == y).sum())
            turns.batch()
        turns.end()
    return accuracy(accelerator.unwrap_model(model), data)


def loader(data: dict[str, Any]) -> Any:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    rows = TensorDataset(torch.from_numpy(floats(data["x"])), torch.from_numpy(data["y"]))
    return DataLoader(rows, batch_size=BATCH, shuffle=True)


def keras(data: dict[str, Any], turns: Turns, epochs: int) -> float:
    import keras
    from keras import layers

    class Turn(keras.callbacks.Callback):
        def on_epoch_begin(self, *_: Any) -> None:
            turns.begin()

        def on_train_batch_begin(self, batch: int, **_: Any) -> None:
            # not at the end of one: Keras would wait for each batch, which it does not do without such a callback
            if batch:
                turns.batch(_computed)

        def on_epoch_end(self, *_: Any) -> None:
            turns.end()

    def _computed() -> None:
        if keras.backend.backend() == "jax":
            import jax

            jax.block_until_ready(jax.live_arrays())

    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)), layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten(),
            layers.Dense(128, activation="relu"), layers.Dense(10, activation="softmax"),
        ]
    )  # fmt: skip
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x = floats(data["x"], last=True)
    model.fit(x[:256], data["y"][:256], batch_size=BATCH, verbose=0)  # what is compiled is compiled before it is timed
    model.fit(x, data["y"], batch_size=BATCH, epochs=epochs, callbacks=[Turn()], verbose=0)
    return float(model.evaluate(floats(data["vx"], last=True), data["vy"], verbose=0)[1])


def main() -> None:
    name, folder, turns, epochs = sys.argv[1:5]
    how = {"lightning": lightning, "accelerate": accelerate, "keras": keras}[name]
    print(round(how(load(folder), Turns(turns), int(epochs)), 4))


if __name__ == "__main__":
    main()
