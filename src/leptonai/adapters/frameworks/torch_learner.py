"""A PyTorch module that learns inside a Run: our own loop, its state as safetensors."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from leptonai.adapters.frameworks import (
    arrays,
    torch_attack,
    torch_device,
    torch_lora,
    torch_order,
    torch_paths,
    torch_pretrained,
)
from leptonai.adapters.frameworks.shapes import check_outputs, outputs
from leptonai.adapters.frameworks.torch_compute import Compute
from leptonai.adapters.frameworks.torch_fit import check_tensors, detached, mode, refused, rows_of, shapes_of
from leptonai.adapters.frameworks.torch_group import TorchGroup
from leptonai.adapters.frameworks.torch_layers import Frozen, grouped
from leptonai.adapters.frameworks.torch_metrics import made, one_list
from leptonai.adapters.frameworks.torch_parts import (
    AnyLoss,
    Loss,
    OptimizerRecipe,
    default_loss,
    last_activation,
    one_loss,
    takes_shares,
    targets,
)
from leptonai.adapters.frameworks.torch_probed import Probed
from leptonai.adapters.frameworks.torch_state import (
    dump_optimizer,
    generators,
    load_into,
    load_optimizer,
    seed_all,
    set_generators,
)
from leptonai.adapters.frameworks.torch_tally import Tally
from leptonai.adapters.frameworks.torch_way import TorchWay, on_cpu
from leptonai.adapters.frameworks.torch_weighed import Weighed, check_smoothing, smoothed
from leptonai.core.beginning import Beginning
from leptonai.core.learning import Way
from leptonai.core.several import Several

Tensor = torch.Tensor


class TorchLearner(Probed):
    """See `core.ports.Learner`; the attributes say what the platform asks before it has a batch."""

    incremental = True  # learns batch by batch
    layout = "channels_first"  # of images
    _many = False  # whether it gives outputs by name

    def __init__(self, module: nn.Module, recipe: OptimizerRecipe, loss: AnyLoss, metrics: Any):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = module.to(self.device)
        self.activation = "none"
        self.last_loss = float("nan")
        self._recipe, self._loss, self._given_metrics = recipe, loss, metrics
        self._tally = Tally()
        self._task, self._classes = "", 0
        self._asked = Way()
        self._compute = Compute(self.model, self.device)
        self._way: TorchWay | None = None
        self._frozen: Frozen | None = None
        self._adapters: torch_lora.Adapters | None = None
        self.beginning: Beginning | None = None  # weights from elsewhere, told before it begins
        self.began: dict[str, Any] | None = None  # what of them was taken over
        self.repacked: Callable[[], bytes] | None = None  # what `TorchFramework.pack` would make of it now
        self._weighed: Weighed | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._group: TorchGroup | None = None

    def join(self, group: TorchGroup | None) -> None:
        """Learn together with other processes from now on, before it begins; None: alone."""
        self._group = group
        if self._way is not None and group is None:
            self._way.shared = None

    @property
    def _first(self) -> nn.Module | None:
        """The first layer that has weights, in the order the layers were given."""
        return next((m for m in self.model.modules() if next(m.parameters(recurse=False), None) is not None), None)

    @property
    def input_dtype(self) -> str:
        """int64 where the model begins with an embedding."""
        return "int64" if isinstance(self._first, (nn.Embedding, nn.EmbeddingBag)) else "float32"

    @property
    def entries(self) -> int | None:
        """How many numbers an embedding at the beginning knows."""
        first = self._first
        return first.num_embeddings if isinstance(first, (nn.Embedding, nn.EmbeddingBag)) else None

    @property
    def parameters(self) -> int:
        """How many numbers it learns."""
        return sum(p.numel() for p in self.model.parameters() if not isinstance(p, nn.UninitializedParameter))

    @property
    def takes_shares(self) -> bool:
        """Whether the loss takes shares of classes, floats (batch, classes), in place of class numbers."""
        return self._task == "classification" and isinstance(self._loss, Loss) and takes_shares(self._loss)

    def learn_by(self, way: Way) -> None:
        """Say how to learn; before it begins. Raises `Unsupported` for a device or a precision that is not there."""
        self._asked = way
        self.device = torch_device.chosen(way.learning.device)
        self.model.to(self.device)
        self._compute = self._computing(way.learning.precision)

    def _computing(self, precision: str) -> Compute:
        return Compute(self.model, self.device, precision)

    def several(self, how: Several) -> "TorchLearner":
        """Return the Learner of the same model that takes several inputs, or predicts several targets."""
        from leptonai.adapters.frameworks.torch_several import SeveralLearner

        found = SeveralLearner(self.model, self._recipe, self._loss, self._given_metrics, how)
        found.repacked = self.repacked
        return found

    def begin(self, x: Any, y: Any, task: str, classes: int, seed: int) -> None:
        """See the port. The weights stay those that the user's object had; lazy layers are filled after seeding."""
        seed_all(seed)
        output = self._try(x)
        if self.beginning is not None:
            output = self._take(self.beginning, x, y, task, classes, output)
        self._aim(output, y, task, classes)
        self._compute.images = np.ndim(x) == 4
        torch_order.pool_first(self.model)
        if self._asked.learning.adversarial is not None:
            torch_attack.check(self._input(x))
        self._try_loss(output, y)
        self._make_ready(seed)

    def _aim(self, output: Any, y: Any, task: str, classes: int) -> None:
        """Find loss, activation and metrics, now that an output is there. Raises `Invalid` where it does not suit the target."""
        found = one_loss(self._loss) or default_loss(task, outputs(output.shape))
        check_outputs(tuple(output.shape), tuple(np.shape(y)), task, classes, found.kind)
        self.activation = "value"
        if task == "classification":
            self.activation = found.activation or last_activation(self.model, outputs(output.shape))
        self._loss, self._task, self._classes = found, task, classes
        self._tally = Tally([made(given, task, classes, self.activation) for given in one_list(self._given_metrics)])
        self._weighed = None
        if self._asked.class_weights is not None:
            self._weighed = Weighed(found, self._asked.class_weights, self.device)
        if self._asked.learning.label_smoothing:
            check_smoothing(found, task)

    def _make_ready(self, seed: int) -> None:
        """Make the optimiser and what is frozen, once the model is known to fit."""
        lora = self._asked.learning.lora
        if lora is not None and self._adapters is None:
            self._adapters = torch_lora.Adapters(self.model, lora, head=self._task != "generation")
        self._build_optimizer()
        self._meet()
        self._frozen = Frozen(self.model, self._asked.learning) if self._asked.learning.freeze else None
        self.thaw(0, quiet=True)
        seed_all(seed if self._group is None else self._group.seed(seed))

    def _meet(self) -> None:
        """Have the gradients of this module averaged with those of the other processes, where there are others."""
        if self._group is not None:
            self._group.begin(self.model)
            self._steps.shared = self._group.average

    def _build_optimizer(self) -> None:
        if self._frozen is not None:  # of a beginning with more rows, which memory was too small for
            self._frozen.free()
        groups = grouped(self.model, self._asked.learning.layer_decay)
        self._optimizer = self._recipe.build(self.model, groups and groups[0])
        scaler = torch.amp.GradScaler(self.device.type) if self._compute.rounded is torch.float16 else None
        self._way = TorchWay(self._asked, self.model, self._optimizer, scaler, groups and groups[1])

    def _take(self, beginning: Beginning, x: Any, y: Any, task: str, classes: int, output: Any) -> Any:
        module, self.began = torch_pretrained.begun(self.model, beginning, task, classes, output, y)
        if module is not self.model:
            self.model = module
            self._compute = Compute(module, self.device, self._asked.learning.precision)
        return self._try(x) if self.began["changed"] else output

    def thaw(self, epoch: int, *, quiet: bool = False) -> str | None:
        """Freeze what is frozen in this epoch; return a line that says so where that is new."""
        part = self._frozen or self._adapters
        if part is None:
            return None
        if self._frozen is not None:
            self._frozen.at(epoch)
        self.model.eval()  # the next step sets it to learn, without what is frozen
        return None if quiet else part.news()

    def _learning_mode(self) -> None:
        self.model.train()
        for part in (self._frozen, self._adapters):
            if part is not None:
                part.still()

    def _try(self, x: Any) -> Any:
        with torch.no_grad(), mode(self.model, training=False), refused(self.model, rows_of(x)):
            output = self._run(self._input(x))
            check_tensors(output, many=self._many)
        return output

    def _run(self, x: Any) -> Any:
        return self.model(x)

    def _try_loss(self, output: Any, y: Any) -> None:
        with torch.no_grad(), refused(None, shapes_of(output)):
            self._losses(output, self._target(y))
            self._learnt_from(output, self._target(y))

    def _input(self, x: Any) -> Any:
        return torch_paths.lie(self._tensor(x), self._compute.path)

    def _target(self, y: Any) -> Any:
        return self._tensor(y)

    def _tensor(self, y: Any) -> Tensor:
        return torch.from_numpy(y if y.flags.writeable else y.copy()).to(self.device, non_blocking=True)

    @property
    def paths(self) -> tuple[str, ...]:
        """The ways in which it can compute the same model, the plainest first, but those that are compiled."""
        return self._compute.paths

    @property
    def usual_path(self) -> str:
        """The way of these that it takes where no race is worth it."""
        return torch_paths.usual(self.paths, self.device)

    @property
    def path_key(self) -> str:
        """What tells the model, the device and the library from others."""
        return f"{torch.__version__} {torch.get_num_threads()} {self.device} {self._compute.rounded} {self.model}"

    def compiled_path(self, path: str) -> str | None:
        """Return the same way, compiled; None where nothing is there to compile with."""
        return self._compute.compiled_path(path)

    def take_path(self, path: str) -> None:
        """Compute in this way from now on."""
        self._compute.take(path)

    def time_paths(self, x: Any, y: Any, paths: Sequence[str]) -> dict[str, float]:
        """Return the seconds of a batch by each way that learns the same; all is as before afterwards."""
        before, path = self.state(), self._compute.path
        self._learning_mode()

        def batch() -> None:
            self._learnt_from(self._compute.output(self._input(x)), self._target(y))[0].backward()  # type: ignore[no-untyped-call]
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)

        try:
            return self._compute.timed(paths, batch, self._steps.forget)
        finally:
            self._steps.forget()
            self.take_path(path)
            self.restore(before)

    def _losses(self, output: Any, y: Any) -> tuple[Tensor, Any]:
        assert isinstance(self._loss, Loss)  # noqa: S101  (begin set it)
        shaped = self._shaped(output, y)
        value = self._loss.compute(output, shaped)
        return (value if value.dim() == 0 else value.mean()), shaped

    def _learnt_from(self, output: Any, y: Any) -> tuple[Tensor, Any]:
        """Return the loss that is learnt from, and the targets as the metrics take them."""
        smoothing = self._asked.learning.label_smoothing
        wanted = smoothed(y, self._classes, smoothing) if smoothing else y
        if self._weighed is not None:
            return self._weighed(output, self._shaped(output, wanted), y), self._shaped(output, y)
        value, shaped = self._losses(output, wanted)
        return value, self._shaped(output, y) if smoothing else shaped

    def _attacked(self, x: Tensor, target: Tensor) -> Tensor:
        assert self._asked.learning.adversarial is not None  # noqa: S101  (who calls has looked)
        self.model.eval()  # the attack is on what the model will be; dropout and means of batches stay out of it
        found = torch_attack.attacked(
            x,
            self._asked.learning.adversarial,
            self._asked.bounds,
            lambda changed, many: self._losses(self.model(changed), target[:many])[0],
        )
        self._learning_mode()
        return found

    def rate(self, share: float) -> None:
        """Set the learning rate to this share of the full one."""
        self._steps.rate(share)

    @property
    def _steps(self) -> TorchWay:
        assert self._way is not None  # noqa: S101  (begin set it)
        return self._way

    @property
    def sound(self) -> bool:
        """Whether all weights are numbers."""
        return all(bool(torch.isfinite(p).all()) for p in self.model.parameters())

    def _shaped(self, output: Tensor, y: Tensor) -> Tensor:
        assert isinstance(self._loss, Loss)  # noqa: S101  (begin set it)
        return targets(self._loss, self._task, y, output)

    def step(self, x: Any, y: Any) -> None:
        """See the port."""
        steps = self._steps
        if not self.model.training:
            self._learning_mode()
        steps.averaged(False)
        if self._group is not None:
            self._group.next(len(x))
            if not len(x):
                steps.learn(None)
                self.last_loss = self._group.loss
                return
        target, x = self._target(y), self._input(x)
        if self._asked.learning.adversarial is not None:
            x = self._attacked(x, target)
        output = self._compute.output(x)
        value, shaped = self._learnt_from(output, target)
        steps.learn(value)
        self._add(value.detach(), detached(output), target, shaped)
        if self._group is not None:
            self.last_loss = self._group.loss  # that of all: a process must not stop alone

    def measure(self, x: Any, y: Any) -> None:
        """See the port."""
        self._look()
        if not len(x):  # others have rows
            return
        with torch.no_grad():
            target = self._target(y)
            output = self._run(self._input(x))
            value, shaped = self._losses(output, target)
            self._add(value, output, target, shaped)

    def _add(self, value: Tensor, output: Any, target: Any, shaped: Any) -> None:
        if self._task == "classification" and target.dim() == 2:  # shares of classes: measured by the likeliest
            target = target.argmax(-1)
            shaped = self._shaped(output, target)
        self.last_loss = value.item()
        rows = len(target) if isinstance(target, Tensor) else len(next(iter(target.values())))
        self._tally.loss(self.last_loss, rows)
        self._tally.add(output, target, shaped)

    def metrics(self) -> dict[str, float]:
        """See the port."""
        if self._group is not None:
            self._tally.take(self._group.gather(self._tally.kept()))
        return self._tally.results()

    def predict(self, x: Any) -> Any:
        """See the port."""
        self._look()
        with torch.no_grad():
            return self._run(self._input(x)).float().cpu().numpy()

    def _look(self) -> None:
        """Have the model give what it will give once it is trained."""
        self.model.eval()
        if self._way is not None:
            self._way.averaged(True)

    def state(self) -> dict[str, bytes]:
        """See the port."""
        assert self._optimizer is not None  # noqa: S101  (begin set it)
        self._steps.averaged(False)
        return {
            **self._steps.state(),
            "weights.safetensors": self._dumped(),
            "optimizer.safetensors": dump_optimizer(self._optimizer),
            **self.own_state(),
        }

    def own_state(self) -> dict[str, bytes]:
        """Return what of the state differs between processes that learn together."""
        found = {**arrays.generators(), "torch": generators()}
        return {"rng.json": json.dumps(found).encode(), "sums.safetensors": self._tally.kept()}

    def restore(self, state: Mapping[str, bytes]) -> None:
        """See the port."""
        assert self._optimizer is not None  # noqa: S101  (begin set it)
        self._steps.restore(state)
        self._load(state["weights.safetensors"])
        load_optimizer(self._optimizer, state["optimizer.safetensors"])
        self._tally.take([state["sums.safetensors"]])
        kept = json.loads(state["rng.json"])
        arrays.set_generators(kept)
        set_generators(kept["torch"])

    def weights(self) -> bytes:
        """Return all parameters and buffers by name, as safetensors: their averages, where those are asked for."""
        if self._way is not None:
            self._way.averaged(True)
        return self._dumped()

    def _dumped(self) -> bytes:
        if self._adapters is not None:
            return self._adapters.dumped()
        from safetensors.torch import save

        return save({name: on_cpu(value) for name, value in self.model.state_dict().items()})

    def load_weights(self, weights: bytes) -> None:
        """Take weights that `weights` gave."""
        self._load(weights)
        if self._way is not None:
            self._way.taken()

    def _load(self, weights: bytes) -> None:
        if self._adapters is not None:
            self._adapters.load(weights)
        else:
            load_into(self.model, weights)

    def stand_on(self, beginning: Beginning) -> None:
        """Take the weights that what `load_weights` brings stands beside."""
        torch_pretrained.take(self.model, beginning)
