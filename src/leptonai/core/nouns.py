"""The five nouns: Dataset, Run, Model, Service, Site; and the small records that stand beside them.

A record is frozen: it says what was true when it was read. Code that wants to change one makes a copy with
`record.model_copy(update=…)` and hands it to the catalog, which writes it only if `rev` is still what was read.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from leptonai.core.ids import new_id
from leptonai.core.prediction_log import PredictionLog as PredictionLog
from leptonai.core.replicas import Replicas, Scaled
from leptonai.core.signature import FeatureType, Signature
from leptonai.core.states import RolloutPhase, RunState, ServiceState

NAME_PATTERN = r"^[a-z0-9]+((\.|[_-]+)[a-z0-9]+)*$"
"""What a name may be: lower-case letters, digits, ``.``, ``_`` and ``-``; never ``..``, never a path."""

Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=100)]
Percent = Annotated[int, Field(ge=0, le=100)]


def utcnow() -> datetime:
    """Return the time now, aware, in UTC."""
    return datetime.now(UTC)


class Frozen(BaseModel):
    """A value that never changes and refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Record(Frozen):
    """What the catalog keeps. `rev` counts its changes and is the ETag of the HTTP API."""

    kind: ClassVar[str]  # the table
    prefix: ClassVar[str]  # of the ids
    indexed: ClassVar[tuple[str, ...]] = ("name",)  # what `Catalog.find` can filter by
    unique: ClassVar[tuple[str, ...]] = ()  # together, at most one record has these

    id: str = ""
    name: str = ""
    rev: int = 1
    created: datetime = Field(default_factory=utcnow)
    updated: datetime = Field(default_factory=utcnow)
    by: str = ""  # who made it: the name of a key

    @classmethod
    def new(cls, **fields: Any) -> Self:
        """Make a record with a fresh id."""
        return cls(id=new_id(cls.prefix), **fields)


# ---------------------------------------------------------------------------------------------------- Dataset


class Column(Frozen):
    """One column: its name, what it means, and what is known of its values."""

    name: str
    type: FeatureType
    shape: tuple[int, ...] = ()  # of one value: () for a scalar, (height, width, channels) for an image
    dtype: str = "float64"  # numpy's word for a value, or "str"
    nullable: bool = False
    categories: tuple[str | int, ...] = ()  # sorted; for a category (or boolean) column, all values seen
    pii: bool = False  # personal: it has a key of its own, and nothing is said of its values
    stats: dict[str, Any] = Field(default_factory=dict)  # count, missing, unique, mean, std, min, max, counts …


class Dataset(Record):
    """One immutable version of a dataset. `digest` is that of its content, whatever key encrypts it."""

    kind = "dataset"
    prefix = "ds"
    indexed = ("name", "version", "digest")
    unique = ("name", "version")

    version: int
    digest: str
    rows: int
    bytes: int
    columns: tuple[Column, ...]
    target: str | None = None
    manifest: str  # the sealed blob that lists the shards and holds their key
    shards: tuple[str, ...] = ()  # the blobs that hold the rows
    pii: tuple[str, ...] = ()  # the sealed blobs with the keys of its personal columns
    run: str | None = None  # the Run that made it
    source: dict[str, Any] = Field(default_factory=dict)  # files with their sizes and digests, options


class Tag(Record):
    """A word that points at one version of a dataset, and keeps it from being deleted. Its id is ``dataset@tag``."""

    kind, prefix = "tag", "tag"
    indexed = ("name", "dataset")  # name: the dataset's name
    tag: str
    dataset: str  # the id of a Dataset


# -------------------------------------------------------------------------------------------------------- Run


class Limits(Frozen):
    """What one Run may use. None: no limit."""

    memory_mb: int | None = None
    cpu_seconds: float | None = None
    wall_seconds: float | None = None


class Run(Record):
    """Anything slow: a function from dataset versions and a spec to an artefact or a report."""

    kind = "run"
    prefix = "run"
    indexed = ("name", "stage", "state", "site", "parent")

    stage: str  # which stage: a name in core/stages.py, such as "train"
    spec: dict[str, Any]
    state: RunState = RunState.QUEUED
    site: str = "home"
    parent: str | None = None
    flavour: str = "data"  # which libraries its process needs, see core/stages.py
    workers: int = 1  # how many processes work on it together
    limits: Limits = Limits()
    opens: tuple[str, ...] = ()  # the blobs its token may read
    max_attempts: int = 3
    attempt: int = 0
    epoch: int = 0  # fencing: grows by one with each claim; a write under an older one is refused
    agent: str | None = None
    token: str | None = None  # digest of the token that this attempt's process holds
    lease_until: datetime | None = None
    checkpoint: dict[str, str] | None = None  # what it last saved: name -> blob
    earlier: dict[str, str] | None = None  # what it saved before that, in case the last cannot be read
    started: datetime | None = None
    ended: datetime | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None  # LeptonError.to_dict()


