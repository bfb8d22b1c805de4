"""`Model`: a user's own model with the platform behind it — compile, fit, predict, evaluate, publish."""

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, cast

from leptonai.core import plugins
from leptonai.core.errors import FieldError, Invalid, MissingExtra, Unsupported
from leptonai.core.learning import ALL as LEARNING
from leptonai.core.nouns import Run as RunRecord
from leptonai.core.refs import DatasetRef, check_name
from leptonai.core.several import fields
from leptonai.core.stages import PACK, load
from leptonai.evaluation.spec import Evaluate
from leptonai.evaluation.spec import Report as ReportRecord
from leptonai.sdk import augmenting, client, runs, show
from leptonai.sdk import checks as rules
from leptonai.sdk.learning import HowItLearns, to_send
from leptonai.sdk.pretrained import choose
from leptonai.sdk.results import History, Report
from leptonai.sdk.specs import check, sent
from leptonai.training.callbacks import check as check_callbacks
from leptonai.training.spec import EarlyStopping, Export, Fitted, Predict, Train

if TYPE_CHECKING:
    from leptonai.core.ports import Packed
    from leptonai.sdk.datasets import Dataset
    from leptonai.sdk.registry import ModelVersion
    from leptonai.sdk.runs import Run
    from leptonai.sdk.tuning import Tuning

__all__ = ["EarlyStopping", "History", "Model", "Report"]

Verbose = bool | Literal["auto", 0, 1, 2]


