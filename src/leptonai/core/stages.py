"""What can be asked of leptonai: each line is one kind of Run, with where its three parts live.

spec = what you ask · prepare, settle = what the server does at once · work = what the Run does, for hours if need be.
The parts are named, not imported: the client sees only the specs, a Site only the work, the server only the verbs.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pydantic import ValidationError

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Column, Dataset, Run
from leptonai.core.ports import Store


class Stage(NamedTuple):
    """One kind of Run."""

    name: str
    spec: str  # a pydantic model
    prepare: str  # (spec, Desk) -> Plan: checks at submit time what can be checked, resolves references
    work: str  # (spec, Handle) -> result, JSON
    settle: str | None  # (run, result, Desk) -> the Changes of the transaction that ends the Run
    permission: str


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            "import",
            "leptonai.data.spec:Import",
            "leptonai.data.verbs:prepare_import",
            "leptonai.data.work:import_files",
            "leptonai.data.verbs:settle_import",
            "dataset:write",
        ),
        Stage(
            "clean",
            "leptonai.data.spec_clean:Clean",
            "leptonai.data.clean_verbs:prepare_clean",
            "leptonai.data.clean_work:clean",
            "leptonai.data.clean_verbs:settle_clean",
            "dataset:write",
        ),
        Stage(
            "profile",
            "leptonai.data.spec_profile:Profile",
            "leptonai.data.look_verbs:prepare_profile",
            "leptonai.data.profile_work:profile",
            None,
            "dataset:read",
        ),
        Stage(
            "check",
            "leptonai.data.spec_check:Check",
            "leptonai.data.check_verbs:prepare_check",
            "leptonai.data.check_work:check",
            None,
            "dataset:read",
        ),
        Stage(
            "diff",
            "leptonai.data.spec_diff:Diff",
            "leptonai.data.look_verbs:prepare_diff",
            "leptonai.data.diff_work:diff",
            None,
            "dataset:read",
        ),
        Stage(
            "find_pii",
            "leptonai.data.spec_private:FindPii",
            "leptonai.data.look_verbs:prepare_find_pii",
            "leptonai.data.detect_work:find_pii",
            None,
            "dataset:read",
        ),
        Stage(
            "relabel",
            "leptonai.data.spec_relabel:Relabel",
            "leptonai.data.relabel_verbs:prepare_relabel",
            "leptonai.data.relabel:relabel",
            "leptonai.data.verbs:settle_import",
            "dataset:write",
        ),
        Stage(
            "label_errors",
            "leptonai.labels.spec:LabelErrors",
            "leptonai.labels.verbs:prepare_judging",
            "leptonai.labels.wrong:find_errors",
            None,
            "run:write",
        ),
        Stage(
            "auto_label",
            "leptonai.labels.spec:AutoLabel",
            "leptonai.labels.verbs:prepare_judging",
            "leptonai.labels.auto:label_rest",
            None,
            "run:write",
        ),
        Stage(
            "pick_rows",
            "leptonai.labels.spec:PickRows",
            "leptonai.labels.verbs:prepare_judging",
            "leptonai.labels.next_rows:pick_rows",
            None,
            "run:write",
        ),
        Stage(
            "train",
            "leptonai.training.spec:Train",
            "leptonai.training.verbs:prepare_train",
            "leptonai.training.work:train",
            None,
            "run:write",
        ),
        Stage(
            "tune",
            "leptonai.tuning.spec:Tune",
            "leptonai.tuning.verbs:prepare_tune",
            "leptonai.tuning.work:tune",
            "leptonai.tuning.verbs:settle_tune",
            "run:write",
        ),
        Stage(
            "auto",
            "leptonai.tuning.auto.spec:Auto",
            "leptonai.tuning.auto.verbs:prepare_auto",
            "leptonai.tuning.auto.work:auto",
            "leptonai.tuning.auto.verbs:settle_auto",
            "run:write",
        ),
        Stage(
            "predict",
            "leptonai.training.spec:Predict",
            "leptonai.training.verbs:prepare_predict",
            "leptonai.training.work:predict",
            None,
            "run:write",
        ),
        Stage(
            "evaluate",
            "leptonai.evaluation.spec:Evaluate",
            "leptonai.evaluation.verbs:prepare_evaluate",
            "leptonai.evaluation.work:evaluate",
            None,
            "run:write",
        ),
        Stage(
            "cross_validate",
            "leptonai.evaluation.spec:CrossValidate",
            "leptonai.evaluation.cross_verbs:prepare_cross_validate",
            "leptonai.evaluation.cross_work:cross_validate",
            None,
            "run:write",
        ),
        Stage(
            "explain",
            "leptonai.evaluation.spec:Explain",
            "leptonai.evaluation.explain_verbs:prepare_explain",
            "leptonai.evaluation.explain_work:explain",
            None,
            "run:write",
        ),
        Stage(
            "export",
            "leptonai.training.spec:Export",
            "leptonai.training.verbs:prepare_export",
            "leptonai.training.export:export",
            "leptonai.registry.verbs:settle_export",
            "model:write",
        ),
        Stage(
            "package",
            "leptonai.serving.spec:Package",
            "leptonai.serving.verbs:prepare_package",
            "leptonai.serving.work:package",
            "leptonai.registry.verbs:settle_export",
            "model:write",
        ),
    )
}

# What a Handle loads by name, so that stages meet in records and never import each other.
READER = "leptonai.data.reader:open_dataset"  # (dataset, splits, handle, mask) -> Reader
HOLD = "leptonai.data.check_work:hold_rows"  # (rules, data, handle): raises where a row breaks a rule
STEPS = "leptonai.training.augment.check:known_steps"  # (steps) -> as JSON data; raises for one that is not known
FITTING = "leptonai.training.augment.check:check_fitting"  # (steps, columns, target): raises for one that does not fit
RULES = "leptonai.data.check_verbs:train_rules"  # (rules, desk, dataset) -> rules with exact versions, blobs
FOLDS = (
    "leptonai.training.folds:judge"  # (train spec, folds, handle) -> what models say of rows they did not learn from
)
TRIALS = "leptonai.training.trials:Trials"  # (train spec, code of what builds a model, handle): trains with settings, many times
BENCH = (
    "leptonai.training.auto.bench:Bench"  # (train spec, auto spec, handle): cross-validates candidates, fold by fold
)
AUTO_KIND = (
    "leptonai.training.auto.kinds:kind_of"  # (asked, version, target, features) -> kind of problem, train fields
)
SCORE = "leptonai.evaluation.scoring:scored"  # (task, classes, truth, scores, resamples, seed) -> metrics
PREDICTOR = "leptonai.training.predictor:open_predictor"  # (run, handle) -> Predictor
CROSS = "leptonai.training.crossing:cross"  # (train spec, folds, by, column, handle) -> what folds say of each other
COLUMNS = "leptonai.serving.plane.columns:Columns"  # (signature): makes inputs of rows as people have them
GATE = "leptonai.evaluation.gate:verdicts"  # (rules, evidence) -> a verdict on each
RULE = "leptonai.evaluation.gate:parse"  # (rule): raises where it is not understood

# How code of a user's travels, for whoever may not import an adapter.
PACK = "leptonai.adapters.frameworks.packing:by_value"  # (object, what it is called) -> bytes
UNPACK = "leptonai.adapters.frameworks.packing:unpack"  # bytes -> object; executes code: only in a process of its own
THREADS = "leptonai.adapters.frameworks.threads:limited"  # (threads): so many for the libraries of numbers

# What a fork server loads before the Runs of a flavour start, where it is installed. The first optimiser imports torch._dynamo.
# OpenMP threads that spin for long while they wait starve those of the next Run: two trainings on two cores then take ten
# times as long, each. Threads that never spin take a sixth longer when a Run is alone. So they spin for microseconds.
# glibc gives large pieces of memory back to the system at once, and takes new ones in the next batch: two million page
# faults in an epoch, a quarter of its time. 32 MiB is the most it maps alone; pages of 2 MiB are found sooner.
_LEARNING = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "GOMP_SPINCOUNT": "10000",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(512 << 20),
}
# httpx imports httpcore with the first client that is made, which each Run, and each process that tries settings, would do anew.
_EVERY = ("numpy", "pyarrow.parquet", "pyarrow.parquet.encryption", "httpx", "httpcore", "encodings.idna")
_MODELS = ("onnxruntime", "cloudpickle", "sklearn.metrics", "tensorboardX.record_writer", "optuna", "optuna.importance")
_ADAPTERS = "leptonai.adapters.frameworks"
_KERAS = (f"{_ADAPTERS}.keras_alone", *_MODELS, f"{_ADAPTERS}.keras_learner")
_TORCH = (*_EVERY, "torch", *_KERAS, "torch._dynamo", f"{_ADAPTERS}.torch_learner")
FLAVOURS: dict[str, tuple[tuple[str, ...], Mapping[str, str]]] = {
    # pandas: PyArrow imports it with the first array that is made, where it is installed, which takes a Run 0.3 s.
    "data": ((*_EVERY, "pandas", "polars", "PIL.Image"), {}),
    "sklearn": ((*_EVERY, *_MODELS, "sklearn.ensemble", "sklearn.linear_model", "sklearn.pipeline", "skl2onnx", "skops.io",
                 f"{_ADAPTERS}.sklearn_recipe", f"{_ADAPTERS}.sklearn_ahead"), _LEARNING),
    "torch": (_TORCH, {"KERAS_BACKEND": "torch", **_LEARNING}),
    "transformers": ((*_TORCH, "tokenizers", "transformers.modeling_utils", "transformers.models.bert.modeling_bert",
                      "transformers.models.llama.modeling_llama", "peft"), {"KERAS_BACKEND": "torch", **_LEARNING}),
    "tensorflow": ((*_EVERY, *_KERAS), {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2", **_LEARNING}),
    "ray": (("numpy", "httpx", "torch", "ray", "ray.train.torch"), {"RAY_TRAIN_V2_ENABLED": "1", "RAY_TRAIN_ENABLE_PRINT_PATCH": "0", **_LEARNING}),
    "jax": ((*_EVERY, "jax", *_KERAS), {"KERAS_BACKEND": "jax", **_LEARNING}),
}  # fmt: skip


def load(name: str) -> Any:
    """Import ``module:attribute``."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def stage(name: str) -> Stage:
    """Return the stage of this name. Raises `Invalid`."""
    if name not in STAGES:
        right = f"one of {', '.join(sorted(STAGES))}"
        raise Invalid(f"there is no stage {name!r}: use {right}", errors=[FieldError("stage", right)])
    return STAGES[name]


