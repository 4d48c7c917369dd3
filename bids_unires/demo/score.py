"""Peak signal-to-noise ratio of an image compared with the truth, in dB."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from ..space.affines import Affine, apply_affine
from ..space.grid import Grid
from ..space.volume import Volume


@dataclass(frozen=True)
class Score:
    """Peak signal-to-noise ratios in dB inside the head, all on the grid of the result.

    Parameters
    ----------
    linear, cubic
        Ratio of the scan interpolated with linear and with cubic B-splines.
    result
        Ratio of the reconstruction.
    """

    linear: float
    cubic: float
    result: float

    @property
    def gain(self) -> float:
        """Gain of the reconstruction over cubic B-spline interpolation, in dB."""
        return self.result - self.cubic


def psnr(
    image: NDArray[np.float32], truth: NDArray[np.float32], inside: NDArray[np.bool_]
) -> float:
    """Peak signal-to-noise ratio in dB; the peak is the largest value of the truth in the mask.

    Parameters
    ----------
    image, truth
        Intensities ``(X, Y, Z)``.
    inside
        Mask ``(X, Y, Z)`` of the voxels to compare; at least one.

    Returns
    -------
    float
        ``20 log10(peak / rms(image - truth))``; infinite for equal images.

    Raises
    ------
    ValueError
        If the mask is empty.
    """
    if not inside.any():
        raise ValueError("no voxel lies inside the head: nothing to compare")
    expected = truth[inside].astype(np.float64)
    rms = np.sqrt(np.mean((image[inside].astype(np.float64) - expected) ** 2))
    with np.errstate(divide="ignore"):
        return float(20 * np.log10(expected.max() / rms))


def resample(
    volume: Volume, grid: Grid, grid_to_volume: Affine, order: int, mode: str = "nearest"
) -> NDArray[np.float32]:
    """Interpolate a volume on another grid with B-splines.

    Parameters
    ----------
    volume
        Volume to interpolate.
    grid
        Grid to interpolate on.
    grid_to_volume
        ``(4, 4)``, world of the grid to world of the volume, mm.
    order
        Degree of the spline: 0 nearest, 1 linear, 3 cubic.
    mode
        Extrapolation outside the volume, as in `scipy.ndimage`.

    Returns
    -------
    numpy.ndarray
        ``(X, Y, Z)`` float32, the shape of ``grid``.
    """
    matrix = np.linalg.inv(volume.affine) @ grid_to_volume @ grid.affine
    pulled = ndimage.affine_transform(
        volume.data,
        matrix[:3, :3],
        offset=matrix[:3, 3],
        output_shape=grid.shape,
        output=np.float32,
        order=order,
        mode=mode,
    )
    return np.asarray(pulled)


def score(
    result: Volume,
    scan: Volume,
    truth: Volume,
    head: Volume,
    *,
    to_scan: Affine,
    to_truth: Affine,
) -> Score:
    """Compare a reconstruction, and interpolations of its scan, with the truth.

    Parameters
    ----------
    result
        The reconstruction; all images are compared on its grid.
    scan
        The scan with thick slices from which it was made.
    truth
        The same contrast at full resolution.
    head
        Mask of the head in the truth, 1 inside and 0 in air.
    to_scan, to_truth
        ``(4, 4)``, world of the result to world of the scan and of the truth, mm.

    Returns
    -------
    Score
        Scores over the voxels of the head that lie inside the scan.
    """
    grid = result.grid
    scanned = Volume(np.ones_like(scan.data), scan.affine)
    inside = resample(head, grid, to_truth, order=0, mode="constant") > 0.5
    inside &= resample(scanned, grid, to_scan, order=1, mode="constant") > 0.99
    points = apply_affine(grid.affine, np.argwhere(inside))
    # Threads help, because the interpolation releases Python's lock (GIL).
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        jobs = [
            threads.submit(_sample, volume, to_volume, order, points)
            for volume, to_volume, order in (
                (truth, to_truth, 3),
                (scan, to_scan, 3),
                (scan, to_scan, 1),
            )
        ]
    expected, cubic, linear = (job.result() for job in jobs)
    everywhere = np.ones(expected.shape, dtype=bool)
    return Score(
        linear=psnr(linear, expected, everywhere),
        cubic=psnr(cubic, expected, everywhere),
        result=psnr(result.data[inside], expected, everywhere),
    )


def _sample(
    volume: Volume, to_volume: Affine, order: int, points: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Interpolate as `resample`, at world points ``(N, 3)`` instead of a grid: ``(N,)``."""
    places = apply_affine(np.linalg.inv(volume.affine) @ to_volume, points)
    sampled = ndimage.map_coordinates(
        volume.data, places.T, output=np.float32, order=order, mode="nearest"
    )
    return np.asarray(sampled)