class Model:
    """A Keras model (of any back end), a ``torch.nn.Module`` or a scikit-learn estimator, trained by the platform.

    Without a model the server picks a sensible one from the columns. After `fit` your object (`model`) holds the
    trained weights.
    """

    def __init__(self, model: object | None = None):
        self.model = model
        self._framework = plugins.framework_of(model) if model is not None else None
        self._compiled: dict[str, Any] = {}
        self._loss_weights: dict[str, float] = {}
        self._run: Run | None = None
        self._report: Report | None = None

    @classmethod
    def trained_by(cls, run: "Run") -> "Model":
        """Return the model that a train Run learnt, which the server picked: to predict with, to be evaluated and published."""
        found = cls()
        found._run = run
        return found

    def compile(
        self,
        optimizer: object | None = None,
        loss: object | None = None,
        metrics: "Sequence[object] | Mapping[str, Any] | None" = None,
        loss_weights: Mapping[str, float] | None = None,
    ) -> None:
        """Say how it learns: optimizer, loss and metrics, each by name or as an object of the framework.

        With several targets `loss` and `metrics` may be dicts by target, and `loss_weights` says what each weighs in the sum. Names and objects are checked when `fit` packs the model. Raises `Unsupported` where there is no model to compile.
        """
        if self._framework is None:
            raise Unsupported("there is nothing to compile: without a model the server picks one, and how it learns")
        if isinstance(metrics, str):
            metrics = [metrics]
        each = dict(metrics) if isinstance(metrics, Mapping) else None if metrics is None else list(metrics)
        given = {"optimizer": optimizer, "loss": loss, "metrics": each}
        self._loss_weights = dict(loss_weights or {})
        self._compiled = {name: value for name, value in given.items() if value is not None}

    def fit(
        self,
        train: "Dataset | str",
        *,
        epochs: int | None = None,
        batch_size: int = 32,
        smaller_batches: bool = False,
        validation_data: "Dataset | str | None" = None,
        callbacks: Sequence[object] = (),
        early_stopping: EarlyStopping | None = None,
        shuffle: bool = True,
        seed: int = 0,
        target: str | Sequence[str] | None = None,
        features: Sequence[str] | None = None,
        inputs: Mapping[str, Sequence[str]] | None = None,
        category_encoding: Literal["index", "onehot"] = "index",
        scale: bool = True,
        checkpoint_seconds: float = 30.0,
        workers: int = 1,
        augment: Sequence[Any] | None = None,
        checks: Sequence[rules.Rule] = (),
        pretrained: "ModelVersion | str | Path | None" = None,
        name: str | None = None,
        verbose: Verbose = "auto",
        **how: Unpack[HowItLearns],
    ) -> History:
        """Train on a dataset, or on a part of one: a Run, followed to its end with a live progress bar.

        `epochs`: passes over the data; default 1, or what a model that the server picks needs. `callbacks` may hold an `EarlyStopping` (ours, or Keras's), functions of (epoch, logs), which
        end the training by returning "stop", and objects with Keras's hooks; they are called in the Run's own process. `target` and `features` are column names; default: the
        dataset's target, and all other columns. Of several targets the model has an output for each. `inputs`: of a model that takes
        several, which columns are in which, such as ``{"image": ["photo"], "table": ["price", "area"]}``. `augment`: how training rows are changed on their way, such as
        ``[leptonai.augment.Flip(), "noise"]``; default: as the dataset declares. `checks`: rules that the rows must
        keep, such as ``["range:age=0..120"]``, else the Run fails and names the first bad ones. `workers`: processes that learn
        together, each from its share of every batch (PyTorch). `pretrained`: the weights to begin with, of a version
        (``models:/flowers/3``), a safetensors file, or a folder as Hugging Face writes it; the last layer is new where the classes are
        others. Without a model of yours the version's is taken, or one for texts made of the folder. Ctrl-C cancels the Run. Raises
        `Invalid` for what does not fit.

        How it learns: `learning_rate`; `schedule` ("cosine:warmup=2", "onecycle", "plateau:patience=3", "linear", "step"); `clip_norm`,
        `clip_value`; `accumulate` batches to a step; `weight_decay`; `dropout`; `label_smoothing`; `ema` of the weights (0.999,
        say); `class_weights` ("balanced", or by class); `balanced_sampling`; `mitigate` ("sex", "sex:constraint=equalized_odds,within=0.05": groups are
        treated alike; your estimator stays unfitted, what was learnt is a vote of two); `adversarial` ("fgsm:epsilon=0.03", "pgd:steps=7"); `device`
        ("auto", "cpu", "cuda", "mps") and `precision` ("auto", "fp32", "bf16", "fp16"); `freeze` ("all but head", or layers), `unfreeze_after`
        epochs, `unfreeze_layers` each epoch, `layer_decay` of the rate from layer to layer, and `lora` (8, "8:alpha=16").
        """
        stopping, own = _parted(callbacks)
        document = {
            "data": reference(train, "train"),
            "validation": None if validation_data is None else reference(validation_data, "validation_data"),
            "target": target if target is None or isinstance(target, str) else tuple(target),
            "loss_weights": self._loss_weights or None,
            "inputs": None if inputs is None else {name: tuple(columns) for name, columns in inputs.items()},
            "features": None if features is None else tuple(features),
            "epochs": epochs,
            "batch_size": batch_size,
            "smaller_batches": smaller_batches or None,
            "shuffle": shuffle,
            "seed": seed,
            "early_stopping": _early_stopping(stopping, early_stopping),
            "category_encoding": category_encoding,
            "scale": scale,
            "checkpoint_seconds": checkpoint_seconds,
            "workers": workers,
            "checks": rules.rules_of(checks, "fit") or None,
            "augment": augmenting.steps_to_send(train, augment),
            "learning": to_send(how),
        }
        document = {name: value for name, value in document.items() if value is not None}
        check(Train, document, "fit")  # before the code travels
        chosen = choose(pretrained)
        via = client.current()
        if chosen is not None:
            document["pretrained"] = chosen.sent(via)
        document |= self.code()
        if own:
            document["callbacks"] = via.http.upload(load(PACK)(own, "what is in callbacks"))
        record = runs.submit(via.http, "train", sent(check(Train, document, "fit")), name=name)
        record = runs.follow(via.http, record.id, title="fit", show_progress=_shown(verbose))
        fitted = Fitted.model_validate(record.result)
        self._run, self._report = runs.Run(record, via), None
        self._absorb(self._run, fitted)
        params = {"epochs": fitted.epochs, "batch_size": batch_size, "seed": seed, "parameters": fitted.parameters}
        return History(self._run, fitted.history, params)

    def _absorb(self, run: "Run", fitted: Fitted) -> None:
        """Have the user's object hold what was learnt, but where that is a vote, which is another estimator."""
        if self._framework is not None and not (run.record.spec.get("learning") or {}).get("mitigate"):
            self._framework.absorb(self.model, client.current().http.download(fitted.weights))

    def code(self) -> dict[str, Any]:
        """Upload the model, and what `compile` was given; return the fields of a train spec that name them. None of these without a model."""
        if self._framework is None:
            return {}
        packed = self._framework.pack(self.model, self._compiled)
        return self._travel(packed, client.current().http.upload(packed.code))

    def _travel(self, packed: "Packed", code: str) -> dict[str, Any]:
        # Only names go into the spec, for people to read; objects travel inside the code, and are not read on the way.
        named = {name: _named(value) for name, value in self._compiled.items()}
        return {
            "framework": self._framework.name if self._framework else None,
            "flavour": packed.flavour,
            "code": code,
            "facts": packed.facts,
            "compiled": named,
        }

    def tune(
        self,
        space: Mapping[str, Any],
        *,
        data: "Dataset | str",
        validation_data: "Dataset | str | None" = None,
        goal: "str | Sequence[str] | Mapping[str, str]" = "val_loss",
        budget: "int | str | Sequence[int | str] | None" = None,
        build: "Callable[[dict[str, Any]], Any] | None" = None,
        sampler: str = "auto",
        pruner: str = "none",
        stop_at: float | None = None,
        parallel: int | None = None,
        first: Sequence[Mapping[str, Any]] = (),
        start: "Sequence[str | Run | Tuning] | str | Run | Tuning" = (),
        seed: int = 0,
        target: str | None = None,
        features: Sequence[str] | None = None,
        name: str | None = None,
        verbose: Verbose = "auto",
        **train: Any,
    ) -> "Tuning":
        """Find the settings with which it learns best: one Run of many trials, followed with a table of the best so far.

        `space`: what is varied, by name: ``(low, high)``, ``(low, high, "log")``, a list of choices, or a dict with ``when``.
        Names are those of `fit` (``batch_size``, ``epochs`` …), of the optimiser (``learning_rate`` …), hyper-parameters of a
        scikit-learn estimator, or, with `build`, whatever this function takes: it gets a dict of the settings and returns a
        model, or ``(model, {"optimizer": …, "loss": …, "metrics": …})``. `goal`: a metric, or several; "seconds", "parameters"
        and "latency_ms" are goals, too. Without `validation_data` a fifth of the rows is held out. `budget`: trials, a time
        such as ``"10min"``, or both; default 20 trials; `stop_at`: a value of the first goal that is enough. `parallel`: trials at once; default: one for each core. `train`: what else `fit` takes, for all trials. `start`: earlier studies.

        Afterwards this model is the best one, to be evaluated and published. Raises `Invalid` for what does not fit.
        """
        from leptonai.sdk import tuning

        stopping, called = _parted(train.pop("callbacks", ()))
        own = {
            "target": target,
            "sampler": sampler,
            "pruner": pruner,
            "stop_at": stop_at,
            "parallel": parallel,
            "seed": seed,
        }
        given = {
            "seed": seed,
            "features": None if features is None else tuple(features),
            **_for_trials(train, stopping),
        }
        asked = tuning.document(
            space,
            reference(data, "data"),
            None if validation_data is None else reference(validation_data, "validation_data"),
            goal,
            budget,
            {**given, "augment": augmenting.steps_to_send(data, given.get("augment"))},
            **own,
            first=[dict(one) for one in first],
            start=tuning.ids(start),
        )
        via = client.current()
        if called:
            asked["train"]["callbacks"] = via.http.upload(load(PACK)(called, "what is in callbacks"))
        if build is not None:
            code, names = tuning.packed(build, self._compiled, space)
            asked |= {"built": True, "train": {**asked["train"], **names, "code": via.http.upload(code)}}
        elif self._framework is not None:
            packed = self._framework.pack(self.model, self._compiled)
            asked["train"] |= self._travel(packed, via.http.upload(packed.code))
        record = tuning.follow(via.http, tuning.submit(via, asked, name), show_progress=_shown(verbose))
        found = tuning.made(record, via)
        self._run, self._report = found.best_run, None
        if build is not None:
            made = build(found.best_params)
            self.model, _ = made if isinstance(made, tuple) else (made, None)
            self._framework = plugins.framework_of(self.model)
        self._absorb(self._run, Fitted.model_validate(self._run.record.result))
        return found

    def predict(self, data: "Dataset | str", *, batch_size: int = 1024, verbose: Verbose = "auto") -> Any:
        """Predict for every row of a dataset: an array whose first axis is the rows; of several targets a dict of them.

        Probabilities (rows, classes) of a classifier, values of a regressor, in the model's own shape.
        """
        spec = check(
            Predict,
            {"run": self._fitted("predict"), "data": reference(data, "data"), "batch_size": batch_size},
            "predict",
        )
        record, via = self._done("predict", sent(spec), verbose)
        try:
            import numpy as np
        except ImportError as error:
            raise MissingExtra("predict answers with an array, which needs numpy:  pip install numpy") from error
        found: np.ndarray = np.load(
            BytesIO(via.http.download((record.result or {})["predictions"])), allow_pickle=False
        )
        return found if found.dtype.names is None else fields(found)

    def evaluate(
        self, data: "Dataset | str", *, batch_size: int = 1024, verbose: Verbose = "auto", **asked: Any
    ) -> Report:
        """Measure it on a dataset: accuracy, F1, ROC AUC and more for classes; MAE, RMSE and R² for values.

        `asked`: the other fields of `leptonai.evaluation.spec.Evaluate`, such as ``costs={"fp": 1, "fn": 5}``, ``positive="yes"``,
        ``resamples=2000``, ``confidence=0.9``.
        """
        document = {"run": self._fitted("evaluate"), "data": reference(data, "data"), "batch_size": batch_size, **asked}
        record, via = self._done("evaluate", sent(check(Evaluate, document, "evaluate")), verbose)
        self._report = Report(ReportRecord.model_validate(record.result), runs.Run(record, via))
        return self._report

    def cross_validate(
        self,
        data: "Dataset | str",
        *,
        folds: int = 5,
        by: Literal["auto", "rows", "class", "group", "time"] = "auto",
        column: str | None = None,
        verbose: Verbose = "auto",
        **asked: Any,
    ) -> Report:
        """Train a model like this one for each fold of the rows, judge the fold with it, and report; the model itself stays as it is.

        `by`: "rows", "class" (each class evenly; the default where there are classes), "group" or "time", with the name of a `column`:
        rows of a group stay together; in time each fold is judged by a model of earlier rows. `asked`: fields of a training
        (``epochs``, ``batch_size``, ``seed``, ``features``) and of an evaluation (``costs``, ``resamples``); ``curve=True``: how good is it
        with fewer rows, ``noise=True``: and with wrong labels; ``tune={"space": …, "goal": …, "budget": …}``: settings are chosen anew for
        each fold, by trials within the rows that its model learns from (nested cross-validation).
        """
        from leptonai.sdk.crossing import cross_validate

        given = {"folds": folds, "by": by, "column": column, "show_progress": _shown(verbose)}
        return cross_validate(self, data, **given, **asked)  # type: ignore[arg-type]

    def publish(
        self,
        name: str,
        *,
        aliases: Sequence[str] = (),
        metrics: Mapping[str, float] | None = None,
        evaluation: "Report | str | None" = None,
        verbose: Verbose = "auto",
    ) -> "ModelVersion":
        """Make an immutable version of it: one ONNX file that takes rows as people have them, checked before it is taken.

        It keeps the metrics of `evaluation` (default: the last `evaluate` since `fit`) and those in `metrics`.
        """
        from leptonai.sdk.registry import made_by

        check_name(name)
        found = evaluation if evaluation is not None else self._report
        document = {
            "run": self._fitted("publish"),
            "name": name,
            "aliases": (aliases,) if isinstance(aliases, str) else tuple(aliases),
            "metrics": dict(metrics or {}),
            "evaluation": found.run.id if isinstance(found, Report) else found,
        }
        record, via = self._done("export", sent(check(Export, document, "publish")), verbose, "publish")
        return made_by(record, via)

    def _fitted(self, verb: str) -> str:
        if self._run is None:
            raise Invalid(f"the model was not trained yet: call fit(…) before {verb}(…)")
        return self._run.id

    def _done(
        self, stage: str, spec: dict[str, Any], verbose: Verbose, title: str | None = None
    ) -> "tuple[RunRecord, client.Client]":
        via = self._run._client if self._run is not None else client.current()
        record = runs.submit(via.http, stage, spec)
        return runs.follow(via.http, record.id, title=title or stage, show_progress=_shown(verbose)), via

    def summary(self) -> dict[str, object]:
        """Return what a table shows of it."""
        kind = type(self.model)
        what = "picked by the server" if self.model is None else f"{kind.__module__}.{kind.__qualname__}"
        facts: dict[str, object] = {"model": what}
        if self._framework is not None:
            facts["framework"] = self._framework.name
        facts |= {name: str(_named(value)) for name, value in self._compiled.items()}
        facts["trained by"] = self._run.id if self._run is not None else "not trained yet"
        return facts

    def __repr__(self) -> str:
        return f"Model({', '.join(f'{name}: {value}' for name, value in self.summary().items())})"

    def _repr_html_(self) -> str:
        return show.card("Model", self.summary())


