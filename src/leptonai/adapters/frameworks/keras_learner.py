"""A Keras model that learns inside a Run: Keras's own compiled steps and metrics, its state as safetensors."""

import base64
import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras.src.random.seed_generator import global_seed_generator

from leptonai.adapters.frameworks import arrays, keras_attack, keras_pretrained, packing
from leptonai.adapters.frameworks.keras_aim import Aim, activation_of, name_of
from leptonai.adapters.frameworks.keras_fed import inputs_of, outputs_of
from leptonai.adapters.frameworks.keras_fit import check_input, one_output, refused
from leptonai.adapters.frameworks.keras_frozen import KerasFrozen
from leptonai.adapters.frameworks.keras_parts import made, no_needless_import
from leptonai.adapters.frameworks.keras_probed import KerasProbed
from leptonai.adapters.frameworks.keras_way import KerasWay, Smoothed, configured
from leptonai.adapters.frameworks.shapes import a_row, check_outputs
from leptonai.core.beginning import Beginning
from leptonai.core.errors import Invalid
from leptonai.core.learning import Adversarial, Way
from leptonai.core.several import Several


class KerasLearner(KerasProbed):
    """See `core.ports.Learner`; the attributes say what the platform asks before it has a batch."""

    incremental = True
    layout = "channels_last"  # of images

    def __init__(self, parts: Mapping[str, Any]):
        self._parts = parts  # what `KerasFramework.pack` packed
        self.activation = "none"
        self.last_loss = float("nan")
        self._aim: Aim | None = None
        self._about: dict[str, Any] = {}
        self._asked = Way()
        self._way: KerasWay | None = None
        self._smoothed: Smoothed | None = None
        self._frozen: KerasFrozen | None = None
        self.beginning: Beginning | None = None  # weights from elsewhere, told before it begins
        self.began: dict[str, Any] | None = None  # what of them was taken over
        self._make()

    def _make(self) -> None:
        self.model = self._made()
        self.net = self._dressed()
        self._slopes = {}

    def _made(self) -> Any:
        with no_needless_import(), keras.saving.custom_object_scope(self._parts["custom"]):
            config = copy.deepcopy(self._parts["config"])  # a functional model takes it apart
            return keras.saving.deserialize_keras_object(config, safe_mode=False)

    def _dressed(self) -> Any:
        """Return what learns: the model itself, or what feeds it."""
        return self._going_on(self.model)

    @staticmethod
    def _going_on(net: Any) -> Any:
        # A step of Keras begins its metrics anew; ours go on to the end of the epoch.
        object.__setattr__(net, "reset_metrics", lambda: None)
        return net

    def several(self, how: Several) -> "KerasLearner":
        """Return the Learner of the same model that takes several inputs, or predicts several targets."""
        from leptonai.adapters.frameworks.keras_several import SeveralKerasLearner

        return SeveralKerasLearner(self._parts, how, self)

    @property
    def _embedding(self) -> Any:
        if inputs_of(self.model):
            return None  # which of them it takes is not known
        layers = [layer for layer in self.model._flatten_layers(include_self=False) if not _is_input(layer)]
        return layers[0] if layers and isinstance(layers[0], keras.layers.Embedding) else None

    @property
    def input_dtype(self) -> str:
        """int64 where the model begins with an embedding."""
        return "int64" if self._embedding is not None else "float32"

    @property
    def entries(self) -> int | None:
        """How many numbers an embedding at the beginning knows."""
        return None if self._embedding is None else int(self._embedding.input_dim)

    @property
    def parameters(self) -> int:
        """How many numbers it holds, those that it does not learn (such as means of batches) among them."""
        return int(self.model.count_params()) if self.model.built else 0

    def learn_by(self, way: Way) -> None:
        """Say how to learn; before it begins."""
        self._asked = way

    def begin(self, x: Any, y: Any, task: str, classes: int, seed: int) -> None:
        """See the port. A model that was built keeps its weights; one that was not is built after seeding."""
        self._seed(seed)
        self._make()  # once more: layers and initialisers draw their own seeds when they are made
        self._check_rows(x)
        if self._asked.learning.adversarial is not None:
            keras_attack.check(x, "adversarial")
        with refused.of(x):
            output = self._call(x)
        if self._parts["weights"] and (self.began is None or not self.began["changed"]):
            _assign(self.model.weights, self._parts["weights"], "the model's own weights do not fit the data")
        if self.beginning is not None:
            output = self._take(self.beginning, x, y, task, classes, output)
        self._take_aim(output, np.shape(y), task, classes, self._compile())
        with refused.of(x):
            self.net.test_on_batch(
                self._given(x), self._wanted(y)
            )  # makes loss and metrics, and shows whether they fit
            self._way = KerasWay(self._asked, self.net)
            self._build_optimizer()
        type(self.net).reset_metrics(self.net)
        self._about = self._about_of(x)
        self._seed(seed)

    def _check_rows(self, x: Any) -> None:
        check_input(self.model, np.shape(x), inputs_of(self.model))

    def _take_aim(self, output: Any, target: tuple[int, ...], task: str, classes: int, loss: Any) -> None:
        """Find what the loss wants, now that an output is there. Raises `Invalid` where it does not suit the target, of this shape."""
        self._aim = Aim.of(loss, output.shape, task)
        kind = "index" if self._aim.kind == "sparse" else self._aim.kind
        check_outputs(self._aim.output, target, task, classes, kind)
        self.activation = self._aim.activation

    def _about_of(self, x: Any) -> dict[str, Any]:
        return {"rows": [int(n) for n in np.shape(x)[1:]], "dtype": str(x.dtype)}

    def _take(self, beginning: Beginning, x: Any, y: Any, task: str, classes: int, output: Any) -> Any:
        need = self._head_for(output, y, task, classes) if beginning.fit_head else None
        if need is not None:
            self._parts = {
                **self._parts,
                "config": keras_pretrained.with_head(self._parts["config"], need),
                "weights": [],
            }
            self._make()
            output = self._call(x)
        names = _paths(self.model.weights)
        self.began = {**keras_pretrained.take(self.model.weights, names, beginning), "changed": need is not None}
        return output

    def _head_for(self, output: Any, y: Any, task: str, classes: int) -> int | None:
        """Return how many outputs the last layer has to be made anew with; None where it fits."""
        return keras_pretrained.wanted(task, classes, tuple(output.shape), y)

    def _build_optimizer(self) -> None:
        learning = self._asked.learning
        later = learning.unfreeze_after is not None
        if later:  # what is frozen learns later, so the optimiser has room for it
            self.net.optimizer.build(self.net.trainable_variables)
        self._frozen = KerasFrozen(self.net, learning) if learning.freeze else None
        if self._frozen is not None:
            self._frozen.at(0)
        if not later:
            self.net.optimizer.build(self.net.trainable_variables)

    def thaw(self, epoch: int) -> str | None:
        """Freeze what is frozen in this epoch; return a line that says so where that is new."""
        if self._frozen is None:
            return None
        self._frozen.at(epoch)
        return self._frozen.news()

    def repacked(self) -> bytes:
        """Return what `KerasFramework.pack` would have made of the model as it is described now."""
        return packing.by_value(self._parts, "the model")

    def _compile(self) -> Any:
        """Compile as the user did, and as was asked since; return the loss as the user gave it."""
        learning = self._asked.learning
        with no_needless_import(), keras.saving.custom_object_scope(self._parts["custom"]):
            options = made(self._parts["compile"])
            loss = options.get("loss")
            if learning.asked:
                options["optimizer"] = configured(options.get("optimizer", "rmsprop"), learning)
            if learning.label_smoothing:
                logits = activation_of(loss, several=True) != "none"
                self._smoothed = Smoothed(loss, name_of(loss), learning.label_smoothing, from_logits=logits)
                options["loss"] = self._smoothed
            self.net.compile(**self._options(options))
        return loss

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        return options

    @staticmethod
    def _seed(seed: int) -> None:
        with no_needless_import():
            keras.utils.set_random_seed(seed)

    def _call(self, x: Any) -> Any:
        self._mode(training=False)
        return one_output(self.model(self._given(x), training=False), outputs_of(self.model))

    def _mode(self, *, training: bool) -> None:
        if self._smoothed is not None:
            self._smoothed.learning = training
        if keras.config.backend() == "torch" and self.net.training != training:
            self.net.train(training)  # for layers that are written in PyTorch

    # Losses and metrics of the user's own are given tensors, as by Keras's fit.
    def _given(self, x: Any) -> Any:
        return keras.ops.convert_to_tensor(x)

    def _wanted(self, y: Any) -> Any:
        assert self._aim is not None  # noqa: S101  (begin set it)
        return keras.ops.convert_to_tensor(self._aim.target(y))

    @property
    def takes_shares(self) -> bool:
        """Whether the loss takes shares of classes, floats (batch, classes), in place of class numbers."""
        return self._aim is not None and self._aim.one_hot

    def step(self, x: Any, y: Any) -> None:
        """See the port."""
        steps = self._steps
        steps.averaged(False)
        if self._asked.learning.adversarial is not None:
            x = self._attacked(x, y, self._asked.learning.adversarial)
        self._mode(training=True)
        weights = steps.row_weights(y)
        found = self.net.train_on_batch(self._given(x), self._wanted(y), sample_weight=weights, return_dict=True)
        self.last_loss = float(found["loss"])

    def _attacked(self, x: Any, y: Any, rule: Adversarial) -> Any:
        assert self._aim is not None  # noqa: S101  (begin set it)
        # The attack is on what the model will be; dropout and means of batches stay out of it.
        self._mode(training=False)
        if "learning" not in self._slopes:
            self._slopes["learning"] = keras_attack.slopes_of(self._loss_of, self.net.variables)
        slopes, wanted = self._slopes["learning"], self._aim.target(y)
        return keras_attack.attacked(x, wanted, rule, self._asked.bounds, slopes, np.random.uniform)

    def _loss_of(self, x: Any, wanted: Any) -> Any:
        return self.net._compute_loss(x, wanted, self.net(x, training=False), training=False)

    def rate(self, share: float) -> None:
        """Set the learning rate to this share of the full one."""
        self._steps.rate(share)

    @property
    def _steps(self) -> KerasWay:
        assert self._way is not None  # noqa: S101  (begin set it)
        return self._way

    @property
    def sound(self) -> bool:
        """Whether all weights are numbers."""
        return all(bool(np.isfinite(_numpy(v)).all()) for v in self.model.trainable_variables)

    def measure(self, x: Any, y: Any) -> None:
        """See the port."""
        self._look()
        self.net.test_on_batch(self._given(x), self._wanted(y))

    def _look(self) -> None:
        """Have the model give what it will give once it is trained."""
        self._mode(training=False)
        if self._way is not None:
            self._way.averaged(True)

    def metrics(self) -> dict[str, float]:
        """See the port."""
        found = {name: float(value) for name, value in self.net.get_metrics_result().items()}
        type(self.net).reset_metrics(self.net)
        return found

    def predict(self, x: Any) -> Any:
        """See the port."""
        self._look()
        return np.asarray(self.net.predict_on_batch(x), dtype=np.float32)

    def state(self) -> dict[str, bytes]:
        """See the port."""
        self._steps.averaged(False)
        groups = {
            "optimizer": self.net.optimizer.variables,
            "metrics": self.net.metrics_variables,
            "seeds": self._seeds(),
        }
        values = {f"{name}/{i}": _numpy(v) for name, vs in groups.items() for i, v in enumerate(vs)}
        generators = {**arrays.generators(), "torch": _torch_generator()}
        return {
            "weights.safetensors": self._dumped(),
            "learner.safetensors": arrays.dump(values, {name: len(vs) for name, vs in groups.items()}),
            "rng.json": json.dumps(generators).encode(),
        }

    def restore(self, state: Mapping[str, bytes]) -> None:
        """See the port."""
        self._load(state["weights.safetensors"])
        self._steps.restored()
        values, counts = arrays.parse(state["learner.safetensors"])
        groups = {
            "optimizer": self.net.optimizer.variables,
            "metrics": self.net.metrics_variables,
            "seeds": self._seeds(),
        }
        for name, variables in groups.items():
            found = [values[f"{name}/{i}"] for i in range(counts[name])]
            _assign(variables, found, f"the checkpoint has another {name}")
        generators = json.loads(state["rng.json"])
        arrays.set_generators(generators)
        _set_torch_generator(generators["torch"])

    def _seeds(self) -> list[Any]:
        weights = {id(variable) for variable in self.model.weights}
        own = [variable for variable in self.model.variables if id(variable) not in weights]
        return [*own, global_seed_generator().state]

    def weights(self) -> bytes:
        """Return the weights by the path of each variable, as safetensors; the header says how to build the model.

        They are their averages, where those are asked for.
        """
        if self._way is not None:
            self._way.averaged(True)
        return self._dumped()

    def _dumped(self) -> bytes:
        names = _paths(self.model.weights)
        found = {name: _numpy(v) for name, v in zip(names, self.model.weights, strict=True)}
        return arrays.dump(found, {**self._about, "order": names})

    def load_weights(self, weights: bytes) -> None:
        """Take weights that `weights` gave."""
        self._load(weights)
        if self._way is not None:
            self._way.taken()

    def _load(self, weights: bytes) -> None:
        self._about = {name: value for name, value in arrays.about(weights).items() if name != "order"}
        load_into(self.model, weights)


