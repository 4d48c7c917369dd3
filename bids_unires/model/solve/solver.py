"""Minimising the objective over the images: a memory-gradient method on a quadratic bound.

Every iteration bounds the prior from above by a quadratic at the current images
(majorise-minimise) and minimises bound plus data term exactly over two directions per
contrast: the preconditioned gradient and the last step. This is the method of conjugate gradients
without a restart when the bound changes (Chouzenoux, Idier & Moussaoui 2011, "A majorize-minimize
strategy for subspace optimization applied to image restoration"). One iteration (`Descent.step`)
costs one product with A'A per contrast.

The preconditioner is a sum of diagonal preconditioners at several resolutions (Bramble, Pasciak &
Xu 1990, "Parallel multilevel preconditioners"). The bound couples neighbouring voxels of flat
regions so strongly that a diagonal preconditioner alone would take hundreds of iterations to carry
a correction across such a region.
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
from ..scanner.resampling import starting_images
from .objective import Objective
from .problem import Problem, Stop

# Smoothing of the prior (no unit) decreases: flat regions are coupled weakly first, then strongly.
_FIRST_SMOOTHING = 0.05
_SMOOTHING_DECAY = 0.9
_SMOOTHING_DROP = 0.25
# Least smoothing, in units of the tolerance: with a lower tolerance there is less smoothing.
_LEAST_SMOOTHING = 10.0
# Factors on the row sums of A'A that give the diagonal of the preconditioner. At the resolution of
# the image the row sums are too large, since slices couple many voxels. For blocks of voxels, which
# change together, they are too small.
_FINE_SHARE = 0.5
_BLOCK_SHARE = 8.0
# The prior's diagonal for smooth blocks of side 2^l is that of voxels times this over 4^l.
_BLOCK_STIFFNESS = 2.0
_LEVELS = 3
# The solver stops after so many iterations in a row with little gain: a single one proves nothing.
_STALLED_ITERATIONS = 3


class Progress(NamedTuple):
    """The state of the solver after an iteration.

    Attributes
    ----------
    seconds
        Time since the solver was called.
    products
        Products with A'A of all contrasts in the iterations so far. Setting up takes two more for
        each contrast, which are not counted.
    objective
        Value of the objective.
    """

    seconds: float
    products: int
    objective: float

    def after(self, earlier: Progress) -> Progress:
        """The same state, counting time and products from the start of an earlier solver."""
        return self._replace(
            seconds=self.seconds + earlier.seconds, products=self.products + earlier.products
        )


Listener: TypeAlias = Callable[[Progress], None]
"""Called after every iteration."""


def listen_from(earlier: Progress, on_progress: Listener | None) -> Listener | None:
    """A listener that counts time and products from the start of an earlier solver.

    Parameters
    ----------
    earlier
        State in which the earlier solver ended.
    on_progress
        The listener to call; None for no listener.
    """
    if on_progress is None:
        return None
    return lambda progress: on_progress(progress.after(earlier))


@dataclass(frozen=True, eq=False)
class Solution:
    """Images that the solver found.

    Attributes
    ----------
    images
        ``(C, X, Y, Z)`` float32 on the device of the solver.
    history
        State before the first iteration and after every iteration.
    converged
        Whether the solver stopped by the tolerance, not by the bound on iterations.
    tolerance
        That tolerance; see `Stop`.
    """

    images: Tensor
    history: tuple[Progress, ...]
    converged: bool
    tolerance: float


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
    """Find the images that minimise the objective, with poses and weights fixed.

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
        Images to start from, ``(C, X, Y, Z)``; `starting_images` if None.

    Raises
    ------
    ValueError
        If an argument is out of range or shapes do not fit.
    """
    began = time.perf_counter()
    stop, torch_device = Stop(tolerance, max_iter), usable_device(device)
    objective = Objective(contrasts, grid, array_of(lam, np.float64), torch_device)
    images = (
        starting_images(contrasts, grid, torch_device) if start is None else floating_tensor(start)
    )
    return _minimised(objective, images, stop, None, began)


def solve_problem(
    problem: Problem,
    stop: Stop,
    start: Tensor | None = None,
    on_progress: Listener | None = None,
) -> Solution:
    """Find the images that minimise the objective of a problem, with poses and weights fixed.

    Parameters
    ----------
    problem
        The contrasts, their scans and their prior.
    stop
        When the solver stops.
    start
        Images to start from, ``(C, X, Y, Z)``; `starting_images` if None.
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
    """Go on solving from images; time and products are added to those of their history.

    Parameters
    ----------
    problem, stop, on_progress
        As for `solve_problem`.
    before
        Images to go on from, and their history.
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
    """Minimise an objective from ``start``, ``began`` being the time of the call in s."""
    if tuple(start.shape) != objective.shape:
        raise ValueError(f"start must have shape {objective.shape}, got {tuple(start.shape)}")
    state = Descent(objective, _float_copy(start, objective.device))
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
        # If the objective rises, the smoothing of the bound is too strong.
        decay = _SMOOTHING_DECAY if gain >= 0 else _SMOOTHING_DROP
        stalled = stalled + 1 if gain < stop.tolerance * abs(value) else 0
        if gain < 0 and smoothing > least:
            stalled = 0
        smoothing = max(decay * smoothing, least)
        if stalled == _STALLED_ITERATIONS or iteration == stop.max_iter:
            break
        state.step()
    converged = stalled == _STALLED_ITERATIONS
    return Solution(state.images, tuple(history), converged, stop.tolerance)


class Descent:
    """Images during the descent, with the gradient and the last step of every contrast.

    With constant weights of the prior (:meth:`fix_prior`) this is the method of preconditioned
    conjugate gradients.

    Parameters
    ----------
    objective
        The function to minimise.
    images
        ``(C, X, Y, Z)`` float32, contiguous, on the device of the objective; changed in place.
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
        """Set the quadratic bound of the prior at the images; return the objective there."""
        value = self._objective.prior.majorise(self.images, smoothing, self._weights)
        self._block_weights = pyramid.halvings(self._weights, _LEVELS)
        return self._likelihood + value

    def fix_prior(self, weights: Tensor) -> None:
        """Replace the prior by ``sum_v w_v / 2 sum_c lambda_c^2 |D y_c|^2_v``, w ``(X, Y, Z)``."""
        self._weights.copy_(weights)
        self._block_weights = pyramid.halvings(self._weights, _LEVELS)

    def restart(self, images: Tensor, slope: Tensor) -> None:
        """Go on from other images, with the data term ``sum_n tau_n |A_n y|^2 / 2 + slope'y``.

        Parameters
        ----------
        images, slope
            ``(C, X, Y, Z)`` both. The data of the scans have no influence any more.
        """
        self.images.copy_(images)
        self._gradient.copy_(slope)
        self._step.zero_()
        self._step_normal.zero_()
        for c in range(self._objective.contrast_count):
            self._objective.add_normal(c, self.images[c], self._gradient[c])

    def step(self) -> None:
        """Second half of an iteration, after `bound`.

        Bound plus data term become least over two directions of every contrast.
        """
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
        """Compute the new direction; return the slopes along it and along the last step."""
        # The slope is needed only before the product with A'A, so that both share memory.
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
        # From the coarsest level to the finest, each adds the step of the level above to its own.
        coarse: Tensor | None = None
        for level in reversed(range(_LEVELS)):
            scale, weights = self._block_scales[c][level], self._block_weights[level]
            step = residuals[level]
            step.div_(torch.add(scale, weights, alpha=stiffness / 4 ** (level + 1))).neg_()
            if coarse is not None:
                pyramid.add_doubled(coarse, step, step)
            coarse = step
        return pyramid.add_doubled(residuals[0], direction, slope), along_last


def _float_copy(images: Tensor, device: torch.device) -> Tensor:
    return images.to(device, torch.float32, copy=True).contiguous()


def _minimise_quadratic(
    hessian: NDArray[np.float64], gradient: NDArray[np.float64]
) -> tuple[float, float]:
    """Minimise ``g't + t'Ht / 2`` over t ``(2,)``; a direction without curvature gets no step."""
    if hessian[0, 0] <= 0:
        return 0.0, 0.0
    steps = -np.linalg.pinv(hessian, rcond=1e-10, hermitian=True) @ gradient
    return float(steps[0]), float(steps[1])
