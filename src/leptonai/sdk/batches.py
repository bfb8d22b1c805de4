"""Batches of a dataset for who learns outside of a Run, with a place that can be saved: the other batches follow, the same."""

import math
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.stages import Shuffle
from leptonai.sdk import reading

if TYPE_CHECKING:
    from leptonai.sdk.datasets import Dataset


class Batches:
    """The rows of a dataset in batches of packed arrays, epoch after epoch."""

    def __init__(
        self,
        dataset: "Dataset",
        batch_size: int,
        *,
        columns: Sequence[str] | None = None,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        memory: int | None = None,
        mask: bool = False,
        pairs: bool = False,
        augment: Sequence[Any] = (),
    ):
        from leptonai.data.loader import Loader, Source
        from leptonai.data.loader_pack import Packed
        from leptonai.sdk import changing
        from leptonai.sdk.evened import Evened

        _check(batch_size, rank, world)
        found = reading.reader(dataset, memory, mask=mask)
        self.source: Packed = Packed(found.part(columns), dataset.target, pairs=pairs)
        self.columns = [column for column in found.columns if column.name in self.source.places]
        self.changing = (
            changing.Changing(augment, self.columns, self.source.places, dataset.target, seed) if augment else None
        )
        self._pairs = pairs
        source: Source = self.source
        if self.changing is not None and self.changing.evens is not None and dataset.target is not None:
            source = Evened(self.source, found.memory, self.columns, dataset.target, self.changing.evens, seed)
        self._counts = source.counts
        self._loader = Loader(source, found.memory)
        self.batch_size = batch_size
        self._shuffle = Shuffle(seed, self._loader.window) if shuffle else None
        self.rank, self.world = rank, world
        self.epoch = 0
        self.row = 0  # of the epoch, that comes next
        self._numbers: tuple[int, Any] | None = None  # the order of an epoch

    def rows(self, world: int | None = None) -> int:
        """Return how many rows an epoch has, for each of so many readers."""
        return self._loader.rows // (world or self.world)

    def __len__(self) -> int:
        return math.ceil(self.rows() / self.batch_size)

    def state_dict(self) -> dict[str, Any]:
        """Return the place of the next batch: epoch, row, and over how many rows they are shuffled."""
        return {"epoch": self.epoch, "row": self.row, "window": self._shuffle.window if self._shuffle else 0}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a place that `state_dict` gave."""
        self.epoch, self.row = int(state["epoch"]), int(state["row"])
        if self._shuffle is not None:
            self._shuffle = self._shuffle._replace(window=int(state["window"]))

    def packed(self, rank: int | None = None, world: int | None = None) -> Generator[dict[str, Any], None, None]:
        """Yield what is left of the epoch; at its end the next one is at hand. Arrays may be views of what is kept.

        Where batches are changed on their way, a thread does it a batch ahead, and they are by column unless they are pairs.
        """
        from leptonai.core.ahead import ahead

        rank, world = self.rank if rank is None else rank, world or self.world
        count = self.rows(world)
        given = self._loader.batches(self.batch_size, self._shuffle, self.epoch, self.row, rank=rank, world=world)
        batches = given if self.changing is None else ahead(self._changed(given, self.epoch, rank * count + self.row))
        try:
            for batch in batches:
                self.row = min(self.row + self.batch_size, count)
                if self.row == count:
                    self.epoch, self.row = self.epoch + 1, 0
                yield batch
        finally:
            batches.close()

    def at(self, index: int) -> dict[str, Any]:
        """Return one batch of the epoch, copied from what is kept in memory; only where all of it is."""
        from leptonai.data.loader import take
        from leptonai.data.loader_order import Epoch

        whole = self._loader.held or self._loader.all()
        if self._numbers is None or self._numbers[0] != self.epoch:
            order = Epoch(self._counts, self._shuffle, self.epoch, self.rank, self.world)
            self._numbers = (self.epoch, order.numbers())
        low = index * self.batch_size
        batch = take(whole, self._numbers[1][low : low + self.batch_size], 0, 0)
        return batch if self.changing is None else self._change(batch, self.epoch, self.rank * self.rows() + low)

    def _changed(
        self, given: Generator[dict[str, Any], None, None], epoch: int, start: int
    ) -> Generator[dict[str, Any], None, None]:
        with closing(given):
            for batch in given:
                yield self._change(batch, epoch, start)
                start += len(next(iter(batch.values())))

    def _change(self, batch: dict[str, Any], epoch: int, start: int) -> dict[str, Any]:
        assert self.changing is not None  # noqa: S101  # asked only where there is something to change
        return self.changing.pairs(batch, epoch, start) if self._pairs else self.changing.columns(batch, epoch, start)

    @property
    def fits(self) -> bool:
        """Whether all rows are kept in memory."""
        return self._loader.fits

    @property
    def kept(self) -> bool:
        """Whether batches come from memory that is kept, so that who changes them in place must get copies."""
        return self._loader.fits and self._shuffle is None and self.changing is None


def _check(batch_size: int, rank: int, world: int) -> None:
    for name, value, right in (("batch_size", batch_size, 1), ("world", world, 1)):
        if value < right:
            raise Invalid(f"{name} must be 1 or more, not {value}", errors=[FieldError(name, "1 or more")])
    if not 0 <= rank < world:
        raise Invalid(f"rank must be 0 to {world - 1}, not {rank}", errors=[FieldError("rank", f"0 to {world - 1}")])
