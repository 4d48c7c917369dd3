"""Standard deviations of the images, by sampling: perturb the data, and solve.

A quadratic bound of the prior makes the posterior of the images Gaussian, with the precision
``H = sum_n tau_n A_n'A_n + lambda^2 D'WD`` for each contrast. The solution d of

    ``H d = sum_n A_n' tau_n^(1/2) e_n + lambda D' W^(1/2) e``

with white noise on the right is distributed as N(0, H^-1) (Papandreou & Yuille 2010, "Gaussian
sampling by local perturbations"; Orieux, Feron & Giovannelli 2012, "Sampling high-dimensional
Gaussian distributions for general linear inverse problems"). A few steps of the solver suffice.

With the weights of the bound *at the solution*, a region that the prior has made flat would have no
uncertainty. The weights of variational Bayes are used instead, ``W = 1 / sqrt(E[s])`` with
``s = sum_c lambda_c^2 |D y_c|^2``. Its mean includes the edges of the images and those of their
deviations (Babacan, Molina & Katsaggelos 2008, "Parameter estimation in TV image restoration
using variational distribution approximation"). The latter are estimated from a few samples.

The images are not the posterior mean, and heads are not samples of the prior. Above all, the
samples hardly know where errors are: where tissues meet within a slice, the image shows something
between them, and the truth is one of them. So how far a voxel lies from the extremes around it is
the second part of its standard deviation (`between_extremes`; that the variance of a bounded
variable is largest in the middle is the inequality of Bhatia & Davis 2000, "A better bound on the
variance"). The weights of both parts come from simulated heads (`calibration`).
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
# The weights of the first samples follow from the edges of the images and this constant (no unit).
_FIRST_SMOOTHING = 0.05
_FIRST_SAMPLES = 2
# Steps of the solver for each sample.
_ITERATIONS = 10
# A few samples determine a variance poorly, so that it is averaged over neighbours: sd of the
# Gaussian, and the distance up to which it is evaluated, in voxels.
_NEIGHBOURHOOD = 1.0
_REACH = 4
# Extremes are those within a cube of this width; the distance from them is smoothed, so that it is
# not 0 at an extreme itself (sd in voxels).
_EXTREMES_MM = 5.0
_EXTREMES_SD = 0.7


@dataclass(frozen=True)
class Scales:
    """Weights of the two parts of standard deviations, without unit.

    Attributes
    ----------
    sampled
        Weight of the standard deviations from samples.
    between
        Weight of the distance from the extremes around a voxel.
    """

    sampled: float
    between: float

    def combined(
        self, sds: NDArray[np.float32], between: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Standard deviations ``(X, Y, Z)`` from both parts."""
        return np.float32(self.sampled) * sds + np.float32(self.between) * between


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Standard deviations of the images.

    Attributes
    ----------
    sds
        ``(C, X, Y, Z)`` float32, in the units of the images, above 0. Where no scan of a contrast
        measured anything, it is the difference between head and air.
    scales
        Weights of the parts of the standard deviations of each contrast, from the calibration.
    samples
        Number of samples.
    """

    sds: NDArray[np.float32]
    scales: tuple[Scales, ...]
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
        ``(C, X, Y, Z)`` float32, the minimum of the objective; the samples are drawn on its device.
    samples
        Number of samples, at least 1. Their squares are averaged, also over neighbouring voxels.
    seed
        Seed of the samples: the same one gives the same result.

    Returns
    -------
    Tensor
        ``(C, X, Y, Z)`` float32.

    Notes
    -----
    The bound does not couple the contrasts, so that each has samples of its own. As in the fit,
    the sharp contrasts guide the others (`group_by_sharpness`).
    """
    grid, lam = problem.grid, problem.weights
    contrasts = [contrast.terms(grid) for contrast in problem.contrasts]
    sds = torch.empty_like(images)
    guide = torch.zeros_like(images[0])
    for group in group_by_sharpness(contrasts, grid):
        group_edges = edge_squares(images[list(group)], grid, [lam[c] for c in group])
        edges = guide + group_edges
        first = torch.rsqrt(edges + _FIRST_SMOOTHING**2)
        # Samples with the first weights are where those with the final weights start.
        starts: dict[int, list[Tensor]] = {}
        for c in group:
            sampler = Sampler(contrasts[c], grid, lam[c], images.device, (seed, c))
            starts[c] = [sampler.sample(first, k) for k in range(min(_FIRST_SAMPLES, samples))]
            squares = edge_squares(torch.stack(starts[c]), grid, [lam[c]] * len(starts[c]))
            edges = edges + smooth(squares / len(starts[c]), _NEIGHBOURHOOD)
        weights = edges.rsqrt_()
        for c in group:
            sampler = Sampler(contrasts[c], grid, lam[c], images.device, (seed, c))
            variance = torch.zeros_like(images[0])
            for k in range(samples):
                start = starts[c].pop(0) if starts[c] else None
                variance += sampler.sample(weights, k, start).square_()
            sds[c] = smooth(variance / samples, _NEIGHBOURHOOD).sqrt_()
        guide = guide + group_edges
    return sds