def load_into(model: Any, weights: bytes) -> None:
    """Put trained weights into a model, built if it is not. Raises `Invalid` when they are those of another one."""
    values, about = arrays.parse(weights)
    if not model.built or len(model.weights) != len(about["order"]):
        shapes = about.get("inputs") or {"": [about["rows"], about["dtype"]]}  # of several inputs by name
        given = {name: keras.ops.zeros((1, *row), dtype=dtype) for name, (row, dtype) in shapes.items()}
        words = ", ".join(f"{name} {a_row(x.shape)}".strip() for name, x in given.items())
        one = given.get("")
        with refused(words, one.shape[1] if one is not None and len(one.shape) == 2 else None):
            model(given if one is None else one)
    _assign(model.weights, [values[name] for name in about["order"]], "the trained weights do not fit this model")


def _assign(variables: Sequence[Any], values: Sequence[Any], otherwise: str) -> None:
    ours, theirs = [tuple(v.shape) for v in variables], [tuple(np.shape(v)) for v in values]
    if ours != theirs:
        first = next(((a, b) for a, b in zip(ours, theirs, strict=False) if a != b), (len(ours), len(theirs)))
        raise Invalid(f"{otherwise}: {first[0]} is needed where {first[1]} is given")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _numpy(variable: Any) -> Any:
    value = variable.value
    if keras.config.backend() == "torch":
        value = value.detach().cpu()
    return np.array(value.numpy() if hasattr(value, "numpy") else value)


def _paths(variables: Sequence[Any]) -> list[str]:
    seen: dict[str, int] = {}
    names = []
    for variable in variables:
        seen[variable.path] = count = seen.get(variable.path, 0) + 1
        names.append(variable.path if count == 1 else f"{variable.path}#{count}")
    return names


def _is_input(layer: Any) -> bool:
    # Containers are listed beside what they contain.
    return isinstance(layer, (keras.layers.InputLayer, keras.Model))


def _torch_generator() -> str | None:
    if keras.config.backend() != "torch":
        return None
    import torch

    return base64.b64encode(torch.get_rng_state().numpy().tobytes()).decode()


def _set_torch_generator(state: str | None) -> None:
    if state is None:
        return
    import torch

    torch.set_rng_state(torch.frombuffer(bytearray(base64.b64decode(state)), dtype=torch.uint8))