def reference(data: object, field: str) -> str:
    """Return the reference of a Dataset, or check one that is given as text. Raises `Invalid`."""
    if isinstance(data, str):
        return str(DatasetRef.parse(data))
    ref = getattr(data, "ref", None)
    if ref is None:
        right = "a Dataset (leptonai.create_dataset(…)) or a reference such as 'datasets:/name@v1'"
        raise Invalid(f"{field} must be {right}, not {type(data).__name__}", errors=[FieldError(field, right)])
    return str(ref)


def _named(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(name): _named(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_named(item) for item in value]
    return value if isinstance(value, str) else getattr(value, "__name__", type(value).__name__)


def _shown(verbose: Verbose) -> bool | None:
    return None if verbose == "auto" or verbose else False


def _parted(callbacks: Sequence[object]) -> tuple[list[object], list[object]]:
    """Return the rules for stopping early, which the platform follows itself, and the user's own callbacks."""
    stopping: list[object] = []
    own: list[object] = []
    for callback in callbacks:
        keras = type(callback).__name__ == "EarlyStopping" and hasattr(callback, "patience")
        (stopping if isinstance(callback, EarlyStopping) or keras else own).append(callback)
    check_callbacks(own)
    return stopping, own


def _early_stopping(callbacks: Sequence[object], given: EarlyStopping | None) -> dict[str, Any] | None:
    found = [given] if given is not None else []
    for callback in callbacks:
        found.append(callback if isinstance(callback, EarlyStopping) else _from_keras(callback))
    if len(found) > 1:
        raise Invalid("give one EarlyStopping, not several", errors=[FieldError("callbacks", "one EarlyStopping")])
    return found[0].model_dump() if found else None


def _for_trials(given: dict[str, Any], stopping: Sequence[object]) -> dict[str, Any]:
    """Return what else `fit` takes, as a train spec has it; `stopping`: the rules for stopping early."""
    how = {name: given.pop(name) for name in list(given) if name in LEARNING}
    found = {
        **given,
        "learning": to_send(cast(HowItLearns, how)),
        "early_stopping": _early_stopping(stopping, given.get("early_stopping")),
    }
    found["checks"] = rules.rules_of(given.get("checks", ()), "tune") or None
    return {name: value for name, value in found.items() if value is not None}


def _from_keras(callback: Any) -> EarlyStopping:
    mode = str(getattr(callback, "mode", "auto"))
    for name in ("baseline", "start_from_epoch"):
        if getattr(callback, name, None):
            raise Unsupported(f"EarlyStopping: {name} is not supported", errors=[FieldError(name, "leave it out")])
    document = {
        "monitor": callback.monitor,
        "patience": callback.patience,
        "min_delta": abs(float(callback.min_delta)),  # Keras turns its sign by the mode
        "mode": mode,
        "restore_best": bool(getattr(callback, "restore_best_weights", False)),
    }
    return check(EarlyStopping, document, "EarlyStopping")