class Event(Frozen):
    """One thing that happened in a Run. The catalog gives it `seq`, which only grows."""

    stream: Literal["metric", "log", "progress", "state", "trial"]
    # metric: {"step", name: value…}; log: {"line"}; progress: {"done", "total", "unit"}; trial: see tuning/journal.py
    body: dict[str, Any]
    time: datetime = Field(default_factory=utcnow)
    seq: int = 0


# ------------------------------------------------------------------------------------------------------ Model


class Model(Record):
    """One immutable version of a model: a bundle of blobs, with where it came from."""

    kind = "model"
    prefix = "model"
    indexed = ("name", "version", "run", "digest")
    unique = ("name", "version")

    version: int
    digest: str  # of the contents of its files, its signature and its lineage
    framework: str
    files: dict[str, str]  # "model.onnx", "weights.safetensors", "code", "card.md" … -> blob
    bytes: int  # of model.onnx, else of the native weights
    signature: Signature
    metrics: dict[str, float] = Field(default_factory=dict)
    lineage: dict[str, Any]  # dataset, run, spec, code digest, seed, library versions
    run: str
    note: str = ""  # such as why it has no model.onnx and is served by its framework


class Alias(Record):
    """A word that points at one version of a model, such as ``champion``. Its id is ``model@alias``."""

    kind = "alias"
    prefix = "alias"
    indexed = ("name", "model")  # name: the model's name

    alias: str
    model: str  # the id of a Model

    @classmethod
    def new(cls, **fields: Any) -> Self:
        """Make the alias; its id, which the database holds unique, says that it has one holder."""
        return cls(id=f"{fields['name']}@{fields['alias']}", **fields)


class Gate(Record):
    """Rules that a version of a model must keep before some aliases may point at it. Its id is the model's name."""

    kind = "gate"
    rules: tuple[str, ...]
    aliases: tuple[str, ...]
    data: str | None = None  # only evaluations on this dataset count


# --------------------------------------------------------------------------------------------- Service, Site


class Variant(Frozen):
    """One version that a Service sends part of its traffic to. A shadow gets copies, and nobody gets its answers."""

    name: Literal["stable", "canary", "shadow"] = "stable"
    model: str  # the id of a Model
    percent: Percent = 100


class Guard(Frozen):
    """What a new version is held to while a Service moves to it, and how fast it may go."""

    steps: Annotated[tuple[Percent, ...], Field(max_length=20)] = (1, 5, 25, 50)  # per cent of the requests
    step_seconds: float = Field(default=60.0, gt=0, le=366 * 86400)  # of a step that nothing speaks against, at most
    # chance, of a whole rollout, to turn back a version that is no worse
    alpha: float = Field(default=0.01, gt=0, lt=0.5)
    errors: float = Field(default=0.02, gt=0, lt=1)  # more errors than before, as a share, that need not be excluded
    slower: float = Field(default=1.5, ge=1, le=100)  # how many times as long an answer may take
    agree: float = Field(default=0.8, ge=0, le=1)  # the share of answers that must be those of the version before
    horizon: float = Field(default=0.01, gt=0, lt=1)  # of a test: a smaller difference is none


class Decision(Frozen):
    """One thing that was decided in a rollout, with the figures it was decided by."""

    time: datetime = Field(default_factory=utcnow)
    what: str  # "began", "loaded", "replayed", "step", "promoted", "rolled back" …
    text: str  # one sentence
    figures: dict[str, Any] = Field(default_factory=dict)


class Rollout(Frozen):
    """How a Service moves from one version to another. It goes on until its phase is an end."""

    id: str
    strategy: Literal["guarded", "now", "shadow", "split", "test"] = "guarded"
    phase: RolloutPhase = RolloutPhase.LOADING
    model: str  # the id of the Model that it moves to
    before: str | None = None  # of the one that answered before, and does again after a rollback
    by: str = ""
    guard: Guard = Guard()
    step: int = 0  # which of the guard's steps
    since: datetime = Field(default_factory=utcnow)  # when the phase, or the step, began
    seen: dict[str, Any] = Field(default_factory=dict)  # counts of this step, as far as they were told
    story: tuple[Decision, ...] = ()  # the first and the last of them

    @property
    def going(self) -> bool:
        """Whether it is not over."""
        return self.phase not in (RolloutPhase.PROMOTED, RolloutPhase.ROLLED_BACK)


class ServiceStatus(Frozen):
    """What the Site of a Service last said of it."""

    state: ServiceState = ServiceState.STARTING
    rev: int = 0  # of the Service it speaks of
    live: tuple[str, ...] = ()  # ids of the Models that answer now
    message: str = ""
    url: str | None = None
    grpc_url: str | None = None  # host:port
    memory: str = ""  # "resident", or how its model left memory: "cold", "idle", "unloaded"; "": nothing answers
    replicas: Scaled | None = None  # of a Service that has a range of them


