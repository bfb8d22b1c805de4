"""How the processes of one training part its rows and agree: each batch is one batch of all, of which each has a share.

So `batch_size`, the number of steps and the learning rate mean the same with one process and with many, and the result is the
same but for the last bits. What all must do at the same batch (end, leave a checkpoint) is agreed on with the gradients.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, cast

from leptonai.core.errors import FieldError, Invalid, Unavailable
from leptonai.core.ports import Framework, Learner
from leptonai.core.ranks import ALONE, Rank
from leptonai.core.stages import Handle


class Share(NamedTuple):
    """Part `number` of `of` of every batch."""

    number: int = 0
    of: int = 1

    def part(self, rows: int) -> slice:
        """Return which rows of a batch of so many are this part's: the parts are disjoint, and together they are the batch.

        A batch with less than two rows for each goes to the first: layers that measure a batch cannot work on one row.
        """
        if rows < 2 * self.of:
            return slice(0, rows if self.number == 0 else 0)
        each, more = divmod(rows, self.of)
        low = self.number * each + min(self.number, more)
        return slice(low, low + each + (self.number < more))


class Group(Protocol):
    """The processes of one training, as a framework joins them. Each method is called by all at the same place.

    When one of them is gone the others get `Unavailable`, at the latest with the next call.
    """

    def ask(self, *, stop: bool, save: bool) -> None:
        """Say, before a step, whether to stop or to leave a checkpoint after it."""

    @property
    def asked(self) -> tuple[bool, bool]:
        """Whether any process asked for the stop, and for the checkpoint, before the last step."""

    def share(self, data: bytes) -> bytes:
        """Return what the first process has given."""

    def gather(self, data: bytes) -> list[bytes]:
        """Return what each has given."""

    def align(self) -> None:
        """Have all take the weights of the first."""


def rank_of(handle: Handle) -> Rank:
    """Return which process of its Run this is."""
    return cast(Rank, getattr(handle, "rank", ALONE))


def share_of(handle: Handle) -> Share:
    """Return which part of every batch is this process's."""
    rank = rank_of(handle)
    return Share(rank.number, rank.of)


def check_rows(rows: int, handle: Handle) -> None:
    """Raise `Invalid` where there are fewer than two rows for each process."""
    if (many := rank_of(handle).of) > 1 and rows < 2 * many:
        raise Invalid(
            f"workers: {rows} rows are too few for {many} processes: use at most {max(1, rows // 2)}",
            errors=[FieldError("workers", f"at most {max(1, rows // 2)}")],
        )


def joined(framework: Framework, learner: Learner, handle: Handle) -> Group | None:
    """Join the processes of the Run, before the learner begins; None where there is but one. Raises `Unavailable`."""
    rank = rank_of(handle)
    if rank.of == 1:
        return None
    group = cast(Any, framework).join(rank)
    cast(Any, learner).join(group)
    return cast(Group, group)


def decided(group: Group | None, wanted: bool) -> bool:
    """Return what the first process wants."""
    return wanted if group is None else group.share(bytes([wanted])) == b"\x01"


def check_same(group: Group, where: str) -> None:
    """Raise `Unavailable` unless all are at the same place of the training."""
    if len(set(group.gather(where.encode()))) > 1:
        raise Unavailable("not every worker can read the last checkpoint: they would go on from different places")


def own_files(group: Group, state: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return what a checkpoint must hold of the others: ``rank1.NAME`` and so on."""
    files: dict[str, bytes] = {}
    names = sorted(state)
    parts = {name: group.gather(state[name]) for name in names}
    for name in names:
        files |= {f"rank{number}.{name}": data for number, data in enumerate(parts[name]) if number}
    return files


def own_state(learner: Learner) -> dict[str, bytes]:
    """Return what of its state differs from that of the other processes."""
    return dict(cast(Any, learner).own_state())