class Plan(NamedTuple):
    """What `prepare` found out: the spec with every reference made exact, and what the Run needs."""

    spec: dict[str, Any]
    opens: tuple[str, ...]  # blobs its token may read
    flavour: str = "data"
    name: str = ""
    workers: int = 1  # processes that work on it together


class Changes(NamedTuple):
    """What a verb wants written, all or none: ``catalog.change(*change, add=add, drop=drop)``.

    On `Stale` or `Conflict` (another writer was faster: a version number or an alias was taken) ask the verb again.
    """

    add: tuple[Any, ...] = ()
    change: tuple[Any, ...] = ()
    drop: tuple[Any, ...] = ()

    @classmethod
    def of(cls, settled: Any) -> "Changes":
        """Return `settled` as Changes, where a `settle` gave only the records to add."""
        return settled if isinstance(settled, cls) else cls(add=tuple(settled))


class Desk(Protocol):
    """What the server offers to a stage's verbs."""

    by: str  # who asks: the name of a key
    here: bool  # whether he is a program of the server's own user, on its machine

    def may(self, permission: str) -> bool:
        """Whether who asks has this permission; nobody asks while a Run is settled."""

    def find(self, kind: Any, where: Mapping[str, Any] | None = None, *, limit: int = 100) -> list[Any]:
        """See `Catalog.find`."""

    def get(self, kind: Any, id: str) -> Any:
        """See `Catalog.get`."""

    def dataset(self, ref: str) -> Dataset:
        """Return the version that a dataset reference names. Raises `Invalid` or `NotFound`."""

    def model(self, ref: str) -> Any:
        """Return the Model that a reference (or an id) names. Raises `Invalid` or `NotFound`."""

    def read(self, blob: str) -> bytes:
        """Return the plaintext of a sealed blob."""


