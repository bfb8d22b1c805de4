"""A learning rate that is found: near the ones that learn, the same each time, and not found again by what goes on."""

import warnings
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.handle import FileHandle, reader_of
from tests.support.warm import keras_here, libraries

from leptonai.core import plugins
from leptonai.core.errors import Invalid
from leptonai.core.learning import Learning
from leptonai.training.rate_finder import chosen
from leptonai.training.spec import Fitted, Train
from leptonai.training.work import train


@pytest.fixture(scope="module", autouse=True)
def _warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    libraries()
    folder = tmp_path_factory.mktemp("warm")
    with warnings.catch_warnings(), chdir(folder):
        warnings.simplefilter("ignore", DeprecationWarning)
        handle = handle_for(folder)  # what Keras loads sets variables of the environment
        train(asked(handle, keras_net(), epochs=1), handle)


pytestmark = pytest.mark.usefixtures("here")


def rows() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 4))
    found: dict[str, Any] = {f"c{i}": x[:, i] for i in range(4)}
    found["label"] = np.where(x[:, 0] * x[:, 1] > 0, "yes", "no").astype(object)
    return found


def net() -> Any:
    import torch
    from torch import nn

    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2))


def keras_net() -> Any:
    keras = keras_here()
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.layers.Input((4,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(2, "softmax")]
    )


def asked(handle: FileHandle, model: Any, **spec: Any) -> Train:
    framework = plugins.framework_of(model)
    loss = {} if framework.name == "torch" else {"loss": "sparse_categorical_crossentropy"}
    packed = framework.pack(model, {"optimizer": "adam", "metrics": ["accuracy"], **loss})
    code = handle.write(packed.code)
    of_model = {"framework": framework.name, "flavour": packed.flavour, "code": code, "compiled": {}}
    return Train.model_validate({"data": "train", "epochs": 6, "seed": 1, **of_model, **spec})


def handle_for(folder: Path, kind: type[FileHandle] = FileHandle) -> FileHandle:
    return kind(folder, "train", {"train": reader_of(rows(), "label")})


def learnt(folder: Path, model: Any, rate: float | str) -> tuple[Fitted, FileHandle]:
    handle = handle_for(folder)
    spec = asked(handle, model, learning={"learning_rate": rate})
    return Fitted.model_validate(train(spec, handle)), handle


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("make", [net, keras_net])
def test_a_rate_is_found_that_learns(tmp_path: Path, make: Any) -> None:
    found, handle = learnt(tmp_path / "found", make(), "find")
    rate = found.facts["learning_rate"]
    assert 1e-4 < rate < 1
    assert any(f"learning_rate: {rate:g} was found with" in line for line in handle.lines)
    curve = [metrics for _, metrics in handle.metrics if "tested_rate" in metrics]
    assert len(curve) > 20 and curve[0]["tested_rate"] < curve[-1]["tested_rate"]
    same, _ = learnt(tmp_path / "same", make(), rate)
    assert same.history == found.history  # finding it left no trace in what was learnt
    small, _ = learnt(tmp_path / "small", make(), 1e-6)
    assert found.history["loss"][-1] < small.history["loss"][-1] * 0.9


class Cut(FileHandle):
    """Dies after its third checkpoint."""

    def save(self, state: Mapping[str, bytes]) -> None:
        super().save(state)
        if self.saves == 3:
            raise KeyboardInterrupt


def test_what_goes_on_does_not_find_it_again(tmp_path: Path) -> None:
    whole, _ = learnt(tmp_path / "whole", net(), "auto")
    handle = handle_for(tmp_path / "cut", Cut)
    spec = asked(handle, net(), learning={"learning_rate": "find"}, checkpoint_seconds=0)
    with pytest.raises(KeyboardInterrupt):
        train(spec, handle)
    after = handle_for(tmp_path / "cut")
    again = Fitted.model_validate(train(spec, after))
    assert any("goes on from epoch" in line for line in after.lines)
    assert not any("was found" in line for line in after.lines)
    assert again.history == whole.history and again.facts == whole.facts


@given(st.lists(st.floats(0, 1e6), max_size=60))
def test_what_is_chosen_is_one_of_the_rates_or_nothing(losses: list[float]) -> None:
    rates = [10.0**at for at in range(-len(losses), 0)]
    found = chosen(rates, losses)
    assert found is None or found in [float(f"{rate:.3g}") for rate in rates]
    falling = sorted(set(losses), reverse=True)
    assert (chosen([1.0] * len(falling), falling) is None) == (len(falling) < 3)


@pytest.mark.parametrize("bad", [0, -1, "fast", float("nan"), True, []])
def test_a_rate_that_is_none_is_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match="neither a number above 0 nor 'find'"):
        Learning(learning_rate=bad)


def test_it_says_where_nothing_can_be_found(tmp_path: Path) -> None:
    import torch

    model = net()
    with torch.no_grad():
        model[0].weight.fill_(float("nan"))
    with pytest.raises(Invalid, match="not a number"):
        learnt(tmp_path, model, "find")
