"""`Predictor`: what a user's own Python service is written as, and what its class declares.

::

    class Toxic(leptonai.Predictor):
        inputs = {"text": str}
        outputs = {"score": float}

        def load(self, context):                        # once, in its worker
            self.words = set(context.path("words.txt").read_text().split())

        def predict(self, batch):                       # {"text": array of str, (rows,)}
            return {"score": [sum(w in self.words for w in text.split()) for text in batch["text"]]}

        def stream(self, row):                          # {"text": str}; optional
            yield from row["text"].split()
"""

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import TypeAdapter

from leptonai.core.errors import FieldError, Invalid, NotFound
from leptonai.core.signature import FeatureType, Signature, TensorSpec
from leptonai.serving.workers import Work

WRITTEN = "python"  # the framework of a version whose class a user wrote
FILES = "files/"  # what the names of the files that came with it begin with, in its bundle

Kind = Any  # str, int, float, bool, the name of a NumPy type, or a tuple of such a name and the sizes of one value

_SCALARS: dict[Any, tuple[str, FeatureType]] = {
    str: ("BYTES", FeatureType.TEXT),
    int: ("INT64", FeatureType.INTEGER),
    float: ("FP64", FeatureType.NUMBER),
    bool: ("BOOL", FeatureType.BOOLEAN),
}
_NAMES = {
    "str": "BYTES", "object": "BYTES", "int64": "INT64", "float64": "FP64", "float32": "FP32", "bool": "BOOL",
    "uint8": "UINT8", "image": "UINT8", "audio": "FP32",
}  # fmt: skip
_FILES = {"image": FeatureType.IMAGE, "audio": FeatureType.AUDIO}  # whose values may come as files
_TYPES = {
    "BYTES": FeatureType.TEXT, "INT64": FeatureType.INTEGER, "FP64": FeatureType.NUMBER, "FP32": FeatureType.NUMBER,
    "BOOL": FeatureType.BOOLEAN, "UINT8": FeatureType.INTEGER,
}  # fmt: skip


class Context(NamedTuple):
    """What `Predictor.load` is given: the folder of the files that came with it, read-only, and the options."""

    folder: Path
    options: dict[str, Any]

    def path(self, name: str) -> Path:
        """Return where a file lies. Raises `NotFound` that names the files there are."""
        found = self.folder / name
        if not found.exists():
            files = ", ".join(sorted(str(p.relative_to(self.folder)) for p in self.folder.rglob("*") if p.is_symlink()))
            raise NotFound(f"no file {name!r} came with this service; there are: {files[:300] or 'none'}")
        return found


class Predictor:
    """A service in plain Python. Its methods run in a worker process of its own, never two at once but for `stream`.

    `inputs` and `outputs`: for each name ``str``, ``int``, ``float``, ``bool``, the name of a NumPy type (``"float32"``), a tuple
    of it and the sizes of one value (``("float32", 28, 28)``), ``("image", height, width, channels)`` for image files, or ``("audio", rate, samples)`` for sound files: WAV or FLAC, brought
    to that many samples a second; a fourth number says how many channels, else they become one.
    """

    inputs: ClassVar[Mapping[str, Kind]] = {}
    outputs: ClassVar[Mapping[str, Kind]] = {}
    max_batch: ClassVar[int] = 64
    """Rows that `predict` gets at once, at most."""
    seconds: ClassVar[float] = 60.0
    """How long one batch, or the next piece of a stream, may take; then its worker is ended and another one started."""

    def load(self, context: Context) -> None:
        """Load what it needs, once in each worker."""

    def predict(self, batch: dict[str, Any]) -> Any:
        """Compute a batch: arrays by input name, the first axis is the rows.

        Return a dict of columns by output name, a list of one dict for each row, or, of a single output, just its values. What
        it raises as a `leptonai.LeptonError` is told to the caller; of anything else he learns only the kind.
        """
        raise NotImplementedError

    def stream(self, row: dict[str, Any]) -> Iterator[Any]:
        """Yield the pieces of the answer to one row: whatever JSON can hold. Several streams run at once, in threads."""
        raise NotImplementedError