def prepared(name: str, document: Mapping[str, Any], desk: Desk) -> Plan:
    """Plan a Run of another stage, whose spec is a field of the same name. Raises `Invalid` that names the field within it."""
    found = stage(name)
    try:
        spec = load(found.spec).model_validate(document)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(map(str, (name, *problem["loc"])))
        raise Invalid(f"{field}: {problem['msg']}", errors=[FieldError(field, problem["msg"])]) from error
    plan: Plan = load(found.prepare)(spec, desk)
    if plan.workers > 1:
        right = "leave workers out: many trainings in one Run have a process each at most"
        raise Invalid(f"{name}.workers: {right}", errors=[FieldError(f"{name}.workers", "1")])
    return plan


class Shuffle(NamedTuple):
    """Another order of the rows in each epoch, which follows from these two and the epoch alone."""

    seed: int
    window: int = 0  # how many rows are shuffled together, of shards that are shuffled first; 0: all of them


class Reader(Protocol):
    """Rows of a dataset version, or of a part of it. Batches are dicts of arrays by column name.

    Scalars: float64, int64, bool arrays; category and text: object arrays of str or int64; datetime: int64 microseconds since
    1970 UTC; images: uint8 (rows, height, width, channels); tensors and sounds: (rows, *shape); boxes: object arrays of (count, 5)
    float32: class, x1, y1, x2, y2, in shares of the image. A missing number is NaN, a missing
    category None, a missing integer makes its column float64.
    """

    dataset: Dataset
    columns: tuple[Column, ...]
    target: str | None
    rows: int

    def read(self, columns: tuple[str, ...] | None = None) -> dict[str, Any]:
        """Return all rows."""

    def batches(
        self,
        size: int,
        *,
        columns: tuple[str, ...] | None = None,
        shuffle: Shuffle | None = None,
        epoch: int = 0,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> Iterator[dict[str, Any]]:
        """Yield batches, from place `start` of the epoch on, read ahead by threads; as stored unless they are to be shuffled.

        Of `world` readers of one epoch each gets as many rows, none twice; what does not divide is left out of the epoch.

        Arrays may be views of what is held in memory: they are not to be changed.
        """

    def window(self, columns: tuple[str, ...] | None = None) -> int:
        """Return how many rows can be shuffled together without reading a shard twice; 0: all of them."""

    def order(self, shuffle: Shuffle, epoch: int) -> Any:
        """Return the row numbers (int64) in the order that `batches` has them in this epoch."""


class Predictor(Protocol):
    """A trained model, ready to predict from rows as people have them."""

    fitted: Any  # training.spec.Fitted

    def raw(self, batch: Mapping[str, Any]) -> Any:
        """Return the model's raw outputs for one batch of columns."""

    def scores(self, batch: Mapping[str, Any]) -> Any:
        """Return probabilities (rows, classes) of a classifier, or values (rows, …) of a regressor."""

    def attributed(self, batch: Mapping[str, Any], of: Any) -> Any:
        """Return what each place of a picture, or each word of a text, adds to the output of a class (`of`: numbers, or None for a value).

        Maps (rows, height, width) by method, or a list of (start, end, share) of each text; None where it cannot be told.
        """

    def attacked(self, batch: Mapping[str, Any], truth: Any, rule: Any) -> Any:
        """Return the scores of rows that were changed to where it errs most, by a `core.learning.Adversarial`. Raises `Unsupported`."""


class Handle(Protocol):
    """What a Run holds of the platform. Every method may raise `Fenced`: then another attempt runs, and this one ends."""

    run: Run
    blobs: Store  # sealed: plaintext in, plaintext out
    pii: Store  # sealed: what is written here takes the permission dataset:pii to be read
    raw: Store  # what is in it is encrypted already
    cache: Path | None  # a folder of this machine that outlives the Run, for what was fetched; None: there is none
    place: (
        Mapping[str, Any] | None
    )  # what an executor of several machines gives a Run to place processes there; None: it has one

    def twin(self) -> "Handle":
        """Return a handle of this attempt for a process that was forked from its own: silent, with connections of its own."""

    def data(self, ref: str, *, mask: bool = False) -> Reader:
        """Open a dataset version, or a part of one, by reference. With `mask` no value of a personal column is there."""

    def pepper(self, dataset: str) -> bytes:
        """Return the key of keyed digests of this dataset's values, the same for all of its versions.

        Raises `Denied` but to Runs that make versions of it.
        """

    def model(self, run: str) -> Predictor:
        """Open what a training Run learnt."""

    def get(self, run: str) -> Run:
        """Return another Run, such as the one that trained the model at hand."""

    def log(self, step: int, **metrics: float) -> None:
        """Add to the Run's metric series."""

    def say(self, line: str) -> None:
        """Add a line to the Run's log."""

    def progress(self, done: float, total: float, unit: str) -> None:
        """Say how far the Run is."""

    def note(self, *entries: Mapping[str, Any]) -> None:
        """Add to the Run's journal, all of the entries or none; they are there for good when this returns.

        One that was added may be there twice, where an answer was lost on its way.
        """

    def noted(self) -> list[dict[str, Any]]:
        """Return the journal of all attempts, oldest first; no earlier attempt adds to it any more."""

    def save(self, state: Mapping[str, bytes]) -> None:
        """Keep a checkpoint; the one before is kept until this one is safe."""

    def restore(self) -> dict[str, bytes] | None:
        """Return the last checkpoint of an earlier attempt, or None."""
