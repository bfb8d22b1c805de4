"""Weights from elsewhere, what is frozen and what learns more slowly: on Learners, as a training drives them."""

from typing import Any

import numpy as np
import pytest
from tests.support.warm import keras_here, libraries

from leptonai.core import plugins
from leptonai.core.beginning import Beginning
from leptonai.core.errors import Invalid
from leptonai.core.learning import Learning, Way

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] > 0).astype(np.int64)
THREE = np.arange(40) % 3


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    libraries()
    keras_here()


def torch_net(outputs: int = 2, seed: int = 0, width: int = 8) -> Any:
    import torch
    from torch import nn

    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(6, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 8), nn.ReLU(), nn.Linear(8, outputs)
    )


def keras_net(outputs: int = 2, seed: int = 0, width: int = 8) -> Any:
    keras = keras_here()
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6,)), layers.Dense(width, activation="relu"), layers.BatchNormalization(),
            layers.Dense(8, activation="relu"), layers.Dense(outputs, activation="softmax"),
        ]
    )  # fmt: skip


NETS = {"torch": torch_net, "keras": keras_net}


def learner_of(kind: str, model: Any, beginning: Beginning | None = None, **learning: Any) -> Any:
    framework = plugins.framework(kind)
    loss = "cross_entropy" if kind == "torch" else "sparse_categorical_crossentropy"
    learner: Any = framework.load(framework.pack(model, {"optimizer": "adam", "loss": loss}).code)
    learner.beginning = beginning
    learner.learn_by(Way(Learning.model_validate(learning)))
    return learner


def taught(learner: Any, y: Any = Y, epochs: int = 3, first: int = 0) -> Any:
    for epoch in range(first, epochs):
        learner.thaw(epoch)
        for start in range(0, 40, 10):
            learner.step(X[start : start + 10], y[start : start + 10])
    return learner


def begun(learner: Any, y: Any = Y) -> Any:
    learner.begin(X, y, "classification", int(y.max()) + 1, 1)
    return learner


def named(learner: Any) -> dict[str, np.ndarray]:
    from leptonai.adapters.frameworks import arrays

    values, about = arrays.parse(learner.weights())
    order = about["order"] if "order" in about else learner.model.state_dict()
    return {name: values[name] for name in order}


@pytest.fixture(scope="module", params=["torch", "keras"])
def parent(request: pytest.FixtureRequest) -> tuple[str, bytes, dict[str, np.ndarray]]:
    kind = request.param
    learner = taught(begun(learner_of(kind, NETS[kind]())))
    return kind, learner.weights(), named(learner)


def test_a_model_of_other_classes_takes_all_but_the_head(parent: Any) -> None:
    kind, weights, before = parent
    child = begun(learner_of(kind, NETS[kind](3, seed=9), Beginning((weights,), "models:/a/1")), THREE)
    after = list(named(child).values())
    head = 2
    assert all(np.array_equal(a, b) for a, b in zip(after[:-head], list(before.values())[:-head], strict=True))
    assert child.began["taken"] == len(after) - head
    assert len(child.began["new"]) == head and not child.began["changed"]
    fresh = begun(learner_of(kind, NETS[kind](2, seed=9), Beginning((weights,), "a", head=False)))
    assert not np.array_equal(list(named(fresh).values())[-2], list(before.values())[-2])
    same = begun(learner_of(kind, NETS[kind](2, seed=9), Beginning((weights,), "a")))
    assert all(np.array_equal(a, b) for a, b in zip(named(same).values(), before.values(), strict=True))


def test_an_architecture_that_was_taken_over_gets_the_head_that_the_target_needs(parent: Any) -> None:
    kind, weights, _ = parent
    child = begun(learner_of(kind, NETS[kind](2), Beginning((weights,), "a", fit_head=True)), THREE)
    assert child.began["changed"] and child.predict(X).shape == (40, 3)
    taught(child, THREE)
    again = plugins.framework(kind).load(child.repacked(), child.weights())
    assert np.allclose(again.predict(X), child.predict(X), atol=1e-6)


def test_what_does_not_fit_is_named(parent: Any) -> None:
    kind, weights, _ = parent
    with pytest.raises(Invalid, match=r"has shape \(.*9.*\) in the model and \(.*8.*\) in a file, and \d+ more"):
        begun(learner_of(kind, NETS[kind](width=9), Beginning((weights,), "a file")))
    with pytest.raises(Invalid, match="a file cannot be read as safetensors"):
        begun(learner_of(kind, NETS[kind](), Beginning((b"PK\x03\x04" + weights,), "a file")))


def test_a_file_of_another_architecture_is_told_by_its_names() -> None:
    import torch
    from safetensors.torch import save

    state = torch_net().state_dict()
    short = save({name: value for name, value in state.items() if not name.startswith("3.")})
    with pytest.raises(Invalid, match=r"2 of the model's 11 weights are missing in part, such as 3\.weight, 3\.bias"):
        begun(learner_of("torch", torch_net(), Beginning((short,), "part")))
    with pytest.raises(Invalid, match=r"none of the 1 weights of other is one of the model's 11"):
        begun(learner_of("torch", torch_net(), Beginning((save({"conv.w": torch.zeros(2)}),), "other")))


