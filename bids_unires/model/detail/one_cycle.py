"""Minimising a mean over many batches: Adam with a learning rate that follows one cycle.

Every step is the running mean of the gradient over its root mean square (Kingma & Ba 2015, "Adam: a
method for stochastic optimization", algorithm 1). The learning rate rises from low to high, while
the running mean becomes shorter, and falls to a very low value (Smith & Topin 2019,
"Super-convergence: very fast training of neural networks using large learning rates"), along half
waves of a cosine.

torch has similar optimisers. The first use of any of them takes seconds, since it imports a
compiler, and a GPU would wait at every step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice, pairwise

import torch
from torch import Tensor

# Decay of the running mean of the gradient at the beginning, the peak and the end of the cycle, and
# of the mean of its squares.
_DECAY = (0.95, 0.85, 0.95)
_DECAY_OF_SQUARES = 0.999
# Learning rate there, relative to its maximum.
_RATES = (1 / 25, 1.0, 1 / 250_000)
# Share of the steps before the peak.
_RISE = 0.3
_EPSILON = 1e-8
_STEPS_BETWEEN_REPORTS = 250

Loss = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]
"""The function to minimise, of the parameters and a batch."""

Step = Callable[[Sequence[Tensor], Tensor], None]
"""One step, given a batch and a row of `_schedule`."""


def descend_in_one_cycle(
    loss: Loss,
    start: Sequence[Tensor],
    data: Sequence[Tensor],
    *,
    batch_size: int,
    steps: int,
    fastest: float,
    on_progress: Callable[[float], None] | None = None,
) -> list[Tensor]:
    """Minimise a loss over many batches of data.

    Parameters
    ----------
    loss
        Differentiable function. On a GPU it is recorded once and replayed, so that its operations
        must not depend on values.
    start
        Initial parameters, float32 of any shapes, all on one device.
    data
        Tensors ``(N, ...)`` of equal length N; a batch is a slice of each.
    batch_size
        Length of a batch; all of the data if these are shorter.
    steps
        Number of steps, one for each batch.
    fastest
        Largest learning rate, in the unit of the parameters.
    on_progress
        Called now and then with the share of the steps that are done.

    Returns
    -------
    list of Tensor
        The final parameters.
    """
    descent = _Adam(loss, start)
    schedule = _schedule(steps, fastest).to(start[0].device)
    step: Step = descent.step
    if schedule.is_cuda:
        step = _recorded(step, next(_batches(data, batch_size, 1)), schedule[0])
        descent.restart(start)
    for number, batch in enumerate(_batches(data, batch_size, steps)):
        step(batch, schedule[number])
        if on_progress is not None and (number + 1) % _STEPS_BETWEEN_REPORTS == 0:
            on_progress((number + 1) / steps)
    return descent.parameters


def _batches(parts: Sequence[Tensor], size: int, count: int) -> Iterator[list[Tensor]]:
    """``count`` batches, in order and again from the start; an incomplete batch is left out."""
    starts = range(0, max(1, len(parts[0]) - size + 1), size)
    for start in islice(cycle(starts), count):
        yield [part[start : start + size] for part in parts]


def _schedule(steps: int, fastest: float) -> Tensor:
    """Weight of the new gradient, learning rate, and addend of the denominator, ``(steps, 3)``."""
    rows = []
    for number in range(steps):
        decay, rate = _in_cycle(_DECAY, number, steps), _in_cycle(_RATES, number, steps)
        # Corrections for the running means, which start at 0.
        of_mean = 1 - decay ** (number + 1)
        of_squares = math.sqrt(1 - _DECAY_OF_SQUARES ** (number + 1))
        rows.append((1 - decay, -fastest * rate * of_squares / of_mean, _EPSILON * of_squares))
    return torch.tensor(rows, dtype=torch.float32)


def _in_cycle(values: tuple[float, float, float], number: int, steps: int) -> float:
    """Value at a step, between those at the beginning, the peak and the end of the cycle."""
    turns = (0.0, _RISE * steps - 1, steps - 1.0)
    part = 0 if number <= turns[1] else 1
    (begin, end), (first, last) = list(pairwise(turns))[part], list(pairwise(values))[part]
    way = (number - begin) / (end - begin) if end > begin else 1.0
    return last + (first - last) / 2 * (1 + math.cos(math.pi * way))


class _Adam:
    """The state of Adam, with all parameters in one piece of memory.

    Parameters
    ----------
    loss, start
        See `descend_in_one_cycle`.
    """

    def __init__(self, loss: Loss, start: Sequence[Tensor]) -> None:
        self._loss = loss
        self._shapes = [part.shape for part in start]
        self._all = torch.cat([part.flatten() for part in start]).requires_grad_(True)
        self._mean = torch.zeros_like(self._all, requires_grad=False)
        self._square = torch.zeros_like(self._mean)

    @property
    def parameters(self) -> list[Tensor]:
        """The parameters, with the shapes of those given."""
        return [part.detach() for part in self._parts()]

    def restart(self, start: Sequence[Tensor]) -> None:
        """Start again from other parameters, in the same memory."""
        self._all.detach().copy_(torch.cat([part.flatten() for part in start]))
        self._mean.zero_()
        self._square.zero_()

    def step(self, batch: Sequence[Tensor], row: Tensor) -> None:
        """One step on one batch; ``row`` is a row of `_schedule`."""
        (gradient,) = torch.autograd.grad(self._loss(self._parts(), batch), self._all)
        weight, rate, addend = row
        self._mean.lerp_(gradient, weight)
        self._square.mul_(_DECAY_OF_SQUARES)
        self._square.addcmul_(gradient, gradient, value=1 - _DECAY_OF_SQUARES)
        size = self._square.sqrt().add_(addend)
        self._all.detach().addcdiv_(self._mean * rate, size)

    def _parts(self) -> list[Tensor]:
        parts = torch.split(self._all, [shape.numel() for shape in self._shapes])
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]


def _recorded(step: Step, batch: Sequence[Tensor], row: Tensor) -> Step:
    """A step of many small kernels, recorded so that a GPU does not wait for each of them.

    Parameters
    ----------
    step
        The step. It is done once while it is recorded.
    batch, row
        Arguments of the same shapes as all later ones.
    """
    inputs = [tensor.clone() for tensor in (*batch, row)]
    *recorded_batch, recorded_row = inputs
    device = row.device
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.device(device):
        with torch.cuda.stream(stream):
            # Libraries initialise at the first call, which cannot be recorded.
            step(recorded_batch, recorded_row)
        with torch.cuda.graph(graph, stream=stream):
            step(recorded_batch, recorded_row)
    torch.cuda.current_stream(device).wait_stream(stream)

    def replay(batch: Sequence[Tensor], row: Tensor) -> None:
        for tensor, given in zip(inputs, (*batch, row), strict=True):
            tensor.copy_(given)
        graph.replay()

    return replay
