"""A Keras model that learns inside a Run: Keras's own compiled steps and metrics, its state as safetensors."""

import base64
import copy
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras.src.random.seed_generator import global_seed_generator

from leptonai.adapters.frameworks import arrays, keras_pretrained, packing
from leptonai.adapters.frameworks.keras_frozen import KerasFrozen
from leptonai.adapters.frameworks.keras_parts import made, no_needless_import
from leptonai.adapters.frameworks.keras_way import KerasWay, Smoothed, configured
from leptonai.adapters.frameworks.shapes import a_row, check_outputs, outputs
from leptonai.core.beginning import Beginning
from leptonai.core.errors import FieldError, Invalid, LeptonError
from leptonai.core.learning import Way


class KerasLearner:
    """See `core.ports.Learner`; the attributes say what the platform asks before it has a batch."""

    incremental = True
    layout = "channels_last"  # of images

    def __init__(self, parts: Mapping[str, Any]):
        self._parts = parts  # what `KerasFramework.pack` packed
        self.activation = "none"
        self.last_loss = float("nan")
        self._one_hot = False
        self._task = ""
        self._outputs: tuple[int, ...] = ()
        self._about: dict[str, Any] = {}
        self._asked = Way()
        self._way: KerasWay | None = None
        self._smoothed: Smoothed | None = None
        self._frozen: KerasFrozen | None = None
        self.beginning: Beginning | None = None  # weights from elsewhere, told before it begins
        self.began: dict[str, Any] | None = None  # what of them was taken over
        self.model = self._made()

    def _made(self) -> Any:
        with no_needless_import(), keras.saving.custom_object_scope(self._parts["custom"]):
            config = copy.deepcopy(self._parts["config"])  # a functional model takes it apart
            model = keras.saving.deserialize_keras_object(config, safe_mode=False)
        # A step of Keras begins its metrics anew; ours go on to the end of the epoch.
        object.__setattr__(model, "reset_metrics", lambda: None)
        return model

    @property
    def _embedding(self) -> Any:
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
        self.model = self._made()  # once more: layers and initialisers draw their own seeds when they are made
        _check_input(self.model, np.shape(x))
        with _refused(np.shape(x)):
            output = self._call(x)
        self._outputs = tuple(output.shape)
        if self._parts["weights"] and (self.began is None or not self.began["changed"]):
            _assign(self.model.weights, self._parts["weights"], "the model's own weights do not fit the data")
        if self.beginning is not None:
            self._take(self.beginning, x, y, task, classes)
        loss = self._compile()
        kind = _loss_kind(loss)
        several = outputs(self._outputs) > 1
        self._task, self._one_hot = task, task == "classification" and several and kind == "probabilities"
        check_outputs(self._outputs, np.shape(y), task, classes, "index" if kind == "sparse" else kind)
        self.activation = _activation(loss, several) if task == "classification" else "value"
        with _refused(np.shape(x)):
            self.model.test_on_batch(*self._tensors(x, y))  # makes loss and metrics, and shows whether they fit
            self._way = KerasWay(self._asked, self.model)
            self._build_optimizer()
        type(self.model).reset_metrics(self.model)
        self._about = {"rows": [int(n) for n in np.shape(x)[1:]], "dtype": str(x.dtype)}
        self._seed(seed)

    def _take(self, beginning: Beginning, x: Any, y: Any, task: str, classes: int) -> None:
        need = keras_pretrained.wanted(task, classes, self._outputs, y) if beginning.fit_head else None
        if need is not None:
            self._parts = {
                **self._parts,
                "config": keras_pretrained.with_head(self._parts["config"], need),
                "weights": [],
            }
            self.model = self._made()
            self._outputs = tuple(self._call(x).shape)
        names = _paths(self.model.weights)
        self.began = {**keras_pretrained.take(self.model.weights, names, beginning), "changed": need is not None}

    def _build_optimizer(self) -> None:
        learning = self._asked.learning
        later = learning.unfreeze_after is not None
        if later:  # what is frozen learns later, so the optimiser has room for it
            self.model.optimizer.build(self.model.trainable_variables)
        self._frozen = KerasFrozen(self.model, learning) if learning.freeze else None
        if self._frozen is not None:
            self._frozen.at(0)
        if not later:
            self.model.optimizer.build(self.model.trainable_variables)

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
                logits = _activation(loss, several=True) != "none"
                self._smoothed = Smoothed(loss, _name(loss), learning.label_smoothing, from_logits=logits)
                options["loss"] = self._smoothed
            self.model.compile(**options)
        return loss

    @staticmethod
    def _seed(seed: int) -> None:
        with no_needless_import():
            keras.utils.set_random_seed(seed)

    def _call(self, x: Any) -> Any:
        self._mode(training=False)
        output = self.model(keras.ops.convert_to_tensor(x), training=False)
        if isinstance(output, (list, tuple, dict)):
            raise TypeError(f"the model gives a {type(output).__name__}, where one array is needed")
        return output

    def _mode(self, *, training: bool) -> None:
        if self._smoothed is not None:
            self._smoothed.learning = training
        if keras.config.backend() == "torch" and self.model.training != training:
            self.model.train(training)  # for layers that are written in PyTorch

    def _tensors(self, x: Any, y: Any) -> tuple[Any, Any]:
        # Losses and metrics of the user's own are given tensors, as by Keras's fit.
        return keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(self._target(y))

    @property
    def takes_shares(self) -> bool:
        """Whether the loss takes shares of classes, floats (batch, classes), in place of class numbers."""
        return self._one_hot

    def _target(self, y: Any) -> Any:
        if self._task == "classification":
            if y.dtype.kind == "f" and y.ndim == 2:  # shares of classes
                return y
            if self._one_hot:
                return np.eye(outputs(self._outputs), dtype=np.float32)[y]
            if outputs(self._outputs) > 1:
                return y
            y = y.astype(np.float32)
        return y[:, None] if y.ndim == 1 and len(self._outputs) > 1 else y

    def step(self, x: Any, y: Any) -> None:
        """See the port."""
        steps = self._steps
        self._mode(training=True)
        steps.averaged(False)
        found = self.model.train_on_batch(*self._tensors(x, y), sample_weight=steps.row_weights(y), return_dict=True)
        self.last_loss = float(found["loss"])

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
        self.model.test_on_batch(*self._tensors(x, y))

    def _look(self) -> None:
        """Have the model give what it will give once it is trained."""
        self._mode(training=False)
        if self._way is not None:
            self._way.averaged(True)

    def metrics(self) -> dict[str, float]:
        """See the port."""
        found = {name: float(value) for name, value in self.model.get_metrics_result().items()}
        type(self.model).reset_metrics(self.model)
        return found

    def predict(self, x: Any) -> Any:
        """See the port."""
        self._look()
        return np.asarray(self.model.predict_on_batch(x), dtype=np.float32)

    def state(self) -> dict[str, bytes]:
        """See the port."""
        self._steps.averaged(False)
        groups = {
            "optimizer": self.model.optimizer.variables,
            "metrics": self.model.metrics_variables,
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
            "optimizer": self.model.optimizer.variables,
            "metrics": self.model.metrics_variables,
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
        with _refused((1, *about["rows"])):
            model(keras.ops.zeros((1, *about["rows"]), dtype=about["dtype"]))
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


def _check_input(model: Any, shape: tuple[int, ...]) -> None:
    takes = getattr(model, "input_shape", None) if model.built else None
    if not isinstance(takes, tuple) or len(takes) != len(shape):
        return
    if any(n is not None and n != have for n, have in zip(takes[1:], shape[1:], strict=True)):
        if len(takes) == 2:
            raise Invalid(f"the model takes {takes[1]} features, and the data gives {shape[1]}")
        raise Invalid(f"the model takes rows of shape {a_row(takes)}, and the data gives {a_row(shape)}")


class _refused:  # noqa: N801  (used like a function)
    """Turn what a model raises on its first batch into `Invalid`."""

    def __init__(self, shape: Sequence[int]):
        self.shape = shape

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, Exception) or isinstance(error, (LeptonError, MemoryError)):
            return
        text = re.sub(r"\x1b\[\d+m", "", str(error))
        text = text.split("Arguments received by")[0]
        text = " ".join(re.sub(r"Exception encountered when calling [^\n]*\n", "", text).split())
        wants = re.search(r"expected axis -1 of input shape to have value (\d+)", text)
        if wants and len(self.shape) == 2:
            raise Invalid(
                f"the model takes {wants[1]} features, and the data gives {self.shape[1]}",
                errors=[FieldError("model", text)],
            ) from error
        raise Invalid(
            f"the model cannot take rows of shape {a_row(self.shape)}: {text}", errors=[FieldError("model", text)]
        ) from error


def _name(loss: Any) -> str:
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    return name.lower().replace("_", "")


def _loss_kind(loss: Any) -> str:
    """Return what a loss wants of the target of several classes: "sparse" numbers, one-hot "probabilities", or "custom"."""
    name = _name(loss)
    if name.startswith("sparse") or name in ("crossentropy", "ce"):
        return "sparse"
    own = (
        isinstance(loss, str)
        or str(getattr(loss, "__module__", "")).startswith("keras")
        or type(loss).__module__.startswith("keras")
    )
    return "probabilities" if own else "custom"


def _activation(loss: Any, several: bool) -> str:
    if not getattr(loss, "from_logits", False):
        config = loss.get_config() if isinstance(loss, keras.losses.Loss) and hasattr(loss, "get_config") else {}
        if not config.get("from_logits", False):
            return "none"
    return "softmax" if several and "binary" not in _name(loss) else "sigmoid"


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
