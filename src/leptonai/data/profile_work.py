"""What a profile Run does: all rows pass by once and are counted; what is costly is told from a sample of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from leptonai.core.errors import Invalid
from leptonai.core.nouns import Column
from leptonai.core.refs import Split
from leptonai.core.signature import FeatureType
from leptonai.core.stages import Handle
from leptonai.data.describe import RowSample
from leptonai.data.growing import growing
from leptonai.data.origin import Origin, Piece
from leptonai.data.pieces import Version
from leptonai.data.profiling import alerts, drift, pictures, relations
from leptonai.data.profiling.counts import histogram, repeated
from leptonai.data.row_hash import among, distinct, hashes
from leptonai.data.shards import BLOCKS
from leptonai.data.spec_profile import Profile, ProfileReport
from leptonai.data.split import rows_of
from leptonai.data.stored import to_numpy

_COMPARED = (*relations.NUMERIC, FeatureType.CATEGORY, FeatureType.BOOLEAN)
_WIDE = (*BLOCKS, FeatureType.BOXES)
_PERSONAL = "personal columns are not looked at: {}"
_DEFAULT = Split(part="train", train_size=0.8)


def profile(spec: Profile, handle: Handle) -> dict[str, Any]:
    """Look at the rows; return the blob of a `ProfileReport`, and a few figures."""
    version = Version(spec.data, handle)
    if not version.rows:
        raise Invalid(f"{spec.data} has no rows to look at")
    columns = version.columns if version.chosen is None else _described(version, handle)
    hidden = [c for c in version.record.columns if c.name in version.hidden]
    look = _Look(columns, version, spec)
    for done in look.read():
        handle.progress(done, version.rows, "rows")
    target = next((column for column in columns if column.name == version.record.target), None)
    tabular = [column for column in columns if column.type in _COMPARED]
    coded = {column.name: _coded(look.sampled(column), column) for column in tabular}
    correlations, notes = relations.correlations(tabular, coded)
    power: list[dict[str, Any]] = []
    if target is not None and target.name in coded:
        power, more = relations.power(tabular, target, coded, spec.seed)
        notes += more
    facts = {
        "data": spec.data,
        "rows": version.rows,
        "sample": len(look.numbers),
        "target": version.record.target,
        "columns": [*(look.told(column) for column in columns), *(look.told(column) for column in hidden)],
        "correlations": correlations,
        "duplicates": look.duplicates(),
        "balance": _balance(target),
        "leakage": {"splits": _splits(spec, version, look, handle), "target": power},
        "drift": _drift(spec, version, look, handle),
        "notes": [*notes, *look.notes, *([_PERSONAL.format(", ".join(version.hidden))] if hidden else [])],
    }
    report = ProfileReport.model_validate({**facts, "alerts": alerts.of(facts)})
    stored = handle.blobs.write([report.model_dump_json().encode()])
    for alert in report.alerts:
        handle.say(f"{alert.about}: {alert.text}")
    return {"report": stored.id, "rows": version.rows, "alerts": len(report.alerts)}


class _Look:
    """One pass over the rows: histograms, hashes of rows, a sample, hashes of images."""

    def __init__(self, columns: Sequence[Column], version: Version, spec: Profile):
        self._columns, self._version = columns, version
        self._histograms = [h for c in columns if (h := histogram(c)) is not None]
        random = np.random.default_rng(spec.seed)
        every = np.arange(version.record.rows) if version.chosen is None else np.flatnonzero(version.chosen)
        self._picked = np.zeros(version.record.rows, bool)
        self._picked[random.permutation(every)[: spec.sample]] = True
        self._looked = np.zeros(version.record.rows, bool)
        self._looked[random.permutation(every)[: pictures.MOST]] = True
        self._images = [column for column in columns if column.type is FeatureType.IMAGE]
        self._pictures: dict[str, list[np.ndarray]] = {column.name: [] for column in self._images}
        self._sample: list[pa.Table] = []
        self._hashes: list[np.ndarray] = []
        self._features: list[np.ndarray] = []
        self.numbers: np.ndarray = np.flatnonzero(self._picked)
        self.notes: list[str] = []
        if len(every) > spec.sample:
            self.notes.append(f"correlations, drift and the power of single columns are told from {spec.sample:,} rows")
        if self._images and len(every) > pictures.MOST:
            self.notes.append(f"near-duplicates are those among {pictures.MOST:,} images")

    def read(self) -> Any:
        """Pass the rows by; yield how many did."""
        done = 0
        flat = [column.name for column in self._columns if column.type not in _WIDE]
        target = self._version.record.target
        features = [column.name for column in self._columns if column.name != target]
        for table, numbers in self._version.pieces():
            for one in self._histograms:
                one.add(table[one.name])
            self._hashes.append(hashes(table))
            self._features.append(hashes(table.select(features)) if features else self._hashes[-1])
            self._sample.append(table.select(flat).filter(pa.array(self._picked[numbers])))
            looked = self._looked[numbers]
            for column in self._images:
                images = to_numpy(table[column.name].filter(pa.array(looked)), column)
                self._pictures[column.name].append(pictures.perceptual_hashes(images))
            done += table.num_rows
            yield done
        self.rows = np.concatenate(self._hashes)
        self.features = np.concatenate(self._features)
        self._table = pa.concat_tables(self._sample)

    def sampled(self, column: Column) -> pa.ChunkedArray:
        """Return the sampled values of a column."""
        return self._table[column.name]

    def told(self, column: Column) -> dict[str, Any]:
        """Return what is known of a column."""
        found = {"name": column.name, "type": column.type.value, "shape": list(column.shape), "stats": column.stats}
        for one in self._histograms:
            if one.name == column.name:
                found |= one.told()
        return found

    def duplicates(self) -> dict[str, Any]:
        """Return how many rows are there twice, and how many differ from another one in the target only."""
        again = repeated(self.rows)
        wide = distinct(self.features) if self._version.record.target is not None else 0
        found: dict[str, Any] = {
            "rows": again,
            "share": again / len(self.rows),
            "contradictions": len(self.rows) - again - wide if wide else 0,
        }
        if self._images:
            rows = np.flatnonzero(self._looked)
            found["near"] = {name: pictures.alike(np.concatenate(some), rows) for name, some in self._pictures.items()}
        return found


def _described(version: Version, handle: Handle) -> tuple[Column, ...]:
    """Return the columns with the statistics of a part; those of the whole version are in its record."""
    sample = RowSample()
    target = version.record.target
    grown: list[Any] = []
    for table, numbers in version.pieces():
        if not grown:
            kinds = {column.name: column.type for column in version.columns}
            grown = [growing(field, kinds[field.name], is_target=field.name == target) for field in table.schema]
        taken, kept = sample.choose(table.num_rows)
        origin = Origin((Piece(version.ref, int(numbers[0]), table.num_rows),))
        for one in grown:
            one.take(table[one.name], origin, taken, kept)
    handle.say("counted the part")
    return tuple(one.done(False) for one in grown)


def _coded(values: pa.ChunkedArray, column: Column) -> np.ndarray:
    """Return numbers as float64 with NaN where missing, others as codes with -1 there."""
    if relations.is_number(column):
        if column.type is FeatureType.DATETIME:
            values = pc.cast(values, pa.int64())
        return np.asarray(pc.cast(values, pa.float64(), safe=False).to_numpy(), np.float64)
    found = pc.dictionary_encode(pc.cast(values, pa.large_string())).combine_chunks()
    indices = found.indices if isinstance(found, pa.DictionaryArray) else pa.chunked_array(found).chunk(0).indices
    return np.asarray(pc.fill_null(indices, -1).to_numpy(zero_copy_only=False), np.int64)


def _balance(target: Column | None) -> dict[str, Any]:
    if (
        target is None
        or target.type not in (FeatureType.CATEGORY, FeatureType.BOOLEAN)
        or not target.stats.get("counts")
    ):
        return {}
    counts = sorted(target.stats["counts"], key=lambda pair: -pair[1])
    return {"counts": counts[:50], "classes": len(counts), "ratio": counts[0][1] / max(1, counts[-1][1])}


def _splits(spec: Profile, version: Version, look: _Look, handle: Handle) -> dict[str, Any]:
    """Return how many rows of the test part are in the other part too."""
    if spec.test is not None:
        other = Version(spec.test, handle)
        names = [c.name for c in version.columns if c.name in {one.name for one in other.columns}]
        target = version.record.target
        return _shared(
            f"{spec.data} and {spec.test}",
            *(_hashed(v, names) for v in (version, other)),
            *(_hashed(v, [name for name in names if name != target]) for v in (version, other)),
        )
    if version.chosen is not None:
        return {}
    train = np.zeros(version.rows, bool)
    train[rows_of((_DEFAULT,), version.rows, version.classes())] = True
    rows, features = look.rows, look.features
    return _shared("the parts of split(train_size=0.8)", rows[train], rows[~train], features[train], features[~train])


def _shared(between: str, train: np.ndarray, test: np.ndarray, known: np.ndarray, asked: np.ndarray) -> dict[str, Any]:
    return {
        "between": between,
        "rows": among(test, train),
        "features": among(asked, known),
        "of": len(test),
    }


def _hashed(version: Version, names: Sequence[str]) -> np.ndarray:
    found = [hashes(_alike(table.select(list(names)))) for table, _ in version.pieces(names)]
    return np.concatenate(found) if found else np.empty(0, np.uint64)


def _alike(table: pa.Table) -> pa.Table:
    """Return a table whose whole numbers are numbers, as they may be in the other version."""
    for at, field in enumerate(table.schema):
        if pa.types.is_integer(field.type):
            table = table.set_column(at, field.name, pc.cast(table[field.name], pa.float64(), safe=False))
    return table


def _drift(spec: Profile, version: Version, look: _Look, handle: Handle) -> dict[str, Any]:
    if spec.against is None:
        return {}
    other = Version(spec.against, handle)
    known = {column.name: column for column in other.columns}
    both = [
        column
        for column in version.columns
        if column.type in _COMPARED
        and column.name in known
        and relations.is_number(column) == relations.is_number(known[column.name])
        and known[column.name].type in _COMPARED
    ]
    picked = np.zeros(other.record.rows, bool)
    every = np.arange(other.record.rows) if other.chosen is None else np.flatnonzero(other.chosen)
    picked[np.random.default_rng(spec.seed).permutation(every)[: spec.sample]] = True
    names = [column.name for column in both]
    parts = [table.filter(pa.array(picked[numbers])) for table, numbers in other.pieces(names)]
    before = pa.concat_tables(parts)
    return {
        "against": spec.against,
        "columns": drift.drift(
            both,
            {column.name: _plain(before[column.name], column) for column in both},
            {column.name: _plain(look.sampled(column), column) for column in both},
        ),
    }


def _plain(values: pa.ChunkedArray, column: Column) -> Any:
    return _coded(values, column) if relations.is_number(column) else pc.cast(values, pa.large_string()).to_numpy()
