"""Residuals of CT are added back to the images where they stand out from noise.

The prior, and detail learned from the rest of the head, take some of the contrast of what is small
and rare: a bleeding, a calcification, the rim of a bone. The residual of the scan shows it along
with noise (Osher et al. 2005, "An iterative regularization method for total variation-based image
restoration"). In CT the two are easy to tell apart, since noise is about the same in all soft
tissue, but bone is a hundred times as bright as the differences within the brain. So every place is
judged on its own, and at several sizes: the residual is divided into bands from fine to coarse
within the slices, and of each band that part is added back by which its local power exceeds that of
noise (the filter of Wiener 1949; Lee 1980, "Digital image enhancement and noise filtering by use of
local statistics"). The power of noise is that of the residual in most of the head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from ...space.grid import Grid
from ..intensity.scan_state import ScanState
from ..intensity.smooth_blocks import MAD_TO_SD
from ..scanner.observation import Observation
from ..scanner.slice_groups import correct_interleave
from ..state import ContrastState
from .objective import weighted_data

Values = NDArray[np.float32]


@dataclass(frozen=True)
class LocalFeedback:
    """How residuals are added back where they stand out from noise.

    Parameters
    ----------
    widths
        Standard deviations, in voxels of the scan, of the Gaussians that divide the residual into
        bands within slices, ascending.
    window
        Standard deviation of the Gaussian window in which the power of a band is measured, over
        that of the next wider Gaussian.
    threshold
        Power, over that of noise, below which nothing is added back. Noise in so small a window
        seldom reaches 3.
    rounds
        How often the rest of the residual is added back: one that is spread over the voxels of the
        image is blurred a little.
    """

    widths: tuple[float, ...] = (0.7, 1.4, 2.8)
    window: float = 1.0
    threshold: float = 3.0
    rounds: int = 2


DEFAULTS = LocalFeedback()


def with_local_residuals(
    contrast: ContrastState, grid: Grid, image: Tensor, parameters: LocalFeedback = DEFAULTS
) -> Tensor:
    """The image of a contrast with what stands out from noise in the residuals of its scans.

    Parameters
    ----------
    contrast
        The contrast, with the poses of its scans.
    grid, image
        Its image ``(X, Y, Z)`` float32, and the grid.
    parameters
        How residuals are added back.
    """
    terms = [correct_interleave(term) for term in contrast.terms(grid)[: len(contrast.scans)]]
    operators = [term.operator(grid) for term in terms]
    covered = sum(
        (operator.adjoint(torch.ones(operator.source.shape, device=image.device)))
        for operator in operators
    )
    # Slices at the rim of the image reach beyond it: what they add fades out there.
    least = max(float(torch.as_tensor(covered).max()) / 2, torch.finfo(torch.float32).tiny)
    covered = torch.as_tensor(covered).clamp_min(least)
    image = image.clone()
    for _ in range(parameters.rounds):
        total = torch.zeros_like(image)
        for scan, term, operator in zip(contrast.scans, terms, operators, strict=True):
            residual, head = _residual(term, scan, operator.forward(image))
            kept = standing_out(residual, head, term.slice_axis, parameters)
            total += operator.adjoint(torch.as_tensor(kept, device=image.device))
        image += total / covered
    return image


def standing_out(
    residual: Values, head: NDArray[np.bool_], slice_axis: int, parameters: LocalFeedback = DEFAULTS
) -> Values:
    """The part of a residual that stands out from noise.

    Parameters
    ----------
    residual
        ``(X, Y, Z)``; 0 where nothing was measured.
    head
        Bool ``(X, Y, Z)``, voxels of the head; most of them show noise alone.
    slice_axis
        Axis across the slices, whose noise is independent.
    parameters
        Bands and threshold.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(60, 60, 3)).astype(np.float32)
    >>> everywhere = np.ones(noise.shape, dtype=bool)
    >>> kept = standing_out(noise, everywhere, 2)
    >>> bool(kept.std() < 0.3)
    True
    """
    kept = np.zeros_like(residual)
    if not head.any():
        return kept
    rest = residual
    for width in parameters.widths:
        smooth = _smoothed(rest, width, slice_axis)
        kept += _louder_than_noise(rest - smooth, head, width, slice_axis, parameters)
        rest = smooth
    kept += _louder_than_noise(rest, head, parameters.widths[-1], slice_axis, parameters)
    return kept


def _louder_than_noise(
    band: Values,
    head: NDArray[np.bool_],
    width: float,
    slice_axis: int,
    parameters: LocalFeedback,
) -> Values:
    """One band of a residual, times the share of its local power that is not noise."""
    noise = MAD_TO_SD * float(np.median(np.abs(band[head])))
    power = _smoothed(band * band, parameters.window * width, slice_axis)
    limit = np.float32(parameters.threshold * noise**2)
    noisy = np.divide(limit, power, out=np.ones_like(power), where=power > limit)
    return np.asarray(band * (1 - noisy))


def _residual(
    term: Observation, scan: ScanState, prediction: Tensor
) -> tuple[Values, NDArray[np.bool_]]:
    """What an image leaves unexplained of a scan, 0 where missing, and the mask of the head."""
    data, precision = weighted_data(term, prediction.device)
    measured = precision > 0
    head = ((data > scan.noise.halfway) | (prediction > scan.noise.halfway)) & measured
    residual = torch.where(measured, data - prediction, 0.0)
    return residual.cpu().numpy(), head.cpu().numpy()


def _smoothed(values: Values, width: float, slice_axis: int) -> Values:
    sds = [0.0 if axis == slice_axis else width for axis in range(3)]
    return np.asarray(ndimage.gaussian_filter(values, sds, mode="nearest"))