class Memory(Frozen):
    """What its Site keeps in memory for a Service."""

    pin: bool = False  # its model leaves memory for no other one
    idle_seconds: float | None = Field(default=None, ge=0, le=366 * 86400)  # without a request; 0: it stays
    answers_mb: float = Field(default=0.0, ge=0, le=4096)  # of answers that each serving process remembers; 0: none


class Service(Record):
    """A name under which a model answers."""

    kind = "service"
    prefix = "svc"
    indexed = ("name", "site")
    unique = ("name",)

    site: str = "home"
    variants: tuple[Variant, ...]  # the first is the stable one
    sticky: str = ""  # how a caller keeps his variant: "", "key", or the name of a header that says who he is
    rollout: Rollout | None = None  # the one that is going, or the last one
    history: tuple[str, ...] = ()  # ids of the Models that answered before, the last one last
    public: bool = False  # whether anybody who reaches its Site may call it, without a key
    stopped: bool = False
    log: PredictionLog = PredictionLog()
    memory: Memory = Memory()
    replicas: Replicas | None = None  # None: as many as the version says
    status: ServiceStatus = ServiceStatus()

    @property
    def wanted(self) -> str:
        """The id of the Model that was asked for last, whether or not it answers yet."""
        going = self.rollout is not None and self.rollout.going and self.rollout.strategy == "guarded"
        return self.rollout.model if going and self.rollout is not None else self.variants[0].model


class Predictions(Record):
    """One batch of a Service's prediction log: a sealed Parquet file, with one row for each row of a request."""

    kind = "prediction"
    prefix = "pred"
    indexed = ("name", "service")  # name: that of the Service

    service: str  # the id of the Service
    model: str  # the id of the Model that answered all of it
    blob: str
    rows: int
    bytes: int
    since: datetime  # when its first request was answered
    until: datetime
    dropped: int = 0  # requests before it that were to be kept, and could not be


class Site(Record):
    """A place where Runs and Services live. Its agent asks for work."""

    kind = "site"
    prefix = "site"
    unique = ("name",)

    seen: datetime | None = None  # when its agent last asked
    plane: str | None = None  # the URL of its serving plane
    facts: dict[str, Any] = Field(default_factory=dict)  # cores, memory, frameworks installed
    absent: dict[str, str] = Field(default_factory=dict)  # Services whose models are not in memory, and why
    # Services that have a range of replicas, and how many there are
    scaled: dict[str, Scaled] = Field(default_factory=dict)


class LabelTask(Record):
    """Rows of a dataset version that people are to label. What they say are `LabelAnswers`."""

    kind = "labeltask"
    prefix = "lab"

    data: str  # the exact reference of the version; `name` is that of the dataset
    column: str
    classes: tuple[str | int, ...]
    rows: tuple[int, ...]  # numbers in the version, from 0
    labellers: int = 1  # how many people are to label each row
    note: str = ""


class LabelAnswers(Record):
    """What one person said of some rows of a task; what he says later of a row stands in place of it. `by` is who."""

    kind = "labelanswer"
    prefix = "ans"
    indexed = ("name", "task")  # name: that of the dataset

    task: str  # the id of the LabelTask
    answers: dict[int, str | int | None]  # by row; None: he cannot tell


# ------------------------------------------------------------------------------ what stands beside the nouns


class Key(Record):
    """An API key. Only digests of its secret are kept, which is random and so long that none is found from them."""

    kind = "key"
    prefix = "key"
    unique = ("name",)

    digest: str  # keyed, with a key that only the server has
    check: str = ""  # SHA-256, by which a Site knows who calls its Services; "" in a key that was made without
    scopes: tuple[str, ...]  # "*", or permissions such as "dataset:read"
    expires: datetime | None = None
    revoked: datetime | None = None


class Blob(Record):
    """What is needed to read one sealed blob of the store. Its id is that of the blob."""

    kind = "blob"
    prefix = "blob"
    indexed = ("name", "owner")  # name: keyed digest of the plaintext, so that an upload can be resumed

    uid: str  # the identity that the encryption is bound to
    wrapped: str  # the data key, encrypted with the key-encryption key, base64
    size: int  # of the plaintext
    owner: str  # the run or the key that wrote it
    scope: str = ""  # the permission that reading it takes beside others


class Audit(Record):
    """Who changed what: one row for each change, written in the transaction of the change."""

    kind = "audit"
    prefix = "audit"
    indexed = ("name", "subject")  # name: the action, such as "run.submit"

    subject: str
    facts: dict[str, Any] = Field(default_factory=dict)


class Receipt(Record):
    """What an Idempotency-Key was answered with. Its id holds the key, so that it is used once."""

    kind = "receipt"
    prefix = "receipt"

    request: str  # digest of the request
    answer: dict[str, Any]


RECORDS: tuple[type[Record], ...] = (
    Dataset, Tag, Run, Model, Alias, Gate, Service, Predictions, LabelTask, LabelAnswers, Site, Key, Blob, Audit, Receipt
)  # fmt: skip