def test_the_names_of_a_file_are_found_within_a_part_of_the_model() -> None:
    import torch
    from safetensors.torch import save
    from torch import nn

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = torch_net(8, seed=4)
            self.head = nn.Sequential(nn.ReLU(), nn.Linear(8, 4), nn.Linear(4, 2))

        def forward(self, x: Any) -> Any:
            return self.head(self.body(x))

    state = torch_net(8, seed=3).state_dict()
    child = begun(learner_of("torch", Wrapped(), Beginning((save({f"net.{n}": v for n, v in state.items()}),), "a")))
    found = child.model.state_dict()
    assert all(torch.equal(found[f"body.{name}"], value) for name, value in state.items())
    assert child.began["new"] == ["head.1.weight", "head.1.bias", "head.2.weight", "head.2.bias"]


def moved(learner: Any, act: Any) -> list[bool]:
    before = named(learner)
    act()
    return [not np.array_equal(a, b) for a, b in zip(before.values(), named(learner).values(), strict=True)]


@pytest.mark.parametrize("kind", ["torch", "keras"])
def test_what_is_frozen_stays_to_the_last_bit_until_its_epoch(kind: str) -> None:
    learner = begun(learner_of(kind, NETS[kind](), freeze="all but head", unfreeze_after=2, unfreeze_layers=1))
    still = moved(learner, lambda: taught(learner, epochs=2))
    assert not any(still[:-2]) and all(still[-2:])  # the means of its normalisation stay too
    assert learner.thaw(2) is not None and learner.thaw(2) is None
    second = moved(learner, lambda: taught(learner, epochs=3, first=2))
    assert all(second[-4:]) and not any(second[:-4])  # one more layer
    third = moved(learner, lambda: taught(learner, epochs=4, first=3))
    assert all(third[2:]) and not any(third[:2])
    assert all(moved(learner, lambda: taught(learner, epochs=5, first=4)))


@pytest.mark.parametrize("kind", ["torch", "keras"])
def test_a_training_that_thaws_goes_on_to_the_same_bits(kind: str) -> None:
    learning: dict[str, Any] = {"freeze": "all but head", "unfreeze_after": 2, "learning_rate": 0.01, "accumulate": 3}
    if kind == "torch":
        learning |= {"layer_decay": 0.5, "ema": 0.9}
    whole = taught(begun(learner_of(kind, NETS[kind](), **learning)), epochs=4)
    for cut in (1, 3):
        first = taught(begun(learner_of(kind, NETS[kind](), **learning)), epochs=cut)
        kept = first.state()
        second = begun(learner_of(kind, NETS[kind](), **learning))
        second.restore(kept)
        found = named(taught(second, epochs=4, first=cut))
        assert all(np.array_equal(a, b) for a, b in zip(found.values(), named(whole).values(), strict=True))


def test_lower_layers_learn_more_slowly_by_the_decay() -> None:
    learner = begun(learner_of("torch", torch_net(), layer_decay=0.5, learning_rate=0.08))
    rates = [group["lr"] for group in learner._optimizer.param_groups]
    assert rates == pytest.approx([0.01, 0.02, 0.04, 0.08])
    learner.rate(0.5)
    assert [group["lr"] for group in learner._optimizer.param_groups] == pytest.approx([0.005, 0.01, 0.02, 0.04])


def test_layers_are_told_by_names() -> None:
    from leptonai.adapters.frameworks.torch_layers import layer_of

    assert [layer_of(name) for name in (
        "encoder.embeddings.word_embeddings.weight", "encoder.encoder.layer.3.attention.self.query.weight", "head.weight",
        "blocks.2.1.conv.weight", "features.0.weight", "0.1.bias", "weight",
    )] == ["encoder.embeddings", "encoder.encoder.layer.3", "head", "blocks.2.1", "features.0", "0.1", "weight"]  # fmt: skip


def test_what_stands_beside_a_list_of_layers_is_a_layer_of_its_own() -> None:
    from torch import nn

    from leptonai.adapters.frameworks.torch_layers import layers

    class Body(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.blocks, self.fc = nn.Linear(6, 8), nn.ModuleList([nn.Linear(8, 8)]), nn.Linear(8, 2)

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = Body()

    assert list(layers(Wrapped())) == ["body.stem", "body.blocks.0", "body.fc"]


@pytest.mark.parametrize("kind", ["torch", "keras"])
def test_a_layer_that_is_not_there_is_named(kind: str) -> None:
    with pytest.raises(Invalid, match="freeze: there is no layer 'boddy'; the model has "):
        begun(learner_of(kind, NETS[kind](), freeze="boddy"))
    with pytest.raises(Invalid, match="every layer is frozen"):
        begun(learner_of(kind, NETS[kind](), freeze="*"))


def test_schedules_that_contradict_are_refused() -> None:
    for given, words in (
        ({"unfreeze_after": 1}, "give freeze"), ({"freeze": "a", "unfreeze_layers": 1}, "give unfreeze_after"),
        ({"freeze": "a", "lora": 4}, "leave freeze out"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            Learning.model_validate(given)
    assert Learning.model_validate({"lora": "4:alpha=8,targets=q_proj+v_proj"}).lora.targets == ("q_proj", "v_proj")  # type: ignore[union-attr]
    assert Learning.model_validate({"freeze": "a.0, b*"}).freeze == ("a.0", "b*")
