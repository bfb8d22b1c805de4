"""Datasets as user code holds them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from leptonai.core.errors import FieldError, Invalid, NotFound, Unsupported
from leptonai.core.nouns import Column
from leptonai.core.nouns import Dataset as DatasetRecord
from leptonai.core.nouns import Run as RunRecord
from leptonai.core.refs import DatasetRef, Split, check_name, part_sizes
from leptonai.core.signature import FeatureType
from leptonai.data.spec import Import
from leptonai.sdk import client, frames, runs, show
from leptonai.sdk.augmenting import Augmentable, as_json
from leptonai.sdk.checks import Rule, rules_of
from leptonai.sdk.labelling import Labelling
from leptonai.sdk.quality import Quality
from leptonai.sdk.readable import Readable
from leptonai.sdk.sources import Source, sources, with_labels
from leptonai.sdk.specs import check, sent
from leptonai.sdk.tags import Tagged
from leptonai.sdk.uploads import upload

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from leptonai.sdk.client import Client

_HEAD = 20  # rows that an import keeps to be looked at
_STRATA = {FeatureType.CATEGORY, FeatureType.BOOLEAN}


class Dataset(Quality, Readable, Labelling, Augmentable, Tagged):
    """One immutable version of a dataset, or a part of one that `split` named. It holds no rows."""

    def __init__(
        self, record: DatasetRecord, via: "Client", splits: Sequence[Split] = (), counts: Sequence[int] | None = None
    ):
        self.record = record
        self._client = via
        self._splits = tuple(splits)
        self._counts = list(counts) if counts is not None else _class_counts(record)

    @property
    def name(self) -> str:
        """The name that its versions share."""
        return self.record.name

    @property
    def version(self) -> int:
        """Its number, from 1."""
        return self.record.version

    @property
    def digest(self) -> str:
        """The digest of its content: the same content has the same digest."""
        return self.record.digest

    @property
    def columns(self) -> tuple[Column, ...]:
        """Its columns, with their types and statistics."""
        return self.record.columns

    @property
    def target(self) -> str | None:
        """The column to predict."""
        return self.record.target

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return sum(self._counts)

    @property
    def ref(self) -> str:
        """Its exact reference, such as ``datasets:/churn@v2?part=train&…``."""
        return str(DatasetRef(name=self.name, version=self.version, splits=self._splits))

    def __len__(self) -> int:
        return self.rows

    def split(self, train_size: float = 0.8, *, seed: int = 0, stratify: bool = True) -> "tuple[Dataset, Dataset]":
        """Return two parts, for training and for testing. A rule, not a copy: the same arguments choose the same rows for ever.

        `train_size` is the share of the first, between 0 and 1. With `stratify` each class of the target is shared in that
        proportion. A part can be split again.
        """
        given = {"train_size": train_size, "seed": seed, "stratify": stratify}
        train = check(Split, {"part": "train", **given}, "split")
        test = check(Split, {"part": "test", **given}, "split")
        whole = sum(self._counts)
        by_class = stratify and len(self._counts) > 1
        sizes = part_sizes(self._counts if by_class else [whole], train_size)
        if by_class:
            rest = [count - size for count, size in zip(self._counts, sizes, strict=True)]
            parts = (sizes, rest)
        else:
            # Without classes only the sums are known; a further split by class then counts one class.
            parts = ([sizes[0]], [whole - sizes[0]])
        found = (
            Dataset(self.record, self._client, (*self._splits, train), parts[0]),
            Dataset(self.record, self._client, (*self._splits, test), parts[1]),
        )
        for part in found:
            part._steps = self._steps
        return found

    def head(self, n: int = 5) -> "Rows":
        """Return the first rows, at most 20, as a list of dicts that shows itself as a table."""
        if not 1 <= n <= _HEAD:
            right = f"1 to {_HEAD}"
            raise Invalid(f"head shows {right} rows, not {n}", errors=[FieldError("n", right)])
        if self._splits:
            raise Unsupported(
                f"head shows rows of the whole version: use leptonai.get_dataset('{self.name}@v{self.version}').head()"
            )
        found = self._client.http.call("GET", f"/datasets/{self.record.id}/preview")
        return Rows(found["rows"][:n])

    def describe(self) -> "Description":
        """Return what is known of each column of the version: missing values, mean, deviation, categories."""
        return Description(self.columns, self.target)

    def append(
        self, files: Any = None, *, labels: "str | Path | None" = None, sql: str | None = None, url: str | None = None
    ) -> "Dataset":
        """Return a new version that has the rows of this one, whose shards it shares, and then those of more files.

        The files are as in `create_dataset`; their columns must be those of this version, with the same types. Raises
        `Invalid` that names the file, the row and the column.
        """
        if self._splits:
            raise Unsupported(
                f"rows are appended to a whole version: use leptonai.get_dataset('{self.name}@v{self.version}')"
            )
        document = {"name": self.name, "base": self.ref}
        made = _imported(document, files, labels, sql, url, wait=True)
        return cast(Dataset, made)

    @property
    def client(self) -> "Client":
        """The server that it was found on."""
        return cast("Client", self._client)

    @property
    def splits(self) -> tuple[Split, ...]:
        """Which part of the version it is."""
        return self._splits

    @property
    def counts(self) -> list[int]:
        """How many rows of each class of the target it has; of one that has no classes, how many rows."""
        return list(self._counts)

    def delete(self) -> None:
        """Delete this version and its blobs."""
        self._client.http.call("DELETE", f"/datasets/{self.name}@v{self.version}")

    def shred(self) -> dict[str, Any]:
        """Destroy the keys of all versions of this dataset, so that no copy can be read any more; return the signed receipt.

        What versions of other datasets share stays, and is listed as ``shared``. Raises `Conflict` while a Run reads it.
        """
        return dict(self._client.http.call("POST", f"/datasets/{self.name}/shred"))

    def _facts(self) -> dict[str, object]:
        part = ", ".join(
            f"{s.part} part of {s.train_size:g} : {1 - s.train_size:g}, seed {s.seed}" for s in self._splits
        )
        target = next((c for c in self.columns if c.name == self.target), None)
        facts = {
            "part": part,
            "rows": f"{self.rows:,}",
            "target": f"{target.name} ({_type(target)})" if target else "none",
            "columns": ", ".join(f"{c.name}: {_type(c)}" for c in self.columns[:12] if c.name != self.target)
            + (f" and {len(self.columns) - 12} more" if len(self.columns) > 12 else ""),
            "changed by": ", ".join(step.op for step in self.augmentation),
            "size": f"{show.size(self.record.bytes)}, encrypted",
            "digest": self.digest[:16],
        }
        return {name: value for name, value in facts.items() if value}

    def __repr__(self) -> str:
        lines = [f"{name}: {value}" for name, value in self._facts().items()]
        return f"Dataset {self.name}@v{self.version}\n  " + "\n  ".join(lines)

    def _repr_html_(self) -> str:
        return show.card(f"Dataset {self.name}@v{self.version}", self._facts())


class Rows(list[dict[str, Any]]):
    """Rows as a list of dicts; at a prompt and in a notebook they show themselves as a table."""

    def _cells(self) -> tuple[list[str], list[list[object]]]:
        return list(self[0]) if self else [], [[_short(value) for value in row.values()] for row in self]

    def __rich_console__(self, _console: Any, options: Any) -> "Iterator[RenderableType]":
        yield from show.fitting(*self._cells(), options.max_width)

    def __repr__(self) -> str:
        return show.text(self)

    def _repr_html_(self) -> str:
        return show.html_table(*self._cells())


class Description:
    """Statistics by column."""

    _SHOWN = ("count", "missing", "unique", "mean", "std", "min", "50%", "max")

    def __init__(self, columns: Iterable[Column], target: str | None):
        self.columns = {column.name: column for column in columns}
        self.target = target

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return the statistics as plain data: by column, by name."""
        return {name: {"type": column.type.value, **column.stats} for name, column in self.columns.items()}

    def __getitem__(self, column: str) -> dict[str, Any]:
        return self.to_dict()[column]

    def _rows(self) -> list[list[str]]:
        return [
            [
                f"{name} (target)" if name == self.target else name,
                _type(column),
                *(_short(column.stats.get(s, "")) for s in self._SHOWN),
            ]
            for name, column in self.columns.items()
        ]

    def __rich__(self) -> "Table":
        return show.table(["column", "type", *self._SHOWN], self._rows())

    def __repr__(self) -> str:
        return show.text(self.__rich__())

    def _repr_html_(self) -> str:
        return show.html_table(["column", "type", *self._SHOWN], self._rows())


