"""What is measured of one scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...config import Modality
from ...dataset.acquisition import Acquisition, acquisition_from_sidecar
from ...dataset.reading import load_volume
from ...dataset.scans import Contrast, Scan
from ...model.intensity.noise import NoiseEstimate, estimate_noise
from ...registration import head_mask
from ...registration.masks import nonempty_voxels
from ...space.affines import apply_affine
from ...space.volume import Volume
from .information import Sampling
from .slices import SliceLook, look_at_slices

_PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True, eq=False)
class MeasuredScan:
    """A scan, and what was measured of it.

    Parameters
    ----------
    scan
        Its file and metadata.
    contrast
        Name of its contrast.
    volume
        Its intensities and affine.
    acquisition
        Slice axis and gap.
    noise
        Noise, and mean intensities of air and head.
    head
        Mask of the head, ``(X, Y, Z)``.
    measured
        Voxels that are not empty, ``(X, Y, Z)``.
    look
        Damaged slices, and motion between slices; None in CT, whose slices are calibrated.
    """

    scan: Scan
    contrast: str
    volume: Volume
    acquisition: Acquisition
    noise: NoiseEstimate
    head: NDArray[np.bool_]
    measured: NDArray[np.bool_]
    look: SliceLook | None

    @property
    def plane(self) -> str:
        """The plane of its slices: sagittal, coronal or axial, whichever is nearest."""
        normal = self.directions[:, self.acquisition.slice_axis]
        return _PLANES[int(np.argmax(np.abs(normal)))]

    @property
    def directions(self) -> NDArray[np.float64]:
        """``(3, 3)``, unit vectors of the voxel axes in the world, as columns."""
        return np.asarray(self.volume.affine[:3, :3] / self.volume.grid.voxel_size)

    @property
    def slice_count(self) -> int:
        """Number of slices."""
        return self.volume.grid.shape[self.acquisition.slice_axis]

    @property
    def slice_spacing(self) -> float:
        """Distance between slices in mm."""
        return float(self.volume.grid.voxel_size[self.acquisition.slice_axis])

    @property
    def signal_to_noise(self) -> float:
        """Difference between head and air over the standard deviation of the noise."""
        return self.noise.contrast / self.noise.noise_sd

    @property
    def head_litres(self) -> float:
        """Volume of the head in litres."""
        voxel = float(np.abs(np.linalg.det(self.volume.affine[:3, :3])))
        return float(np.count_nonzero(self.head)) * voxel / 1e6

    @property
    def head_centre(self) -> NDArray[np.float64]:
        """Centre of the head in world mm, ``(3,)``; NaN if there is none."""
        if not self.head.any():
            return np.full(3, np.nan)
        places = [np.flatnonzero(self.head.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
        centre = [(place[0] + place[-1]) / 2 for place in places]
        return np.asarray(apply_affine(self.volume.affine, np.array(centre)))

    @property
    def variation(self) -> float:
        """Standard deviation over mean of the intensities of the head."""
        values = self.volume.data[self.head & (self.volume.data > self.noise.halfway)]
        return float(values.std() / abs(values.mean())) if values.size else 0.0

    def sampling(self, coverage: float) -> Sampling:
        """How it samples the head, of which it measured a share."""
        spacing = np.asarray(self.volume.grid.voxel_size, dtype=np.float64)
        extent = spacing.copy()
        extent[self.acquisition.slice_axis] *= 1 - self.acquisition.gap
        return Sampling(self.directions, spacing, extent, self.signal_to_noise, coverage)


def measure(scan: Scan, contrast: Contrast) -> MeasuredScan:
    """Read and measure one scan.

    Raises
    ------
    UniResError
        If the scan cannot be used; the message says why.
    """
    modality: Modality = contrast.modality
    volume = load_volume(scan.path)
    acquisition = acquisition_from_sidecar(scan.metadata, volume.affine, scan.path.name, modality)
    noise = estimate_noise(volume.data, modality)
    look = None
    if modality == "MR":
        axis = acquisition.slice_axis
        u, v = np.delete(volume.grid.voxel_size, axis)
        slices = np.moveaxis(volume.data, axis, 0)
        look = look_at_slices(slices, noise, (float(u), float(v)))
    return MeasuredScan(
        scan,
        contrast.name,
        volume,
        acquisition,
        noise,
        head_mask(volume.data, volume.affine),
        nonempty_voxels(np.nan_to_num(volume.data), modality),
        look,
    )
