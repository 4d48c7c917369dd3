"""Minimising the objective over the images: a memory-gradient method on a quadratic bound.

Every iteration bounds the prior from above by a quadratic at the current images
(majorise-minimise) and minimises bound plus data term exactly over two directions per
contrast: the preconditioned gradient and the last step. That is conjugate
gradients that never restarts when the bound moves (Chouzenoux, Idier & Moussaoui 2011,
"A majorize-minimize strategy for subspace optimization applied to image restoration").
One iteration costs one product with A'A per contrast.

The preconditioner adds up diagonal ones at several resolutions (Bramble, Pasciak & Xu 1990,
"Parallel multilevel preconditioners"), since the bound couples flat regions so tightly that
corrections from neighbour to neighbour would take hundreds of iterations to cross them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...kernels import descent, pyramid
from ...kernels.device import usable_device
from ...kernels.tensors import floating_tensor
from ...space.arrays import Numbers, array_of
from ...space.grid import Grid
from ..scanner.observation import Observation
from ..scanner.resampling import linear_images
from .objective import Objective
from .problem import Problem, Stop

# Smoothing of the prior (no unit): flat regions start loosely coupled and end tightly.
_FIRST_SMOOTHING = 0.05
_SMOOTHING_DECAY = 0.9
_SMOOTHING_DROP = 0.25
# In units of the tolerance: a tighter fit is also less smoothed.
_LEAST_SMOOTHING = 10.0
# The preconditioner takes these shares of the row sums of A'A for its diagonal. At the image's
# own resolution the row sum is too cautious, since slices couple many voxels; blocks of
# voxels move together, which costs the data term more than its row sums tell.
_FINE_SHARE = 0.5
_BLOCK_SHARE = 8.0
# Smooth blocks of side 2^l have this over 4^l of the prior's diagonal.
_BLOCK_STIFFNESS = 2.0
_LEVELS = 3
# The objective has to stall this often in a row: a single short step proves nothing.
_STALLED_ITERATIONS = 3


class Progress(NamedTuple):
    """The solver's state after an iteration.

    Attributes
    ----------
    seconds
        Time since the call.
    products
        Products with A'A in the iterations so far, counted per contrast. Setting up takes two
        more for each contrast.
    objective
        Value of the objective.
    """

    seconds: float
    products: int
    objective: float

    def after(self, earlier: Progress) -> Progress:
        """The same state of a solver that went on from where another one had come to."""
        return self._replace(
            seconds=self.seconds + earlier.seconds, products=self.products + earlier.products
        )


Listener: TypeAlias = Callable[[Progress], None]
"""Is told of every iteration."""


def listen_from(earlier: Progress, on_progress: Listener | None) -> Listener | None:
    """Tell the same listener of a solver that goes on from where another one had come to."""
    if on_progress is None:
        return None
    return lambda progress: on_progress(progress.after(earlier))


@dataclass(frozen=True, eq=False)
class Solution:
    """What the solver found.

    Attributes
    ----------
    images
        ``(C, X, Y, Z)`` float32 on the device of the call.
    history
        State before the first iteration and after every one.
    converged
        Whether the tolerance was met, rather than the bound on iterations.
    """

    images: Tensor
    history: tuple[Progress, ...]
    converged: bool


def solve(
    contrasts: Sequence[Sequence[Observation]],
    grid: Grid,
    lam: Numbers,
    *,
    tolerance: float = 1e-4,
    max_iter: int = 100,
    device: str = "auto",
    start: Numbers | None = None,
) -> Solution:
    """Find the images that minimise the objective, everything else given.

    Parameters
    ----------
    contrasts
        For each contrast its scans.
    grid
        Grid of the wanted images.
    lam
        Weight of the prior of each contrast in mm / intensity, ``(C,)``; an array, a tensor or
        a list.
    tolerance, max_iter
        When to stop; see `Stop`.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    start
        Images to start from, ``(C, X, Y, Z)``; the scans interpolated if None.

    Raises
    ------
    ValueError
        If an argument is out of range or shapes do not fit.
    """
    began = time.perf_counter()
    stop, torch_device = Stop(tolerance, max_iter), usable_device(device)
    objective = Objective(contrasts, grid, array_of(lam, np.float64), torch_device)
    images = (
        linear_images(contrasts, grid, torch_device) if start is None else floating_tensor(start)
    )
    return _minimised(objective, images, stop, None, began)


def solve_problem(
    problem: Problem,
    stop: Stop,
    start: Tensor | None = None,
    on_progress: Listener | None = None,
) -> Solution:
    """Find the images that minimise the objective of a problem, everything else given.

    Parameters
    ----------
    problem
        What is solved for.
    stop
        When to stop.
    start
        Images to start from, ``(C, X, Y, Z)``; the scans interpolated if None.
    on_progress
        Called with the state after every iteration.

    Raises
    ------
    ValueError
        If ``start`` does not have the shape of the images.
    """
    began = time.perf_counter()
    objective = problem.objective()
    return _minimised(objective, problem.start(start), stop, on_progress, began)


def continue_solving(
    problem: Problem, stop: Stop, before: Solution, on_progress: Listener | None = None
) -> Solution:
    """Solve on from images, counting time and products from where their history ended.

    Parameters
    ----------
    problem, stop, on_progress
        As for `solve_problem`.
    before
        Images to go on from, and how they came about.
    """
    earlier = before.history[-1] if before.history else Progress(0.0, 0, 0.0)
    listener = listen_from(earlier, on_progress)
    solution = solve_problem(problem, stop, before.images, listener)
    history = (*before.history, *(progress.after(earlier) for progress in solution.history))
    return replace(solution, history=history)


def _minimised(
    objective: Objective,
    start: Tensor,
    stop: Stop,
    on_progress: Listener | None,
    began: float,
) -> Solution:
    """Images that minimise an objective; ``began`` by `time.perf_counter`."""
    if tuple(start.shape) != objective.shape:
        raise ValueError(f"start must have shape {objective.shape}, got {tuple(start.shape)}")
    state = Descent(objective, _own_copy(start, objective.device))
    history: list[Progress] = []
    smoothing, stalled = _FIRST_SMOOTHING, 0
    for iteration in range(stop.max_iter + 1):
        value = state.bound(smoothing)
        elapsed = time.perf_counter() - began
        history.append(Progress(elapsed, iteration * objective.contrast_count, value))
        if on_progress is not None:
            on_progress(history[-1])
        gain = history[-2].objective - value if iteration > 0 else np.inf
        least = _LEAST_SMOOTHING * stop.tolerance
        # A rise shows that the bound was smoothed too much to be of use here.
        decay = _SMOOTHING_DECAY if gain >= 0 else _SMOOTHING_DROP
        stalled = stalled + 1 if gain < stop.tolerance * abs(value) else 0
        if gain < 0 and smoothing > least:
            stalled = 0
        smoothing = max(decay * smoothing, least)
        if stalled == _STALLED_ITERATIONS or iteration == stop.max_iter:
            break
        state.step()
    return Solution(state.images, tuple(history), stalled == _STALLED_ITERATIONS)


class Descent:
    """Images on their way down, with the gradient and the last step of every contrast.

    With weights that stay (:meth:`weigh`) it is the method of preconditioned conjugate
    gradients.

    Parameters
    ----------
    objective
        What to minimise.
    images
        ``(C, X, Y, Z)`` float32, contiguous, on the objective's device; moved in place.
    """

    def __init__(self, objective: Objective, images: Tensor) -> None:
        self.images = images
        self._objective = objective
        self._weights = torch.empty_like(images[0])
        self._direction = torch.empty_like(images[0])
        self._normal = torch.empty_like(images[0])
        self._gradient = torch.zeros_like(images)
        self._step = torch.zeros_like(images)
        self._step_normal = torch.zeros_like(images)
        self._likelihood = 0.0
        self._scale = []
        self._block_scales = []
        for c in range(objective.contrast_count):
            row_sums = torch.zeros_like(images[c])
            objective.add_row_sums(c, row_sums)
            blocks = pyramid.halvings(row_sums, _LEVELS)
            self._block_scales.append([block.mul_(_BLOCK_SHARE) for block in blocks])
            self._scale.append(row_sums.mul_(_FINE_SHARE))
            self._likelihood += objective.add_data_gradient(c, images[c], self._gradient[c])

    def bound(self, smoothing: float) -> float:
        """Bound the prior at the current images; return the objective there."""
        value = self._objective.prior.majorise(self.images, smoothing, self._weights)
        self._block_weights = pyramid.halvings(self._weights, _LEVELS)
        return self._likelihood + value

    def weigh(self, weights: Tensor) -> None:
        """Take ``sum_v w_v / 2 sum_c lambda_c^2 |D y_c|^2_v`` for the prior, ``(X, Y, Z)``."""
        self._weights.copy_(weights)
        self._block_weights = pyramid.halvings(self._weights, _LEVELS)

    def restart(self, images: Tensor, slope: Tensor) -> None:
        """Go on from other images, with ``slope'y`` added to the terms of the data without scans.

        Both ``(C, X, Y, Z)``. What the scans hold no longer counts: the data term is
        ``y'A'Ay / 2 + slope'y``.
        """
        self.images.copy_(images)
        self._gradient.copy_(slope)
        self._step.zero_()
        self._step_normal.zero_()
        for c in range(self._objective.contrast_count):
            self._objective.add_normal(c, self.images[c], self._gradient[c])

    def step(self) -> None:
        """Minimise the bound over two directions of every contrast."""
        for c in range(self._objective.contrast_count):
            self._step_contrast(c)

    def _step_contrast(self, c: int) -> None:
        factor = self._objective.prior.factor(c)
        direction, last, last_normal = self._direction, self._step[c], self._step_normal[c]
        slopes = self._descend(c, factor)
        normal = self._normal.zero_()
        explained = self._objective.add_normal(c, direction, normal)
        forms = descent.curvature(self._weights, direction, last, last_normal, factor)
        a, b = _minimise_quadratic(
            np.array([[forms.direction + explained, forms.mixed], [forms.mixed, forms.last_step]]),
            np.array(slopes),
        )
        self._likelihood += descent.step(
            a, b, direction, normal, last, last_normal, self._gradient[c], self.images[c]
        )

    def _descend(self, c: int, factor: tuple[float, float, float]) -> tuple[float, float]:
        """Fill the direction; return the slopes along it and along the last step."""
        # The product with A'A comes after the slope has served, in the same memory.
        slope, direction = self._normal, self._direction
        along_last = descent.preconditioned_direction(
            self.images[c],
            self._weights,
            self._gradient[c],
            self._scale[c],
            self._step[c],
            factor,
            slope,
            direction,
        )
        residuals = pyramid.halvings(slope, _LEVELS)
        stiffness = 2 * _BLOCK_STIFFNESS * sum(factor)
        levels = zip(residuals, self._block_scales[c], self._block_weights, strict=True)
        steps = [
            residual.div_(torch.add(scale, weights, alpha=stiffness / 4**level)).neg_()
            for level, (residual, scale, weights) in enumerate(levels, start=1)
        ]
        for coarse, fine in zip(steps[:0:-1], steps[-2::-1], strict=True):
            pyramid.add_doubled(coarse, fine, fine)
        return pyramid.add_doubled(steps[0], direction, slope), along_last


def _own_copy(images: Tensor, device: torch.device) -> Tensor:
    return images.to(device, torch.float32, copy=True).contiguous()


def _minimise_quadratic(
    hessian: NDArray[np.float64], gradient: NDArray[np.float64]
) -> tuple[float, float]:
    """Minimise ``g't + t'Ht / 2``; directions that add nothing get no step."""
    if hessian[0, 0] <= 0:
        return 0.0, 0.0
    steps = -np.linalg.pinv(hessian, rcond=1e-10, hermitian=True) @ gradient
    return float(steps[0]), float(steps[1])
