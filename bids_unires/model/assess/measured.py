"""Measured or inferred: how much of the detail of an image its scans determine.

Detail is what an image has beyond a blurred copy of it. The scans determine the part of it that
would be seen in them above noise; the rest follows from the prior and from learned detail alone:
had it been different, the scans would be the same. The part that they determine is the mean of a
Gaussian posterior in which the detail has no prior but its variance,

    ``m = (sum_n tau_n A_n'A_n + 1 / v)^-1 sum_n tau_n A_n'A_n d``

with the detail ``d`` and its variance ``v`` in the head. Its share of the power of the detail
around a voxel is near 1 where structures run across the slices, and low where they run along them.
In geophysics, the matrix in front of ``d`` is called the model resolution (Backus & Gilbert 1968,
"The resolving power of gross Earth data").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from ...space.grid import Grid
from ..scanner.observation import Observation
from ..solve.objective import Objective
from ..solve.problem import Problem

# Detail is finer than a Gaussian of this standard deviation, as a share of the thickest slices.
_FINER = 0.5
# Its power is that around a voxel, in a Gaussian window with this standard deviation in voxels.
_WINDOW = 1.5
_MOST_STEPS = 20
# The solver stops when the square of the residual is this share of its first value.
_TOLERANCE = 1e-6


def measured_shares(problem: Problem, images: Tensor) -> Tensor:
    """Share of the detail around each voxel that the scans of its contrast measured.

    Parameters
    ----------
    problem
        The contrasts, with their scans at their poses.
    images
        ``(C, X, Y, Z)`` float32, the images that are shown.

    Returns
    -------
    Tensor
        ``(C, X, Y, Z)`` float32 on the CPU, 0 to 1. Where there is less detail than noise, it is
        near the mean share of the head.
    """
    shares = []
    for contrast, image in zip(problem.split_by_motion().contrasts, images, strict=True):
        scans = contrast.observations
        noise = float(np.mean([scan.noise.noise_sd**2 for scan in contrast.scans]))
        threshold = float(np.mean([scan.noise.halfway for scan in contrast.scans]))
        shares.append(_shares(scans, problem.grid, image, threshold, noise))
    return torch.from_numpy(np.stack(shares))


def _shares(
    scans: Sequence[Observation], grid: Grid, image: Tensor, threshold: float, noise: float
) -> NDArray[np.float32]:
    """`measured_shares` of one image ``(X, Y, Z)``, whose head is brighter than a threshold."""
    values = image.cpu().numpy()
    thickest = max(float(max(scan.grid.voxel_size)) for scan in scans)
    detail = values - ndimage.gaussian_filter(values, _FINER * thickest / grid.voxel_size)
    head = values > threshold
    variance = float(np.mean(np.square(detail[head], dtype=np.float64))) if head.any() else 0.0
    if variance == 0:
        return np.zeros(grid.shape, dtype=np.float32)
    inferred = detail - _determined(scans, grid, detail, variance, image.device)
    usual = float(np.mean(np.square(inferred[head], dtype=np.float64))) / variance
    power = ndimage.gaussian_filter(detail**2, _WINDOW) + np.float32(noise)
    lacking = ndimage.gaussian_filter(inferred**2, _WINDOW) + np.float32(usual * noise)
    return np.asarray(np.clip(1 - lacking / power, 0, 1))


def _determined(
    scans: Sequence[Observation],
    grid: Grid,
    detail: NDArray[np.float32],
    variance: float,
    device: torch.device,
) -> NDArray[np.float32]:
    """The part of detail ``(X, Y, Z)`` of a variance that scans determine."""
    objective = Objective([scans], grid, [1.0], device)
    # In standard deviations of the detail: units of intensity may be tiny or huge.
    unit = np.float32(math.sqrt(variance))

    def explained(field: Tensor) -> Tensor:
        product = torch.zeros_like(field)
        objective.add_normal(0, field, product)
        return product.mul_(variance)

    right = explained(torch.as_tensor(detail / unit, device=device))
    found = _solved(lambda field: explained(field).add_(field), right)
    return unit * found.cpu().numpy()


def _solved(product: Callable[[Tensor], Tensor], right: Tensor) -> Tensor:
    """Solve for a field by conjugate gradients, given its product with the matrix."""
    found, residual = torch.zeros_like(right), right.clone()
    direction, square = right.clone(), _square(right)
    least = _TOLERANCE * square
    for _ in range(_MOST_STEPS):
        if square <= least:
            break
        image = product(direction)
        step = square / float(torch.sum(direction * image, dtype=torch.float64))
        found.add_(direction, alpha=step)
        residual.sub_(image, alpha=step)
        before, square = square, _square(residual)
        direction.mul_(square / before).add_(residual)
    return found


def _square(field: Tensor) -> float:
    return float(torch.sum(field * field, dtype=torch.float64))
