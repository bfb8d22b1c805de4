"""The peers, each in its own format, through its own way to PyTorch. Run by the interpreter of `.venv-peers-data`.

    python peers.py prepare|read PEER images|table order|shuffled FOLDER

Runs without leptonai. What each does is what its documentation shows for batches: whole batches by a `BatchSampler` where a loader
takes lists of rows, its own iterator where it has one.
"""

import functools
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
warnings.simplefilter("ignore")
from timed import SIZE, tell  # noqa: E402

GROUP = 65_536  # rows in a row group or fragment, about what our shards hold


def arrow(folder: Path, kind: str, lists: bool) -> Any:
    """Return the rows as an Arrow table: an image as bytes of one size, or as a list of one size."""
    import pyarrow as pa

    if kind == "table":
        rows = np.load(folder / "table.npy")
        return pa.table({f"c{i:02}": np.ascontiguousarray(rows[:, i]) for i in range(rows.shape[1])})
    x, y = np.load(folder / "x.npy"), np.load(folder / "y.npy")
    flat = np.ascontiguousarray(x.reshape(len(x), -1))
    if lists:
        pixels: Any = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1])
    else:
        pixels = pa.FixedSizeBinaryArray.from_buffers(pa.binary(flat.shape[1]), len(flat), [None, pa.py_buffer(flat)])
    return pa.table({"x": pixels, "y": y})


def tensors(batch: Any) -> dict[str, Any]:
    """Return a record batch as tensors, without a copy."""
    import pyarrow as pa
    import torch

    found = {}
    for name, values in zip(batch.schema.names, batch.columns, strict=True):
        if pa.types.is_fixed_size_binary(values.type):
            width = values.type.byte_width
            flat = np.frombuffer(values.buffers()[1], np.uint8, len(values) * width, values.offset * width)
            found[name] = torch.from_numpy(flat.reshape(len(values), 28, 28))
        elif pa.types.is_fixed_size_list(values.type):
            found[name] = torch.from_numpy(values.flatten().to_numpy().reshape(len(values), 28, 28))
        else:
            found[name] = torch.from_numpy(values.to_numpy())
    return found


def sampled(dataset: Any, shuffled: bool) -> Any:
    """Return a DataLoader that asks for the rows of a batch at once."""
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

    order = RandomSampler(dataset) if shuffled else SequentialSampler(dataset)
    return DataLoader(dataset, sampler=BatchSampler(order, SIZE, False), batch_size=None)


class Rows:
    """A map-style dataset that is asked for lists of rows."""

    def __init__(self, rows: int, take: Any):
        self.rows, self.take = rows, take

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, rows: list[int]) -> Any:
        return self.take(rows)


# ------------------------------------------------------------------------------------------------------ parquet


def parquet_prepare(folder: Path, kind: str) -> None:
    import pyarrow.parquet as pq

    table = arrow(folder, kind, lists=False)
    plain = "NONE" if kind == "images" else "LZ4"
    pq.write_table(table, folder / f"{kind}.parquet", row_group_size=GROUP, compression=plain)


def parquet_read(folder: Path, kind: str, shuffled: bool) -> Iterable[Any]:
    import pyarrow.parquet as pq
    from torch.utils.data import DataLoader, IterableDataset

    path = folder / f"{kind}.parquet"
    if shuffled:
        table = pq.read_table(path).combine_chunks()
        return sampled(
            Rows(table.num_rows, lambda rows: tensors(table.take(rows).combine_chunks().to_batches()[0])), True
        )

    class Streamed(IterableDataset):
        def __iter__(self) -> Iterator[Any]:
            with pq.ParquetFile(path) as file:
                yield from map(tensors, file.iter_batches(SIZE))

    return DataLoader(Streamed(), batch_size=None)


# ---------------------------------------------------------------------------------------- Hugging Face datasets


def datasets_prepare(folder: Path, kind: str) -> None:
    from datasets import Array2D, Dataset, Features, Value

    if kind == "table":
        made = Dataset(arrow(folder, kind, lists=False))
    else:
        features = Features({"x": Array2D((28, 28), "uint8"), "y": Value("int64")})
        made = Dataset.from_generator(
            _hugging_rows,
            features=features,
            cache_dir=str(folder / "datasets-cache"),
            gen_kwargs={"folder": str(folder)},
        )
    made.save_to_disk(str(folder / f"{kind}.datasets"))


