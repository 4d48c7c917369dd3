"""One cycle of Adam, against torch's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from bids_unires.model.detail.one_cycle import descend_in_one_cycle

DEVICES = [
    "cpu",
    pytest.param("cuda:0", marks=pytest.mark.gpu),
]
FASTEST = 0.02
SIZE = 16


def regression(device: str, rows: int = 100) -> tuple[list[Tensor], list[Tensor]]:
    """Parameters to begin with, and data."""
    random = torch.Generator().manual_seed(3)
    seen, asked = (torch.randn(rows, side, generator=random) for side in (5, 2))
    start = [torch.randn(shape, generator=random) for shape in ((5, 2), (2,))]
    return [part.to(device) for part in start], [part.to(device) for part in (seen, asked)]


def loss(parameters: Sequence[Tensor], batch: Sequence[Tensor]) -> Tensor:
    (weight, bias), (seen, asked) = parameters, batch
    return (torch.tanh(seen @ weight + bias) - asked).square().mean()


def by_torch(start: list[Tensor], data: list[Tensor], steps: int) -> list[Tensor]:
    parameters = [part.clone().requires_grad_(True) for part in start]
    optimizer = torch.optim.Adam(parameters)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, FASTEST, total_steps=steps)
    starts = range(0, max(1, len(data[0]) - SIZE + 1), SIZE)
    for step in range(steps):
        first = starts[step % len(starts)]
        optimizer.zero_grad()
        loss(parameters, [part[first : first + SIZE] for part in data]).backward()
        optimizer.step()
        schedule.step()
    return [part.detach() for part in parameters]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("steps", "rows"), [(1, 100), (2, 16), (5, 7), (60, 100), (200, 33)])
def test_it_ends_where_torch_s_optimiser_does(steps: int, rows: int, device: str) -> None:
    start, data = regression(device, rows)
    found = descend_in_one_cycle(loss, start, data, batch_size=SIZE, steps=steps, fastest=FASTEST)
    for parameter, expected in zip(found, by_torch(start, data, steps), strict=True):
        torch.testing.assert_close(parameter, expected, rtol=1e-4, atol=1e-5)


def test_what_it_begins_with_stays_as_it_is() -> None:
    start, data = regression("cpu")
    before = [part.clone() for part in start]
    found = descend_in_one_cycle(loss, start, data, batch_size=SIZE, steps=9, fastest=FASTEST)
    for part, kept, moved in zip(start, before, found, strict=True):
        torch.testing.assert_close(part, kept, rtol=0, atol=0)
        assert not part.requires_grad
        assert not moved.requires_grad
        assert not torch.equal(moved, kept)


def test_no_compiler_is_imported() -> None:
    task = "\n".join(
        [
            "import sys, torch",
            "from bids_unires.model.detail.one_cycle import descend_in_one_cycle",
            "data = [torch.ones(4, 2)]",
            "def loss(parameters, batch): return (parameters[0] * batch[0]).square().mean()",
            "descend_in_one_cycle(loss, data, data, batch_size=4, steps=2, fastest=0.1)",
            "assert 'torch._dynamo' not in sys.modules",
        ]
    )
    subprocess.run([sys.executable, "-c", task], check=True)