def _type(column: Column) -> str:
    if column.shape:
        return f"{column.type} {'x'.join(map(str, column.shape))}"
    if column.pii:
        return f"{column.type}, personal"
    if column.type is FeatureType.BOXES:
        return f"boxes of {len(column.categories)} classes"
    count = len(column.categories)
    return f"{column.type} of {count}" if column.type is FeatureType.CATEGORY else str(column.type)


def _short(value: object) -> str:
    if isinstance(value, float):
        return show.number(value)
    if isinstance(value, list):
        return f"<{'x'.join(map(str, _shape(value)))} values>"
    text = str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _shape(value: object) -> list[int]:
    return [len(value), *_shape(value[0])] if isinstance(value, list) and value else []


def _class_counts(record: DatasetRecord) -> list[int]:
    target = next((column for column in record.columns if column.name == record.target), None)
    if target is None or target.type not in _STRATA:
        return [record.rows]
    # In the order in which a split counts them: that of their text.
    if target.nullable:  # then whole numbers are text there too, and what is missing comes first
        pairs = [("", int(target.stats["missing"])), *((str(value), count) for value, count in target.stats["counts"])]
        return [count for _, count in sorted(pairs)]
    return [count for _, count in sorted(target.stats["counts"], key=lambda pair: _order(pair[0]))]


