"""How far the images may be off: standard deviations by perturbing and solving.

A quadratic bound of the prior makes the posterior of the images Gaussian, with the precision
``H = sum_n tau_n A_n'A_n + lambda^2 D'WD`` for each contrast. The solution d of

    ``H d = sum_n A_n' tau_n^(1/2) e_n + lambda D' W^(1/2) e``

with white noise on the right is distributed as N(0, H^-1) (Papandreou & Yuille 2010, "Gaussian
sampling by local perturbations"; Orieux, Feron & Giovannelli 2012, "Sampling high-dimensional
Gaussian distributions for general linear inverse problems"). It takes the solver a few steps.

Weights of the bound *at the solution* would say that a region the prior has made flat is known
to be flat. In their place are those of variational Bayes, ``W = 1 / sqrt(E[s])`` with
``s = sum_c lambda_c^2 |D y_c|^2``, whose mean holds the images' own edges and those of their
deviations (Babacan, Molina & Katsaggelos 2008, "Parameter estimation in TV image restoration
using variational distribution approximation"). A few samples tell the latter.

What this leaves out (the images are no posterior mean, and heads are no sample of the prior)
is measured on simulated heads; see :mod:`.calibration`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...space.grid import Grid
from ..guided import group_by_sharpness
from ..prior.total_variation import differences_adjoint, edge_squares
from ..scanner.observation import Observation
from ..solve.objective import Objective, weighted_data
from ..solve.problem import Problem
from ..solve.solver import Descent

SEED = 2018
# The first samples, for the weights alone, take the images' edges and this (no unit).
_FIRST_SMOOTHING = 0.05
_FIRST_SAMPLES = 2
# Steps of the solver for each sample.
_ITERATIONS = 10
# Eight squares of a deviation say little about its variance; those of the neighbours help.
_NEIGHBOURHOOD = 1.0
_REACH = 4


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Standard deviations of the images.

    Attributes
    ----------
    sds
        ``(C, X, Y, Z)`` float32, in the units of the images, above 0. Where no scan of a
        contrast measured it is the contrast between its head and air.
    scales
        Factor on the standard deviations of each contrast, from the calibration.
    samples
        How many samples they come from.
    """

    sds: NDArray[np.float32]
    scales: tuple[float, ...]
    samples: int


def standard_deviations(
    problem: Problem, images: Tensor, *, samples: int, seed: int = SEED
) -> Tensor:
    """Posterior standard deviation of every voxel, before calibration.

    Parameters
    ----------
    problem
        Contrasts with the poses, precisions and weights of the fit.
    images
        ``(C, X, Y, Z)`` float32, where the objective is least; work is done on its device.
    samples
        How many samples to draw, at least 1. Their squares are averaged, and then over
        neighbouring voxels.
    seed
        Of the samples: the same one gives the same result.

    Returns
    -------
    Tensor
        ``(C, X, Y, Z)`` float32.

    Notes
    -----
    The bound does not couple the contrasts, so that each has samples of its own. As in the
    fit, contrasts of the second tier are guided by the images of the first.
    """
    grid, lam = problem.grid, problem.weights
    contrasts = [contrast.terms(grid) for contrast in problem.contrasts]
    sds = torch.empty_like(images)
    guide = torch.zeros_like(images[0])
    for group in group_by_sharpness(contrasts, grid):
        own = edge_squares(images[list(group)], grid, [lam[c] for c in group])
        edges = guide + own
        first = torch.rsqrt(edges + _FIRST_SMOOTHING**2)
        begun: dict[int, list[Tensor]] = {}
        # Kept on their way: samples of the first weights are where those of the last begin.
        for c in group:
            sampler = Sampler(contrasts[c], grid, lam[c], images.device, (seed, c))
            begun[c] = [sampler.sample(first, k) for k in range(min(_FIRST_SAMPLES, samples))]
            squares = edge_squares(torch.stack(begun[c]), grid, [lam[c]] * len(begun[c]))
            edges = edges + smooth(squares / len(begun[c]), _NEIGHBOURHOOD)
        weights = edges.rsqrt_()
        for c in group:
            sampler = Sampler(contrasts[c], grid, lam[c], images.device, (seed, c))
            variance = torch.zeros_like(images[0])
            for k in range(samples):
                start = begun[c].pop(0) if begun[c] else None
                variance += sampler.sample(weights, k, start).square_()
            sds[c] = smooth(variance / samples, _NEIGHBOURHOOD).sqrt_()
        guide = guide + own
    return sds


