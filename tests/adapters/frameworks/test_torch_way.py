"""Steps of an optimiser, as the platform makes them."""

import copy

import pytest
import torch
from torch import nn

from leptonai.adapters.frameworks.torch_way import bare_step


def learnt(step, model: nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    for _ in range(5):
        model(x).square().mean().backward()
        step()
        for parameter in model.parameters():
            parameter.grad = None
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (torch.optim.Adam, {"fused": True}),
        (torch.optim.AdamW, {"weight_decay": 0.1}),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
        (torch.optim.RMSprop, {}),
        (torch.optim.Adagrad, {}),
        (torch.optim.NAdam, {}),
    ],
)
def test_a_bare_step_learns_the_same_bit_by_bit(kind, options):
    torch.manual_seed(0)
    one = nn.Linear(4, 3)
    two = copy.deepcopy(one)
    whole, bare = kind(one.parameters(), **options), kind(two.parameters(), **options)
    for wanted, found in zip(learnt(whole.step, one, whole), learnt(bare_step(bare), two, bare), strict=True):
        assert torch.equal(wanted, found)
    assert all(p.requires_grad for p in two.parameters())


def test_who_hooked_on_is_called_and_an_optimiser_of_ones_own_is_left_as_it_is():
    model = nn.Linear(4, 3)
    optimizer = torch.optim.Adam(model.parameters())
    step, called = bare_step(optimizer), []
    handle = optimizer.register_step_post_hook(lambda *_: called.append("hook"))
    learnt(step, model, optimizer)
    handle.remove()
    learnt(step, model, optimizer)
    assert called == ["hook"] * 5

    class Mine(torch.optim.SGD):
        def step(self, closure=None):
            called.append("mine")
            return super().step(closure)

    own = Mine(model.parameters(), lr=0.1)
    learnt(bare_step(own), model, own)
    assert called[5:] == ["mine"] * 5
