"""A simulated 2-D scanner: thick slices of a head that moves between scans.

It shares no code with the model that later inverts the measurement. The head is sampled with cubic
B-splines at steps below 1 mm through each slice. The model instead uses trilinear interpolation
and a discrete slice profile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ..space.affines import Affine, apply_affine, translation
from ..space.grid import Grid, Shape, corners
from ..space.volume import Volume

Plane = Literal["sagittal", "coronal", "transverse"]

# World axes (RAS+) of the columns of a scan's affine: in-plane, in-plane, through-plane.
_DIRECTIONS: Mapping[Plane, tuple[int, int, int]] = {
    "sagittal": (1, 2, 0),
    "coronal": (0, 2, 1),
    "transverse": (0, 1, 2),
}
# Largest step in mm between samples through a slice.
_STEP = 0.8


@dataclass(frozen=True)
class Motion:
    """Position of the head in the scanner, relative to its position in the truth.

    Parameters
    ----------
    translation
        Translation along x, y and z in mm.
    rotation
        Rotation about x, y and z in degrees, in this order, about the origin of the world.
    """

    translation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def scanner_to_head(self) -> Affine:
        """World mm of the scanner to world mm of the truth, ``(4, 4)``."""
        head_to_scanner = np.eye(4)
        head_to_scanner[:3, :3] = Rotation.from_euler(
            "xyz", self.rotation, degrees=True
        ).as_matrix()
        head_to_scanner[:3, 3] = self.translation
        return np.asarray(np.linalg.inv(head_to_scanner))


@dataclass(frozen=True)
class Protocol:
    """One scan of the protocol: contrast, geometry and noise.

    Parameters
    ----------
    suffix
        BIDS suffix.
    intensities
        Intensity of a voxel that contains only one tissue, for each tissue.
    texture_gain
        Factor on the texture of the anatomy, in units of intensity.
    plane
        Plane of the slices.
    metadata
        BIDS fields of the sequence, in BIDS units.
    slice_thickness, slice_spacing
        Width of the rectangular slice profile, and distance between slice centres, in mm.
    noise
        Standard deviation of the noise in each complex channel, as a fraction of the largest
        intensity of the truth.
    """

    suffix: str
    intensities: Mapping[str, float]
    texture_gain: float
    plane: Plane
    metadata: Mapping[str, Any] = field(default_factory=dict)
    slice_thickness: float = 4.0
    slice_spacing: float = 4.0
    noise: float = 0.015

    def sidecar(self) -> dict[str, Any]:
        """BIDS metadata of a scan made with this protocol."""
        return {
            "Modality": "MR",
            "MagneticFieldStrength": 3,
            "MRAcquisitionType": "2D",
            "SliceThickness": self.slice_thickness,
            "SpacingBetweenSlices": self.slice_spacing,
            **self.metadata,
        }


def scan_grid(field_of_view: Grid, plane: Plane, slice_spacing: float) -> Grid:
    """Grid of a stack of slices, 1 mm in plane, that covers a field of view.

    Parameters
    ----------
    field_of_view
        Box to cover, with axes along those of the world.
    plane
        Plane of the slices; the third array axis is the slice axis.
    slice_spacing
        Distance between the centres of neighbouring slices in mm.

    Returns
    -------
    Grid
        Grid centred on the field of view, and at most one slice longer than the field of view.
    """
    world = apply_affine(field_of_view.affine, corners(field_of_view.shape, edge=0.5))
    low, high = world.min(axis=0), world.max(axis=0)
    spacing = np.array([1.0, 1.0, slice_spacing])
    columns = np.eye(3)[:, list(_DIRECTIONS[plane])] * spacing
    sides = np.abs(columns.T @ (high - low)) / spacing**2
    shape = np.ceil(np.round(sides, 6)).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = columns
    affine[:3, 3] = (low + high) / 2 - columns @ ((shape - 1) / 2)
    return Grid(tuple(shape.tolist()), affine)


def thick_slices(
    truth: Volume, grid: Grid, slice_thickness: float, scanner_to_head: Affine
) -> NDArray[np.float32]:
    """Average a head over the thickness of each slice, without noise.

    Parameters
    ----------
    truth
        The head at full resolution. Outside its box the values at the border continue: air at the
        sides, neck below.
    grid
        Voxel centres of the scan; its third axis is the slice axis.
    slice_thickness
        Width of the rectangular slice profile in mm.
    scanner_to_head
        ``(4, 4)``, world mm of the scanner to world mm of the truth.

    Returns
    -------
    numpy.ndarray
        ``(X, Y, Z)`` float32, the shape of ``grid``.
    """
    coefficients = ndimage.spline_filter(truth.data, order=3, output=np.float32, mode="nearest")
    to_truth = np.linalg.inv(truth.affine) @ scanner_to_head @ grid.affine
    steps = int(np.ceil(slice_thickness / _STEP))
    depths = (np.arange(steps) + 0.5) / steps - 0.5
    total = np.zeros(grid.shape, dtype=np.float32)
    for depth in depths * slice_thickness / grid.voxel_size[2]:
        total += _sample(coefficients, to_truth @ translation([0, 0, depth]), grid.shape)
    return total / np.float32(steps)


def _sample(coefficients: NDArray[np.float32], matrix: Affine, shape: Shape) -> NDArray[np.float32]:
    """Values ``(X, Y, Z)`` of a cubic B-spline where ``matrix`` maps each voxel index."""
    sampled = ndimage.affine_transform(
        coefficients,
        matrix[:3, :3],
        offset=matrix[:3, 3],
        output_shape=shape,
        output=np.float32,
        order=3,
        mode="nearest",
        prefilter=False,
    )
    return np.asarray(sampled)


def add_rician_noise(
    image: NDArray[np.float32], sd: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Magnitude of an image with Gaussian noise in both complex channels.

    Parameters
    ----------
    image
        Magnitude without noise, of any shape.
    sd
        Standard deviation of the noise in each channel, in units of ``image``.
    rng
        Generator of the noise.

    Returns
    -------
    numpy.ndarray
        Image of the same shape, with a Rice distribution (Gudbjartsson and Patz 1995).
    """
    real = image + np.float32(sd) * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = np.float32(sd) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(np.hypot(real, imaginary))


def acquire(truth: Volume, protocol: Protocol, motion: Motion, rng: np.random.Generator) -> Volume:
    """Scan a head once.

    Parameters
    ----------
    truth
        The head at full resolution, 1 mm, in the contrast of ``protocol``.
    protocol
        Geometry and noise of the scan.
    motion
        Motion of the head, which the affine of the scan does not include.
    rng
        Generator of the noise.

    Returns
    -------
    Volume
        The scan; its third array axis is the slice axis.
    """
    grid = scan_grid(truth.grid, protocol.plane, protocol.slice_spacing)
    clean = thick_slices(truth, grid, protocol.slice_thickness, motion.scanner_to_head)
    sd = protocol.noise * float(truth.data.max())
    return Volume(add_rician_noise(clean, sd, rng), grid.affine)
