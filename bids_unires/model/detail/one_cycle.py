"""Minimising a mean over many batches: Adam, fastest in the middle.

Every step goes along the mean slope over its usual size (Kingma & Ba 2015, "Adam: a method for
stochastic optimization", algorithm 1). Steps begin short, become long while fewer of the last
slopes count, and end very short (Smith & Topin 2019, "Super-convergence: very fast training of
neural networks using large learning rates"), along half waves of a cosine.

torch has optimisers like it. The first use of any of them takes seconds, since it imports a
compiler, and a GPU would wait for every step of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice, pairwise

import torch
from torch import Tensor

# Share of what is known of the slope that the next step leaves: few steps count in the middle, many
# at both ends.
_MEMORY = (0.95, 0.85, 0.95)
_MEMORY_OF_SQUARES = 0.999
# Lengths of steps at the beginning, in the middle and at the end, in that of the longest.
_LENGTHS = (1 / 25, 1.0, 1 / 250_000)
# Where the middle is.
_RISE = 0.3
_EPSILON = 1e-8

Loss = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]
"""What to lower, of the parameters and a batch."""

Step = Callable[[Sequence[Tensor], Tensor], None]
"""What to do with a batch and a row of `_paces`."""


def descend_in_one_cycle(
    loss: Loss,
    start: Sequence[Tensor],
    data: Sequence[Tensor],
    *,
    batch_size: int,
    steps: int,
    fastest: float,
) -> list[Tensor]:
    """Lower a loss, going through the data again and again.

    Parameters
    ----------
    loss
        To be differentiated. A GPU is told only once what it does, which must not depend on values.
    start
        Parameters to begin with, float32, all on one device.
    data
        Parts of equal length, of which a batch is a slice.
    batch_size
        How much of them; all of it if that is less.
    steps
        How many; one for every batch.
    fastest
        The longest step, in the unit of the parameters.

    Returns
    -------
    list of Tensor
        The parameters at the end.
    """
    descent = _Adam(loss, start)
    paces = _paces(steps, fastest).to(start[0].device)
    step: Step = descent.step
    if paces.is_cuda:
        step = _recorded(step, next(_batches(data, batch_size, 1)), paces[0])
        descent.restart(start)
    for batch, pace in zip(_batches(data, batch_size, steps), paces, strict=True):
        step(batch, pace)
    return descent.parameters


def _batches(parts: Sequence[Tensor], size: int, count: int) -> Iterator[list[Tensor]]:
    """One after the other, and from the beginning again; what is over at the end is left out."""
    starts = range(0, max(1, len(parts[0]) - size + 1), size)
    for start in islice(cycle(starts), count):
        yield [part[start : start + size] for part in parts]


def _paces(steps: int, fastest: float) -> Tensor:
    """Weight of the new slope, length of the step, and what is added to sizes, ``(steps, 3)``."""
    rows = []
    for number in range(steps):
        memory, length = _in_cycle(_MEMORY, number, steps), _in_cycle(_LENGTHS, number, steps)
        # Slopes and squares begin at 0, which counts less and less.
        seen = 1 - memory ** (number + 1)
        grown = math.sqrt(1 - _MEMORY_OF_SQUARES ** (number + 1))
        rows.append((1 - memory, -fastest * length * grown / seen, _EPSILON * grown))
    return torch.tensor(rows, dtype=torch.float32)


def _in_cycle(values: tuple[float, float, float], number: int, steps: int) -> float:
    """Where a step lies between the beginning's, the middle's and the end's value."""
    turns = (0.0, _RISE * steps - 1, steps - 1.0)
    part = 0 if number <= turns[1] else 1
    (begin, end), (first, last) = list(pairwise(turns))[part], list(pairwise(values))[part]
    way = (number - begin) / (end - begin) if end > begin else 1.0
    return last + (first - last) / 2 * (1 + math.cos(math.pi * way))


class _Adam:
    """Parameters on their way down, all in one piece of memory.

    Parameters
    ----------
    loss, start
        See `descend_in_one_cycle`.
    """

    def __init__(self, loss: Loss, start: Sequence[Tensor]) -> None:
        self._loss = loss
        self._shapes = [part.shape for part in start]
        self._all = torch.cat([part.flatten() for part in start]).requires_grad_(True)
        self._slope = torch.zeros_like(self._all, requires_grad=False)
        self._square = torch.zeros_like(self._slope)

    @property
    def parameters(self) -> list[Tensor]:
        """As they were given."""
        return [part.detach() for part in self._parts()]

    def restart(self, start: Sequence[Tensor]) -> None:
        """Forget all steps, in the same memory."""
        self._all.detach().copy_(torch.cat([part.flatten() for part in start]))
        self._slope.zero_()
        self._square.zero_()

    def step(self, batch: Sequence[Tensor], pace: Tensor) -> None:
        """One step on one batch; ``pace`` is a row of `_paces`."""
        (slope,) = torch.autograd.grad(self._loss(self._parts(), batch), self._all)
        newness, length, least = pace
        self._slope.lerp_(slope, newness)
        self._square.mul_(_MEMORY_OF_SQUARES)
        self._square.addcmul_(slope, slope, value=1 - _MEMORY_OF_SQUARES)
        usual = self._square.sqrt().add_(least)
        self._all.detach().addcdiv_(self._slope * length, usual)

    def _parts(self) -> list[Tensor]:
        parts = torch.split(self._all, [shape.numel() for shape in self._shapes])
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]


def _recorded(task: Step, batch: Sequence[Tensor], pace: Tensor) -> Step:
    """A task of many small kernels that a GPU does at once, instead of waiting for each of them.

    Parameters
    ----------
    task
        Is done once here, too.
    batch, pace
        Of the shapes that it takes.
    """
    taken = [tensor.clone() for tensor in (*batch, pace)]
    *own, own_pace = taken
    device = pace.device
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.device(device):
        with torch.cuda.stream(stream):
            # Libraries prepare themselves at the first call, which no recording can hold.
            task(own, own_pace)
        with torch.cuda.graph(graph, stream=stream):
            task(own, own_pace)
    torch.cuda.current_stream(device).wait_stream(stream)

    def replay(batch: Sequence[Tensor], pace: Tensor) -> None:
        for tensor, given in zip(taken, (*batch, pace), strict=True):
            tensor.copy_(given)
        graph.replay()

    return replay