class Sampler:
    """Draws deviations of the image of one contrast.

    Parameters
    ----------
    scans, lam
        Of the contrast.
    grid
        Grid of the image.
    device
        Where to work.
    seed
        Whole numbers that set its samples apart from those of other contrasts.
    """

    def __init__(
        self,
        scans: Sequence[Observation],
        grid: Grid,
        lam: float,
        device: torch.device,
        seed: tuple[int, ...],
    ) -> None:
        self._grid = grid
        self._lam = lam
        self._device = device
        self._seed = seed
        self._scans = [
            (scan.operator(grid), weighted_data(scan, device)[1].sqrt_()) for scan in scans
        ]
        self._descent = Descent(
            Objective([scans], grid, [lam], device), torch.zeros((1, *grid.shape), device=device)
        )

    def sample(
        self,
        weights: Tensor,
        number: int,
        start: Tensor | None = None,
        iterations: int = _ITERATIONS,
    ) -> Tensor:
        """Draw one deviation, ``(X, Y, Z)``.

        Parameters
        ----------
        weights
            Of the quadratic bound, ``(X, Y, Z)``.
        number
            Of the sample. The same white noise belongs to the same number.
        start
            Where to begin: the sample of this number with other weights. None for 0.
        iterations
            Steps of the solver.
        """
        self._descent.weigh(weights)
        begin = torch.zeros_like(weights) if start is None else start
        self._descent.restart(begin[None], -self._perturbation(weights, number)[None])
        for _ in range(iterations):
            self._descent.step()
        return self._descent.images[0].clone()

    def _perturbation(self, weights: Tensor, number: int) -> Tensor:
        """``sum_n A_n' tau_n^(1/2) e_n + lambda D' W^(1/2) e``."""
        noise = np.random.default_rng([*self._seed, number])
        root_weights = weights.sqrt().mul_(self._lam)
        sizes = self._grid.voxel_size.tolist()
        # One axis at a time: three white fields at once would be most of the memory.
        field = (self._white(noise, self._grid.shape).mul_(root_weights) for _ in sizes)
        total = differences_adjoint(field, sizes)
        for operator, root in self._scans:
            total += operator.adjoint(self._white(noise, tuple(root.shape)).mul_(root))
        return total

    def _white(self, noise: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
        # Drawn on the CPU, so that every device gets the same.
        return torch.from_numpy(noise.standard_normal(shape, dtype=np.float32)).to(self._device)


def smooth(field: Tensor, sd: float) -> Tensor:
    """A field ``(X, Y, Z)`` averaged with Gaussian weights, ``sd`` in voxels.

    Beyond its borders it goes on with the same values.

    Examples
    --------
    >>> smooth(torch.full((2, 3, 4), 5.0), 1.0).unique().tolist()
    [5.0]
    """
    offsets = range(-_REACH, _REACH + 1)
    weights = [float(np.exp(-((offset / sd) ** 2) / 2)) for offset in offsets]
    for axis in range(3):
        side = field.shape[axis]
        total = torch.zeros_like(field)
        places = torch.arange(side, device=field.device)
        for offset, weight in zip(offsets, weights, strict=True):
            beside = field.index_select(axis, (places + offset).clamp_(0, side - 1))
            total.add_(beside, alpha=weight / sum(weights))
        field = total
    return field