def _hugging_rows(folder: str) -> Iterator[dict[str, Any]]:
    x, y = np.load(Path(folder) / "x.npy"), np.load(Path(folder) / "y.npy")
    for pixels, label in zip(x, y.tolist(), strict=True):
        yield {"x": pixels, "y": label}


def datasets_read(folder: Path, kind: str, shuffled: bool) -> Iterable[Any]:
    from datasets import load_from_disk

    found = load_from_disk(str(folder / f"{kind}.datasets")).with_format("torch")
    return sampled(found, shuffled)


def datasets_iter_read(folder: Path, kind: str, shuffled: bool) -> Iterable[Any]:
    from datasets import load_from_disk

    found = load_from_disk(str(folder / f"{kind}.datasets")).with_format("torch")

    class Iterated:
        def __iter__(self) -> Iterator[Any]:
            yield from (found.shuffle(seed=0) if shuffled else found).iter(SIZE)

    return Iterated()


# -------------------------------------------------------------------------------------------------------- Lance


def lance_prepare(folder: Path, kind: str) -> None:
    import lance

    lance.write_dataset(arrow(folder, kind, lists=True), str(folder / f"{kind}.lance"), max_rows_per_file=GROUP)


def lance_read(folder: Path, kind: str, shuffled: bool) -> Iterable[Any]:
    import lance
    from lance.torch.data import LanceDataset
    from torch.utils.data import DataLoader

    path = str(folder / f"{kind}.lance")
    if shuffled:
        found = lance.dataset(path)
        return sampled(
            Rows(found.count_rows(), lambda rows: tensors(found.take(rows).combine_chunks().to_batches()[0])), True
        )
    to = functools.partial(_lance_tensors)
    return DataLoader(LanceDataset(path, batch_size=SIZE, to_tensor_fn=to), batch_size=None)


def _lance_tensors(batch: Any, **_: Any) -> dict[str, Any]:
    return tensors(batch)


# ------------------------------------------------------------------------------------------------------ LitData


def _lit_item(folder: str, kind: str, at: int) -> Iterator[Any]:
    if kind == "table":
        rows = np.load(Path(folder) / "table.npy", mmap_mode="r")
        for row in rows[at : at + 10_000]:
            yield {f"c{i:02}": float(value) for i, value in enumerate(row)}
        return
    x, y = np.load(Path(folder) / "x.npy", mmap_mode="r"), np.load(Path(folder) / "y.npy")
    for number in range(at, min(at + 10_000, len(x))):
        yield {"x": np.array(x[number]), "y": int(y[number])}


def litdata_prepare(folder: Path, kind: str) -> None:
    import litdata

    count = len(np.load(folder / ("table.npy" if kind == "table" else "x.npy"), mmap_mode="r"))
    litdata.optimize(
        fn=functools.partial(_lit_item, str(folder), kind), inputs=list(range(0, count, 10_000)),
        output_dir=str(folder / f"{kind}.litdata"), chunk_bytes="16MB", num_workers=1,
    )  # fmt: skip


def litdata_read(folder: Path, kind: str, shuffled: bool) -> Iterable[Any]:
    import litdata

    found = litdata.StreamingDataset(str(folder / f"{kind}.litdata"), shuffle=shuffled)
    return litdata.StreamingDataLoader(found, batch_size=SIZE, num_workers=0)


def main() -> None:
    what, peer, kind, order, folder = sys.argv[1:]
    if what == "prepare":
        for old in Path(folder).glob(f"{kind}.{peer}"):
            shutil.rmtree(old, ignore_errors=True)
        globals()[f"{peer}_prepare"](Path(folder), kind)
        return
    import torch  # noqa: F401  # imports are not measured

    for library in {"parquet": ("pyarrow.parquet",), "lance": ("lance.torch.data",)}.get(
        peer, (peer.partition("_")[0],)
    ):
        __import__(library)
    tell(lambda: globals()[f"{peer}_read"](Path(folder), kind, order == "shuffled"), 2 if order == "shuffled" else 1)


if __name__ == "__main__":
    main()