def _order(value: object) -> tuple[int, object]:
    return (0, value) if isinstance(value, (bool, int)) else (1, str(value))


@overload
def create_dataset(
    name: str,
    files: Any = None,
    *,
    target: str | None = None,
    types: Mapping[str, str] | None = None,
    labels: "str | Path | None" = None,
    unlabelled: bool = False,
    image_size: tuple[int, int] | None = None,
    audio_rate: int | None = None,
    audio_seconds: float | None = None,
    pii: Sequence[str] = (),
    checks: Sequence[Rule] | None = None,
    augment: Sequence[Any] | None = None,
    sql: str | None = None,
    url: str | None = None,
    wait: Literal[True] = True,
) -> Dataset: ...


@overload
def create_dataset(
    name: str,
    files: Any = None,
    *,
    target: str | None = None,
    types: Mapping[str, str] | None = None,
    labels: "str | Path | None" = None,
    unlabelled: bool = False,
    image_size: tuple[int, int] | None = None,
    audio_rate: int | None = None,
    audio_seconds: float | None = None,
    pii: Sequence[str] = (),
    checks: Sequence[Rule] | None = None,
    augment: Sequence[Any] | None = None,
    sql: str | None = None,
    url: str | None = None,
    wait: Literal[False],
) -> "runs.Run": ...


def create_dataset(
    name: str,
    files: Any = None,
    *,
    target: str | None = None,
    types: Mapping[str, str] | None = None,
    labels: "str | Path | None" = None,
    unlabelled: bool = False,
    image_size: tuple[int, int] | None = None,
    audio_rate: int | None = None,
    audio_seconds: float | None = None,
    pii: Sequence[str] = (),
    checks: Sequence[Rule] | None = None,
    augment: Sequence[Any] | None = None,
    sql: str | None = None,
    url: str | None = None,
    wait: bool = True,
) -> "Dataset | runs.Run":
    """Make a dataset version of files, folders, archives, buckets, tables in memory or a query.

    `files`, one or several of: CSV, TSV, JSON Lines (also packed with gzip, bzip2, xz or zstd), Parquet, Arrow, NPZ and IDX
    files; a folder or zip of these; a folder or zip of images, sounds (WAV, FLAC) or texts with a folder for each class, or
    with a table that says more of each (`labels`, with a column of file names); images with boxes (COCO, Pascal VOC, YOLO); a
    URL such as ``s3://bucket/prefix``; a pandas or polars frame, a PyArrow table, a dict of NumPy arrays. Or `sql`, a query,
    and `url`, the database, which is asked from this machine. Several files become one table, in their order.

    `target`: the column to predict; default: one named label, target or y, else the last; "" for none. `types` overrides what
    is inferred, such as ``{"postcode": "category"}``. With `unlabelled` rows may have no
    value of the target: it is found later. `image_size` (height, width) resizes images; `audio_rate` (samples a
    second) and `audio_seconds` bring sounds to one rate and length. `pii` names personal columns: each gets a key
    of its own, and only who has the permission ``dataset:pii`` reads them. `checks`: rules that the rows must keep, such as
    ``["range:age=0..120", "unique:id"]``, else nothing is made and the first bad rows are named; they hold for later versions
    of the name too, until others are given. `augment`: how rows are changed when a model learns from them, such as
    ``["flip", "rotate:degrees=10"]``; it holds for later versions too. The same content again is the version that is there
    already. With ``wait=False`` the import goes on by itself, and its Run is returned as soon as the files are sent. An upload
    that was cut goes on where it stopped when it is called again. Raises `Invalid` that names the file, the row and the column.
    """
    check_name(name)
    document = {
        "name": name, "target": target, "types": dict(types or {}), "unlabelled": unlabelled, "image_size": image_size, "audio_rate": audio_rate,
        "audio_seconds": audio_seconds, "pii": tuple(pii),
        **({} if checks is None else {"checks": rules_of(checks)}),
        **({} if augment is None else {"augment": as_json(augment)}),
    }  # fmt: skip
    return _imported(document, files, labels, sql, url, wait)


