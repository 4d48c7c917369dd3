"""Learned detail within slices: a scan with thin slices that the fit uses as one more scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...space.grid import Grid
from ..intensity.noise import NoiseEstimate
from ..scanner.observation import Observation
from ..scanner.profile import SliceProfile

# Standard deviation of an interpolated image of an earlier fit, in units of the noise. With 2,
# images on a study's grid are up to 0.09 dB further from the truth; with 0.7 it is 0.01 dB.
_EARLIER_FIT_NOISE = 1.0


@dataclass(frozen=True)
class DetailStatement:
    """How accurate learned detail is, where the truth is known: within the planes of the scan.

    Attributes
    ----------
    error_sd
        Root mean square error within the planes of the scan, in intensity.
    explained
        Share of the variance of the detail that is explained, at most 1.
    used_other_contrast
        Whether another contrast, which resolves the slices, was used as a guide.
    """

    error_sd: float
    explained: float
    used_other_contrast: bool


@dataclass(frozen=True, eq=False)
class LearnedDetail:
    """Detail within the slices of a scan.

    Attributes
    ----------
    scan
        The scan with thin slices, and a precision for each voxel; 0 in air.
    statement
        How accurate it is; None if it is an earlier image that was made without learned detail.
    of_changed
        Takes what is added to the intensities of the scan, ``(X, Y, Z)``, and threads to predict
        with; returns the thin slices of the changed scan, by what was learned already. It keeps all
        that was learned in memory. None for an earlier image, or if nobody will ask.
    """

    scan: Observation
    statement: DetailStatement | None
    of_changed: Callable[[NDArray[np.float32], Executor | None], Observation] | None = None

    def changed(
        self, change: NDArray[np.float32], helpers: Executor | None = None
    ) -> LearnedDetail:
        """Detail of the scan with a change ``(X, Y, Z)`` that is added to its intensities.

        ``helpers`` are threads to predict with. An image of an earlier fit does not change.
        """
        if self.of_changed is None:
            return self
        found = self.of_changed(change, helpers)
        # Air was cut off, and what lies beyond the grid of the images is missing.
        corner = np.rint((np.linalg.inv(found.affine) @ self.scan.affine)[:3, 3]).astype(int)
        sides = zip(corner, self.scan.data.shape, strict=True)
        x, y, z = (slice(start, start + side) for start, side in sides)
        data = np.where(np.isfinite(self.scan.data), found.data[x, y, z], self.scan.data)
        tau = np.asarray(found.tau)[x, y, z]
        return replace(self, scan=replace(self.scan, data=data, tau=tau))


def detail_from_earlier_fit(
    image: NDArray[np.float32],
    grid: Grid,
    noise: Sequence[NoiseEstimate],
    statement: DetailStatement | None,
) -> LearnedDetail:
    """The image of an earlier fit of a contrast, in place of learned detail.

    Parameters
    ----------
    image
        ``(X, Y, Z)``: the image of the earlier fit, interpolated on ``grid``.
    grid
        Grid of the image.
    noise
        Noise of each scan.
    statement
        How accurate the detail is that the image was made with; None if it was made without.
    """
    variance = np.mean([scan.noise_sd**2 for scan in noise])
    precision = float(1 / (_EARLIER_FIT_NOISE**2 * variance))
    scan = Observation(
        image, grid.affine, precision, SliceProfile("point", "point"), zero_is_missing=False
    )
    return LearnedDetail(scan, statement)


def move_detail(detail: LearnedDetail, before: Observation, after: Observation) -> LearnedDetail:
    """Detail at the new pose of the scan that it was learned from.

    Parameters
    ----------
    detail
        Detail of the scan.
    before, after
        The scan at its old and at its new pose.
    """
    moved = after.world_pose @ np.linalg.inv(before.world_pose) @ detail.scan.world_pose
    return replace(detail, scan=replace(detail.scan, pose=moved))
