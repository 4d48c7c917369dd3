"""Residuals of scans are added back to the images, so that small spots keep their contrast.

The prior, and what is learned of typical detail, take some of the contrast of whatever is small
and rare, such as a lesion. The residual of the scan holds what is lacking, along with noise (Osher
et al. 2005, "An iterative regularization method for total variation-based image restoration").
Spread evenly over the thickness of each slice, the residual restores the contrast as the scan shows
it.

How much noise an image may take depends on how large its error is anyway, which is mostly that of
detail within slices. If residuals are small against that error, they are added back as they are.
Else they are smoothed within slices first, which removes more of noise than of spots, until they
are small enough.
"""

from __future__ import annotations

import logging
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
from .local_feedback import with_local_residuals
from .objective import weighted_data
from .repeats import Fitted

logger = logging.getLogger("bids_unires")


@dataclass(frozen=True)
class FeedbackParameters:
    """How much of residuals is added back.

    Parameters
    ----------
    largest_share
        Largest variance of what is added within slices, as a share of that of the error of learned
        detail. If all of it were noise, the mean square error of images would grow by this share.
    guided_share
        The same where another contrast showed the detail. Images are then closer to the truth than
        what the network predicts: in simulated heads with three contrasts, 0.01 costs 0.09 dB.
    least_explained
        Least share of detail that has to be explained. Below, what errors show is noise and
        outliers, such as air that a quantitative map fills with random values, and they do not tell
        how much noise the tissue may take.
    widest
        Standard deviation of the widest Gaussian that residuals are smoothed with, in voxels of
        the scan; where even that is not enough, nothing is added.
    steps
        Halvings of the interval in which the width of the Gaussian is searched.
    slices
        So many slices of a scan are searched.
    """

    largest_share: float = 0.01
    guided_share: float = 0.005
    least_explained: float = 0.2
    widest: float = 3.0
    steps: int = 8
    slices: int = 18


DEFAULTS = FeedbackParameters()


def with_residuals(fitted: Fitted, parameters: FeedbackParameters = DEFAULTS) -> Tensor:
    """The images of a fit with the residuals of scans added back.

    Parameters
    ----------
    fitted
        The fit. Only contrasts with learned detail change: of others it is not known how large
        their error is. Where scans repeat each other, no detail is learned, and none of them needs
        this: each shows what lies within the slices of the others.
    parameters
        How much is added back.

    Returns
    -------
    Tensor
        ``(C, X, Y, Z)`` float32.
    """
    images = fitted.solution.images.clone()
    for c, contrast in enumerate(fitted.contrasts):
        if contrast.modality == "CT":
            if contrast.detail_statement is not None and not contrast.has_slice_motion:
                images[c] = with_local_residuals(contrast, fitted.problem.grid, images[c])
            continue
        limit = _limit(contrast, parameters)
        if limit > 0:
            images[c] += _spread_residuals(
                contrast, fitted.problem.grid, images[c], limit, parameters
            )
    return images


def _limit(contrast: ContrastState, parameters: FeedbackParameters) -> float:
    """Largest variance, within slices, of what is added to the image of a contrast."""
    statement = contrast.detail_statement
    if statement is None or contrast.has_slice_motion:
        return 0.0
    if statement.explained < parameters.least_explained:
        return 0.0
    guided = statement.used_other_contrast
    share = parameters.guided_share if guided else parameters.largest_share
    return share * statement.error_sd**2


def _spread_residuals(
    contrast: ContrastState, grid: Grid, image: Tensor, limit: float, parameters: FeedbackParameters
) -> Tensor:
    """What to add to the image ``(X, Y, Z)`` of a contrast; its variance is below the limit."""
    total, covered = torch.zeros_like(image), torch.zeros_like(image)
    terms = contrast.terms(grid)
    for number, scan in enumerate(contrast.scans):
        even = correct_interleave(terms[number])
        operator = even.operator(grid)
        residual, head = _residual(even, scan, operator.forward(image))
        width = _width(even, residual, head, limit, parameters)
        logger.debug("residuals are smoothed by %s voxels", width)
        if width is None:
            continue
        smooth = _smoothed(even, residual, width)
        total += operator.adjoint(torch.as_tensor(smooth, device=image.device))
        covered += operator.adjoint(torch.ones(even.grid.shape, device=image.device))
    # Slices at the rim of the image reach beyond it: what they add fades out there.
    return total / covered.clamp_min(max(float(covered.max()) / 2, torch.finfo(torch.float32).tiny))


def _residual(
    even: Observation, scan: ScanState, prediction: Tensor
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Residual ``(X, Y, Z)``, lower where a voxel has less precision, and the mask of the head."""
    data, precision = weighted_data(even, prediction.device)
    trust = (precision * scan.noise.noise_sd**2).clamp_(0, 1)
    head = ((data > scan.noise.halfway) | (prediction > scan.noise.halfway)) & (precision > 0)
    return (trust * (data - prediction)).cpu().numpy(), head.cpu().numpy()


def _width(
    scan: Observation,
    residual: NDArray[np.float32],
    head: NDArray[np.bool_],
    limit: float,
    parameters: FeedbackParameters,
) -> float | None:
    """Least width in voxels of the Gaussian that keeps the variance below a limit, if any does."""
    if not head.any():
        return None
    residual, head = _some_slices(scan.slice_axis, residual, head, parameters.slices)

    def is_below(width: float) -> bool:
        # The median hardly depends on the few voxels of lesions and vessels.
        usual = MAD_TO_SD * float(np.median(np.abs(_smoothed(scan, residual, width)[head])))
        return usual**2 <= limit

    if not is_below(parameters.widest):
        return None
    if is_below(0.0):
        return 0.0
    low, high = 0.0, parameters.widest
    for _ in range(parameters.steps):
        middle = (low + high) / 2
        low, high = (low, middle) if is_below(middle) else (middle, high)
    return high


def _some_slices(
    axis: int, residual: NDArray[np.float32], head: NDArray[np.bool_], count: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """So many slices, evenly from those with head; all if there are no more."""
    with_head = np.flatnonzero(head.any(axis=tuple(other for other in range(3) if other != axis)))
    places = np.linspace(0, len(with_head) - 1, min(count, len(with_head))).round().astype(int)
    chosen = with_head[places]
    return residual.take(chosen, axis), head.take(chosen, axis)


def _smoothed(
    scan: Observation, residual: NDArray[np.float32], width: float
) -> NDArray[np.float32]:
    """A residual smoothed within slices by a Gaussian of a width in voxels."""
    sds = [0.0 if axis == scan.slice_axis else width for axis in range(3)]
    return np.asarray(ndimage.gaussian_filter(residual, sds))