def _imported(
    document: dict[str, Any], files: Any, labels: Any, sql: str | None, url: str | None, wait: bool
) -> "Dataset | runs.Run":
    name = document["name"]
    via = client.current()
    with ExitStack() as keep:
        chosen = _chosen(files, sql, url, keep, loose=labels is not None)
        if labels is not None:
            chosen = with_labels(chosen, labels)
            document["labels"] = chosen[-1].name
        # Before anything travels: a wrong option should not cost an upload.
        check(Import, {**document, "files": [{"name": "first", "size": 0, "parts": ()}]}, "create_dataset")
        spec = check(
            Import, {**document, **upload(via.http, chosen, f"upload {name}", here=via.here)}, "create_dataset"
        )
    record = runs.submit(via.http, "import", sent(spec), name=name)
    if not wait:
        return runs.Run(record, via)
    return made_by(via, runs.follow(via.http, record.id, title=f"import {name}"))


def _chosen(files: Any, sql: str | None, url: str | None, keep: ExitStack, *, loose: bool) -> list[Source]:
    if (files is None) == (sql is None):
        raise Invalid("give files, or sql and url: one of them", errors=[FieldError("files", "files, or a query")])
    if sql is None:
        return sources(files, keep, loose=loose)
    if url is None:
        right = "such as postgresql://user@host/name"
        raise Invalid(f"a query needs the url of a database, {right}", errors=[FieldError("url", right)])
    from leptonai.sdk.queries import queried

    return [
        Source(name, None, file.seek(0, 2), partial(frames.reopened, file), name)
        for file, name in queried(sql, url, keep)
    ]


def made_by(via: "Client", run: RunRecord) -> Dataset:
    """Return the version that an import, or cleaning, made, or found to be there already: its result holds name and digest."""
    result = run.result or {}
    asked = {"name": result["name"], "digest": result["digest"], "limit": 1}
    found = via.http.call("GET", "/datasets", params=asked)["items"]
    if not found:
        raise NotFound(f"the version of {result['name']} that run {run.id} made is deleted already")
    return Dataset(DatasetRecord.model_validate(found[0]), via)


def get_dataset(ref: str) -> Dataset:
    """Return a dataset version by reference: ``churn``, ``churn@v2``, ``datasets:/churn@v2?part=train&…``. Raises `NotFound`.

    ``churn@2026-11-01`` is the version that was the newest at the end of that day, in UTC; ``churn@approved`` the one that holds the tag.
    """
    wanted = DatasetRef.parse(ref)
    via = client.current()
    at = str(wanted.model_copy(update={"splits": ()})).removeprefix(f"datasets:/{wanted.name}")
    record = DatasetRecord.model_validate(via.http.call("GET", f"/datasets/{wanted.name}{at}"))
    found = Dataset(record, via)
    for split in wanted.splits:
        parts = found.split(split.train_size, seed=split.seed, stratify=split.stratify)
        found = parts[0] if split.part == "train" else parts[1]
    return found


def list_datasets(name: str | None = None, *, limit: int = 50) -> list[Dataset]:
    """Return dataset versions, newest first."""
    via = client.current()
    items = via.http.pages("/datasets", params={"name": name}, limit=limit)
    return [Dataset(DatasetRecord.model_validate(item), via) for item in items]
