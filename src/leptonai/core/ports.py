"""The five things that can be swapped: Catalog, Store, Executor, Framework, Runtime.

Each promise is prose here and a contract test class in `leptonai.testing`; every adapter must pass it. Adapters live in
`leptonai/adapters`, or in anybody's package, and are found by name (entry points, see `core/plugins.py`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeVar

from leptonai.core.nouns import Event, Limits, Record, Run

R = TypeVar("R", bound=Record)


class Catalog(Protocol):
    """Where records are kept. Thread-safe. Each method is one transaction, durable when it returns.

    Each move of a Run (added, a new state, a new epoch) is an event of its stream "state", written in the transaction of the
    move: ``{"state": "running", "epoch": 2}``. What no database can hold (a NUL or half a surrogate pair in a field that is
    found by, or over 1,000 bytes there) is refused as `Invalid` when it is written, and is not found when it is looked for.
    """

    def add(self, *records: Record) -> None:
        """Add all of the records or none. Raises `Conflict` when an id or a `unique` tuple exists."""

    def get(self, kind: type[R], id: str) -> R:
        """Return the record. Raises `NotFound`."""

    def find(
        self,
        kind: type[R],
        where: Mapping[str, Any] | None = None,
        *,
        limit: int = 100,
        after: str | None = None,
        oldest_first: bool = False,
    ) -> list[R]:
        """Return records whose `indexed` fields equal `where` (a tuple value means: any of), newest id first.

        `after` is the id of the last record of the page before. The cost does not grow with what is not returned.
        """

    def change(self, *records: Record, add: Sequence[Record] = (), drop: Sequence[Record] = ()) -> None:
        """Write each record with `rev` + 1 if the stored `rev` is still the given one; add and drop others; all or none.

        This is the one primitive behind retries, several servers and lost agents. Raises `Stale` (also when a record
        is gone), `Conflict` (see `add`, and: a Run that ended never moves again, whatever `rev` says).
        """

    def claim(self, site: str, agent: str, lease_seconds: float, now: datetime, token: str) -> Run | None:
        """Give the oldest Run of `site` that is queued, or whose lease ran out before `now`, to `agent`; or None.

        The Run returned is `running`, its `epoch` and `attempt` are one higher, and no other caller gets it before the
        new lease runs out. A Run whose lease ran out and whose attempts are used up, or which was stopping, is never
        given (`runs.queue` ends it).
        """

    def append(self, run: str, epoch: int, events: Sequence[Event]) -> int:
        """Append events to a Run and return the last `seq`. Raises `Fenced` unless `epoch` is the Run's and it has not ended."""

    def series(self, run: str, *, after: int = 0, streams: Sequence[str] = (), limit: int = 1000) -> list[Event]:
        """Return events with `seq` > `after`, oldest first; all streams when none is named."""


class StoredBlob(NamedTuple):
    """A blob as the store knows it: `id` is the SHA-256 of the stored bytes, in hex."""

    id: str
    size: int


class Store(Protocol):
    """Where bytes are kept, under the digest of what is stored. Thread-safe.

    One that keeps a blob as a file of this machine may say where by `path(id)`, for a reader that checks each byte by itself.
    """

    def write(self, chunks: Iterable[bytes]) -> StoredBlob:
        """Store the bytes. When it returns they are on disk for good; when it raises, nothing of them is visible.

        `size` is that of the bytes given. Raises `DiskFull`.
        """

    def open(self, id: str) -> BinaryIO:
        """Open a blob. What is read is verified: raises `NotFound`, or `Corrupt` before a wrong byte is given.

        `read()` without a size returns all of it, verified as a whole.
        """

    def list(self, prefix: str = "") -> Iterator[StoredBlob]:
        """Yield the blobs whose id starts with `prefix`."""

    def delete(self, id: str) -> None:
        """Forget a blob; one that is not there is no error."""

    def written(self, id: str) -> datetime:
        """Return when a blob was written last, by the store's clock. Raises `NotFound`."""

    def link(self, id: str, seconds: float) -> str | None:
        """Return a URL that reads the stored bytes for a while, or None where the store has no such thing."""


@dataclass(frozen=True)
class DataKey:
    """The key of one sealed blob, and the identity that its encryption is bound to."""

    uid: str
    secret: bytes  # 32 bytes


class Keyring(Protocol):
    """Where a sealed store gets the data keys of its blobs: the server's key file, or the server by HTTP."""

    def bind(self, blob: str, key: DataKey, size: int, plain: str) -> None:
        """Remember the key of a blob. `size` and `plain` (SHA-256, hex) are those of the plaintext."""

    def find(self, blob: str) -> DataKey:
        """Return the key of a blob. Raises `NotFound` or `Denied`."""


class KeyLock(Protocol):
    """What a server's key file is locked with: a passphrase, or a key-management service that never shows its own key.

    Made with what follows its name in the setting `key_lock`, such as ``projects/x/keys/y`` of ``mykms:projects/x/keys/y``, or
    with "" where only the file says what it is locked with.
    """

    def lock(self, secret: bytes) -> dict[str, Any]:
        """Return small JSON facts from which `open` makes the secret again, and nobody else. Raises `Invalid`, `Unavailable`."""

    def open(self, locked: Mapping[str, Any]) -> bytes:
        """Return the secret. Raises `Denied`, `Invalid`, `Unavailable`."""