def between_extremes(image: Tensor, voxel_size: Sequence[float]) -> Tensor:
    """How far the intensity of each voxel is from the nearer one of the extremes around it.

    Parameters
    ----------
    image
        ``(X, Y, Z)``.
    voxel_size
        mm along each axis.

    Examples
    --------
    >>> ramp = torch.arange(9.0).expand(9, 9, 9)
    >>> round(float(between_extremes(ramp, (1, 1, 1))[4, 4, 4]), 3)
    2.0
    """
    reach = [max(1, round((_EXTREMES_MM / float(size) - 1) / 2)) for size in voxel_size]
    sides = [2 * side + 1 for side in reach]

    def highest(field: Tensor) -> Tensor:
        return torch.nn.functional.max_pool3d(field[None], sides, 1, reach)[0]

    nearer = torch.minimum(highest(image) - image, image + highest(-image))
    return smooth(nearer, _EXTREMES_SD)


class Sampler:
    """Draws deviations of the image of one contrast.

    Parameters
    ----------
    scans
        Scans of the contrast, at their poses.
    grid
        Grid of the image.
    lam
        Weight of the prior in mm / intensity.
    device
        Device of the samples.
    seed
        Integers, different for each contrast.
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
            Weights of the quadratic bound, ``(X, Y, Z)``.
        number
            Number of the sample. The same number gives the same white noise.
        start
            ``(X, Y, Z)``, where the solver starts: the sample of this number with other weights.
            None for 0.
        iterations
            Steps of the solver.
        """
        self._descent.fix_prior(weights)
        initial = torch.zeros_like(weights) if start is None else start
        self._descent.restart(initial[None], -self._perturbation(weights, number)[None])
        for _ in range(iterations):
            self._descent.step()
        return self._descent.images[0].clone()

    def _perturbation(self, weights: Tensor, number: int) -> Tensor:
        """``sum_n A_n' tau_n^(1/2) e_n + lambda D' W^(1/2) e``."""
        noise = np.random.default_rng([*self._seed, number])
        root_weights = weights.sqrt().mul_(self._lam)
        sizes = self._grid.voxel_size.tolist()
        # One axis at a time: three fields at once would take most of the memory.
        field = (self._white(noise, self._grid.shape).mul_(root_weights) for _ in sizes)
        total = differences_adjoint(field, sizes)
        for operator, root in self._scans:
            total += operator.adjoint(self._white(noise, tuple(root.shape)).mul_(root))
        return total

    def _white(self, noise: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
        # Drawn on the CPU, so that the result is the same on every device.
        return torch.from_numpy(noise.standard_normal(shape, dtype=np.float32)).to(self._device)


def smooth(field: Tensor, sd: float) -> Tensor:
    """Convolve a field ``(X, Y, Z)`` with a Gaussian, whose ``sd`` is in voxels.

    Beyond the borders, the values of the outermost voxels are repeated.

    Examples
    --------
    >>> smooth(torch.full((2, 3, 4), 5.0), 1.0).unique().tolist()
    [5.0]
    """
    weights = [float(np.exp(-((offset / sd) ** 2) / 2)) for offset in range(-_REACH, _REACH + 1)]
    for axis in range(3):
        side = field.shape[axis]
        total = torch.zeros_like(field)
        places = torch.arange(side, device=field.device)
        for offset, weight in enumerate(weights, start=-_REACH):
            shifted = field.index_select(axis, (places + offset).clamp_(0, side - 1))
            total.add_(shifted, alpha=weight / sum(weights))
        field = total
    return field