def signature_of(made: object) -> Signature:
    """Return what a class declares that it takes and gives. Raises `Invalid` that names what is not right."""
    kind = _class(made)
    inputs = tuple(_spec(name, said, "inputs") for name, said in _declared(kind, "inputs").items())
    outputs = tuple(_spec(name, said, "outputs") for name, said in _declared(kind, "outputs").items())
    if not inputs:
        raise Invalid(f"{kind.__name__}.inputs is empty: declare what it takes, such as inputs = {{'text': str}}")
    if not outputs and kind.predict is not Predictor.predict:
        raise Invalid(f"{kind.__name__}.outputs is empty: declare what it gives, such as outputs = {{'score': float}}")
    return Signature(inputs=inputs, outputs=outputs, task="custom")


def work_of(made: object, **given: Any) -> Work:
    """Return how it is computed: what its class says, and what was given on top."""
    kind = _class(made)
    predicts, streams = kind.predict is not Predictor.predict, kind.stream is not Predictor.stream
    if not predicts and not streams:
        raise Invalid(f"{kind.__name__} has neither predict(self, batch) nor stream(self, row): write one of them")
    said = {"max_batch": kind.max_batch, "seconds": kind.seconds, "predicts": predicts, "streams": streams}
    return TypeAdapter(Work).validate_python(said | {name: value for name, value in given.items() if value is not None})


def _class(made: object) -> type[Predictor]:
    kind = made if isinstance(made, type) else type(made)
    if not issubclass(kind, Predictor):
        raise Invalid(f"{kind.__name__} is no leptonai.Predictor: derive the class from it")
    if isinstance(made, type) and (wanted := _arguments(made)):
        raise Invalid(f"{kind.__name__} cannot be made without {', '.join(wanted)}: give an instance of it")
    return kind


def _arguments(kind: type[Predictor]) -> list[str]:
    if kind.__init__ is object.__init__:
        return []
    given = list(inspect.signature(kind.__init__).parameters.values())[1:]
    return [
        p.name
        for p in given
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]


def _declared(kind: type[Predictor], field: str) -> Mapping[str, Kind]:
    found = getattr(kind, field)
    if not isinstance(found, Mapping) or not all(isinstance(name, str) and name for name in found):
        raise Invalid(f"{kind.__name__}.{field} must be a dict of names and types, such as {{'text': str}}")
    return found


def _fit(meaning: FeatureType, sizes: list[Any], rate: Any) -> bool:
    """Whether the sizes of one value can be those of its type."""
    if not all(type(size) is int and (size > 0 or size == -1) for size in sizes):
        return False
    if meaning is FeatureType.AUDIO:
        return type(rate) is int and rate > 0 and -1 not in sizes[1:]
    return meaning is not FeatureType.IMAGE or len(sizes) == 3


def _spec(name: str, said: Kind, field: str) -> TensorSpec:
    first, *sizes = said if isinstance(said, tuple) and said else (said,)
    if first in _SCALARS and isinstance(first, type):
        datatype, meaning = _SCALARS[first]
    else:
        word = first if isinstance(first, str) else getattr(first, "__name__", str(first))
        if word not in _NAMES:
            right = "str, int, float, bool, " + ", ".join(repr(known) for known in _NAMES)
            raise Invalid(
                f"{field}: {name!r} is {said!r}; use one of {right}", errors=[FieldError(f"{field}.{name}", right)]
            )
        datatype = _NAMES[word]
        meaning = _FILES.get(word, _TYPES[datatype])
    rate = sizes.pop(0) if meaning is FeatureType.AUDIO and len(sizes) in (2, 3) else None
    if not _fit(meaning, sizes, rate):
        right = "sizes above 0, or -1 for one that varies; an image has three, a sound its rate and its samples"
        raise Invalid(
            f"{field}: the sizes of {name!r} are {sizes}: use {right}", errors=[FieldError(f"{field}.{name}", right)]
        )
    if sizes and meaning not in _FILES.values():
        meaning = FeatureType.TENSOR
    return TensorSpec(name=name, datatype=datatype, shape=(-1, *sizes), type=meaning, rate=rate)
