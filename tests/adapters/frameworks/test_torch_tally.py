"""What is added up of losses and metrics, however the batches come."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonai.adapters.frameworks.torch_metrics import made
from leptonai.adapters.frameworks.torch_tally import Tally

CLASSES = 3


def tally() -> Tally:
    return Tally([made(name, "classification", CLASSES, "softmax") for name in ("accuracy", "f1", "cohen_kappa")])


def batches(sizes: list[int], wide: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    made_of = torch.Generator().manual_seed(sum(sizes))
    return [
        (torch.randn(size, CLASSES, generator=made_of), torch.randint(CLASSES, (size,), generator=made_of))
        for size in sizes
    ] * wide


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(1, 6), st.data())
def test_batches_that_wait_count_like_one_of_all_rows_and_survive_a_checkpoint(sizes, wide, data):
    given_ = batches(sizes, wide)
    cut = data.draw(st.integers(0, len(given_)))
    first, whole = tally(), tally()
    for at, (scores, y) in enumerate(given_):
        if at == cut:  # the process was killed: what comes after it adds to what was kept, and to nothing else
            kept = first.kept()
            first = tally()
            first.add(scores, y, y)
            first.take([kept])
        first.loss(float(at), len(y))
        first.add(scores, y, y)
    scores, y = (torch.cat(parts) for parts in zip(*given_, strict=True))
    whole.loss(float(np.average(range(len(given_)), weights=[len(y) for _, y in given_])), len(y))
    whole.add(scores, y, y)
    assert first.results() == pytest.approx(whole.results())
    empty = first.results()
    assert np.isnan([empty["loss"], empty["accuracy"]]).all()  # each asks for those since the last


def test_what_several_processes_kept_is_taken_together():
    parts, whole = [tally(), tally()], tally()
    for at, (scores, y) in enumerate(batches([5, 9, 20], 1)):
        for one in (parts[at % 2], whole):
            one.loss(at, len(y))
            one.add(scores, y, y)
    both = tally()
    both.take([part.kept() for part in parts])
    assert both.results() == pytest.approx(whole.results())


def test_a_metric_that_fails_does_so_at_the_first_batch_and_large_outputs_do_not_wait():
    counted = []

    def own(output: torch.Tensor, y: torch.Tensor) -> float:
        counted.append(len(output))
        return 0.0

    one = Tally([made(own, "regression", 0, "value")])
    for rows in (2, 3, 4):
        one.add(torch.zeros(rows, 1), torch.zeros(rows), torch.zeros(rows))
    assert counted == [2]  # the first alone
    one.add(torch.zeros(100_000, 1), torch.zeros(100_000), torch.zeros(100_000))
    assert counted == [2, 3, 4, 100_000]
    failing = Tally([made(lambda output, y: 1 / 0, "regression", 0, "value")])
    with pytest.raises(ZeroDivisionError):
        failing.add(torch.zeros(2, 1), torch.zeros(2), torch.zeros(2))
