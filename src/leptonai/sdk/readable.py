"""What can be had of a dataset's rows: batches for PyTorch and Keras, frames, files. Nothing is read before it is asked for."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from leptonai.core.errors import MissingExtra

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

    from leptonai.sdk.batches import Batches
    from leptonai.sdk.datasets import Dataset
    from leptonai.sdk.keras_batches import KerasBatches
    from leptonai.sdk.torch_batches import TorchBatches

Columns = Sequence[str] | None


class Readable:
    """The rows of a dataset, or of a part of one, as other libraries take them. Needs the permission dataset:read.

    Keys come from the server; shards are read where they lie, or fetched encrypted, and decrypted here. Personal columns need the
    permission dataset:pii; with `mask` none of their values is there, and it is not needed.
    """

    def torch(
        self,
        batch_size: int = 128,
        *,
        columns: Columns = None,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        memory: int | None = None,
        mask: bool = False,
        augment: Sequence[Any] | None = None,
    ) -> "TorchBatches":
        """Return batches as dicts of tensors by column, to iterate over or for ``DataLoader(…, batch_size=None)``.

        Numbers are float32; whole numbers, dates (microseconds) and classes int64: the place in ``classes[column]``, -1 for a
        missing one. Each pass is an epoch in an order of its own; the readers of one epoch (`rank` of `world`) share the rows.
        What fits into `memory` bytes (default: half of what is free) is decoded once.

        `augment` (default: as the dataset says) changes batches on their way, the same for the same `seed`, epoch and place. Where
        rows are blended (mixup, cutmix) the target becomes shares of its classes, float32 (rows, classes).
        """
        batches = self._batches(batch_size, columns, shuffle, seed, rank, world, memory, mask, augment, pairs=False)
        try:
            from leptonai.sdk.torch_batches import TorchBatches
        except ImportError as error:
            raise _lacks(error, "torch") from error
        return TorchBatches(batches)

    def keras(
        self,
        batch_size: int = 128,
        *,
        columns: Columns = None,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        memory: int | None = None,
        mask: bool = False,
        augment: Sequence[Any] | None = None,
    ) -> "KerasBatches":
        """Return (x, y) batches for ``model.fit``: the features as one float32 array or the one column of images, and the target.

        `augment` is as for `torch`. Raises `Unsupported` for columns that do not go into one array: name others with `columns`.
        """
        batches = self._batches(batch_size, columns, shuffle, seed, rank, world, memory, mask, augment, pairs=True)
        try:
            from leptonai.sdk.keras_batches import KerasBatches
        except ImportError as error:
            raise _lacks(error, "torch") from error
        return KerasBatches(batches)

    def _batches(
        self,
        batch_size: int,
        columns: Columns,
        shuffle: bool,
        seed: int,
        rank: int,
        world: int,
        memory: int | None,
        mask: bool,
        augment: Sequence[Any] | None,
        *,
        pairs: bool,
    ) -> "Batches":
        from leptonai.sdk.augmenting import steps_of
        from leptonai.sdk.batches import Batches

        data = cast("Dataset", self)
        return Batches(
            data, batch_size, columns=columns, shuffle=shuffle, seed=seed, rank=rank, world=world, memory=memory, mask=mask,
            pairs=pairs, augment=data.augmentation if augment is None else steps_of(augment),
        )  # fmt: skip

    def arrow(self, columns: Columns = None, *, mask: bool = False) -> "pyarrow.Table":
        """Return the rows as an Arrow table; images and tensors as fixed-shape tensors."""
        from leptonai.sdk import exports

        return exports.arrow(cast("Dataset", self), columns, mask=mask)

    def polars(self, columns: Columns = None, *, mask: bool = False) -> "polars.DataFrame":
        """Return the rows as a polars data frame; images and tensors as arrays."""
        from leptonai.sdk import exports

        return exports.polars_frame(cast("Dataset", self), columns, mask=mask)

    def pandas(self, columns: Columns = None, *, mask: bool = False) -> "pandas.DataFrame":
        """Return the rows as a pandas data frame; images and tensors as NumPy arrays. Raises `MissingExtra`."""
        from leptonai.sdk import exports

        return exports.pandas_frame(cast("Dataset", self), columns, mask=mask)

    def to_parquet(self, path: "str | Path", *, columns: Columns = None, mask: bool = False) -> int:
        """Write the rows to a Parquet file that is not encrypted any more, shard by shard, and return how many they are."""
        from leptonai.sdk import exports

        return exports.parquet(cast("Dataset", self), Path(path), columns, mask=mask)

    def to_csv(self, path: "str | Path", *, columns: Columns = None, mask: bool = False) -> int:
        """Write the rows to a CSV file that is not encrypted any more, shard by shard, and return how many they are.

        Text that a spreadsheet would take for a formula gets a ' in front. Raises `Unsupported` for images and tensors.
        """
        from leptonai.sdk import exports

        return exports.csv(cast("Dataset", self), Path(path), columns, mask=mask)

    def croissant(self) -> dict[str, Any]:
        """Return what is known of the version as Croissant 1.1 metadata (JSON-LD), without a file of its rows."""
        from leptonai.sdk import croissant

        return croissant.metadata(cast("Dataset", self))

    def to_croissant(self, path: "str | Path", *, columns: Columns = None, mask: bool = False) -> int:
        """Write the metadata to `path` and the rows beside it, to a Parquet file of that name; return how many rows."""
        from leptonai.sdk import croissant

        return croissant.write(cast("Dataset", self), Path(path), columns, mask=mask)


def _lacks(error: ImportError, extra: str) -> MissingExtra:
    return MissingExtra(f"this needs {error.name}: install it with  pip install 'lepton-ai-sdk[{extra}]'")