@dataclass(frozen=True)
class Job:
    """What an Executor starts: `entry` ("module:function") is called with `payload` in a process of its own."""

    id: str
    entry: str
    payload: dict[str, Any]  # JSON
    folder: Path  # the process's working directory; stdout and stderr go to its file `output.log`
    flavour: str = "data"  # which libraries are loaded before it starts
    limits: Limits = Limits()
    environment: Mapping[str, str] = field(default_factory=dict)
    workers: int = (
        1  # processes that do it together: an executor of several machines starts each, another one but the first
    )
    # Unix sockets in its folder by which alone others meet it: then an executor of several machines may have it work on any of them.
    meets: tuple[str, ...] = ()
    # Files that others read there meanwhile, each with "module:function", (bytes, seconds) -> bytes, that moves the times in it.
    mirrors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Exit:
    """How a Job ended. `limit` says which limit it broke, in words a user can act on."""

    code: int  # 0: returned; 1: raised; -9: killed by signal 9 …
    limit: str | None = None


class Executor(Protocol):
    """Where Jobs run. What it started dies with the process that holds it."""

    def start(self, job: Job) -> None:
        """Start a Job. Raises `Unavailable` when that cannot be done."""

    def poll(self, id: str) -> Exit | None:
        """Say how a Job ended, or None while it runs."""

    def stop(self, id: str, grace_seconds: float = 5.0) -> None:
        """Ask the Job to end (SIGTERM), and end it with all of its children after the grace."""

    def logs(self, id: str) -> str:
        """Return what the Job printed since the last call."""

    def close(self) -> None:
        """Stop all Jobs and the processes kept warm for them."""


@dataclass(frozen=True)
class Packed:
    """A user's model on its way to a Run: `code` is opaque and loaded only inside the Run's own process."""

    code: bytes
    flavour: str
    facts: dict[str, Any]  # small JSON facts: class, parameters, input shape


class Route(NamedTuple):
    """One way to export a model to ONNX: a name to tell the user, and what makes the bytes."""

    name: str
    build: Callable[[], bytes]


class Learner(Protocol):
    """A model that is being trained, or used, inside a Run. `x` and `y` are arrays whose first axis is the batch."""

    model: Any  # the framework's own object
    activation: str  # what turns `predict` into probabilities: "softmax", "sigmoid", "none" (they are already), "value"

    def begin(self, x: Any, y: Any, task: str, classes: int, seed: int) -> None:
        """Check the model against one batch and build it. Raises `Invalid` that names what does not fit."""

    def step(self, x: Any, y: Any) -> None:
        """Learn from one batch."""

    def measure(self, x: Any, y: Any) -> None:
        """Add one batch to the validation metrics."""

    def metrics(self) -> dict[str, float]:
        """Return loss and metrics since the last call, each averaged over rows, and start anew."""

    def predict(self, x: Any) -> Any:
        """Return the raw outputs, an array whose first axis is the batch."""

    def state(self) -> dict[str, bytes]:
        """Return all that is needed to go on as if nothing had happened: weights, optimiser, random generators."""

    def restore(self, state: Mapping[str, bytes]) -> None:
        """Go on from a `state`."""

    def weights(self) -> bytes:
        """Return the weights in a format that carries no code."""


class Recipe(Protocol):
    """How a packed model is made with other settings than it was packed with: hyper-parameters, or those of its optimiser.

    A Framework has it by a method ``recipe(code) -> Recipe``; one that has none is tuned by functions that build its models.
    """

    def knows(self, name: str) -> bool:
        """Whether there is such a setting."""

    def check(self, names: Iterable[str]) -> None:
        """Raise `Invalid` that names what of these is no setting of it, and what is."""

    def learner(self, settings: Mapping[str, Any]) -> Learner:
        """Make a Learner with these settings. Raises `Invalid`."""

    def pack(self, settings: Mapping[str, Any]) -> bytes:
        """Return what `Framework.pack` would have made of the model with these settings."""


class Framework(Protocol):
    """A library that models are written in. Imports it only inside its methods' first use."""

    name: str

    def owns(self, model: object) -> bool:
        """Whether this object is a model of this framework; must not import the framework to say no."""

    def pack(self, model: Any, compiled: Mapping[str, Any]) -> Packed:
        """Make a user's model, and what `compile` was given, ready to travel. Raises `Invalid`."""

    def load(self, code: bytes, weights: bytes | None = None) -> Learner:
        """Make a Learner of what `pack` made, inside the Run's process."""

    def absorb(self, model: Any, weights: bytes) -> None:
        """Put trained weights into the user's own object."""

    def export(self, learner: Learner, example: Any) -> Iterator[Route]:
        """Yield the ways to make an ONNX file of the model, best first. `example` is a batch of inputs."""
