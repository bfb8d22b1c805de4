"""A batch that memory is too small for: told with what fits, or made smaller when that was asked for."""

from pathlib import Path

import pytest
import torch
from tests.support.handle import FileHandle
from tests.training.test_work import asked, cancer, handle_for
from torch import nn

from leptonai.core.errors import Invalid
from leptonai.training import checkpoint
from leptonai.training.work import train

pytestmark = pytest.mark.usefixtures("warm", "here")


class Greedy(nn.Module):
    """Says that memory ran out when it learns from more rows than it likes."""

    def __init__(self, most: int):
        super().__init__()
        self.layer, self.most = nn.Linear(6, 2), most

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and len(x) > self.most:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 2147483648 bytes.")
        return self.layer(x)


def test_a_batch_that_is_too_large_becomes_smaller_ones_when_asked(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Greedy(most=30)

    def learn(name: str, module: nn.Module = model, **more: object) -> tuple[FileHandle, bytes, dict[str, list[float]]]:
        handle = handle_for(tmp_path / name, cancer(), "diagnosis", 400)
        found = train(asked(handle, module, {"optimizer": "adam"}, epochs=2, **more), handle)
        return handle, handle.read(found["weights"]), found["history"]

    words = r"a batch of 100 rows \(it asked for 2.0 GiB more\): batch_size=25 fits, with accumulate=4"
    with pytest.raises(Invalid, match=words):
        learn("told", batch_size=100)
    handle, *found = learn("taken", batch_size=100, smaller_batches=True)
    assert "memory is too small for 100 rows: starts again with batches of 25" in handle.lines
    saved = checkpoint.last(handle)
    assert saved is not None
    assert saved.course.batch_size == 25
    _, *wanted = learn("by hand", batch_size=25, learning={"accumulate": 4})
    assert found == wanted
    with pytest.raises(Invalid, match="and for one row: use a smaller model"):
        learn("none", Greedy(most=0), batch_size=8, smaller_batches=True)
