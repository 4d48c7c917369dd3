"""Simulated heads with known truth, made from the ICBM152 2009a tissue maps.

The template (Fonov et al. 2011, https://doi.org/10.1016/j.neuroimage.2010.07.033) is an average of
many brains without skull, and smoother than any single brain. Four steps add the fine detail of an
individual brain, which super-resolution must recover: tissue fractions are sharpened to crisp
borders, the texture of the template is kept, and thin perivascular spaces and white-matter lesions
are added. Layers of fluid, muscle, bone and scalp around the brain replace the tissue that was
stripped from the template.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..dataset.reading import load_volume
from ..space.affines import Affine, apply_affine, scaling, translation, voxel_size
from ..space.grid import Grid, Shape, corners

Image = NDArray[np.float32]

_MAPS = Path(__file__).parent / "maps"

FLUID_LAYER = 1.5
BONE_LAYER = 4.0
SCALP_LAYER = 3.5
AIR_MARGIN = 5.0
"""Thickness in mm of each layer around the brain, from the inside out."""

SHARPENING = 2.5
"""Exponent on the tissue probabilities; 1 keeps the soft borders of the average."""


@dataclass(frozen=True)
class Participant:
    """How one simulated participant differs from the template.

    Parameters
    ----------
    label
        Participant label, without ``sub-``.
    size
        Factors on the size of the template along x, y and z.
    shear
        Displacement along x in mm for each mm along y.
    displacement
        Amplitude of the smooth displacement along each axis in mm.
    lesions, perivascular_spaces
        Number of lesions and of perivascular spaces in the white matter.
    shading
        Amplitude of the smooth field that multiplies the intensities, relative to 1.
    seed
        Seed of all random numbers of the participant, including noise.
    """

    label: str
    size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shear: float = 0.0
    displacement: float = 0.0
    lesions: int = 0
    perivascular_spaces: int = 0
    shading: float = 0.0
    seed: int = 0


@dataclass(frozen=True, eq=False)
class TissueMaps:
    """A template: its T1w image and tissue probabilities on one grid.

    Parameters
    ----------
    t1w, grey, white
        ``(X, Y, Z)`` float32 each, from 0 to 1; 0 outside the brain.
    affine
        ``(4, 4)``, voxel index to world mm (RAS+).
    """

    t1w: Image
    grey: Image
    white: Image
    affine: Affine

    @property
    def brain(self) -> NDArray[np.bool_]:
        """Voxels that belong to the brain, ``(X, Y, Z)``."""
        return np.asarray(self.t1w > 0)


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Tissues in each voxel of a head.

    Parameters
    ----------
    fractions
        For each tissue, the fraction of each voxel that it fills, ``(X, Y, Z)``. Their sum is at
        most 1; the rest is air.
    texture
        Texture of the template: the part of its T1w image that its tissue maps do not explain,
        ``(X, Y, Z)``.
    shading
        Field that multiplies all intensities, ``(X, Y, Z)``.
    grid
        Grid of all these images.
    """

    fractions: Mapping[str, Image]
    texture: Image
    shading: Image
    grid: Grid

    @property
    def head(self) -> NDArray[np.bool_]:
        """Voxels at least half full of any tissue, ``(X, Y, Z)``."""
        return np.asarray(np.sum(list(self.fractions.values()), axis=0) > 0.5)

    def image(self, intensities: Mapping[str, float], texture_gain: float) -> Image:
        """Noise-free intensities of one contrast at full resolution.

        Parameters
        ----------
        intensities
            Intensity of a voxel that contains only one tissue, for each tissue.
        texture_gain
            Factor on the texture, in units of intensity.

        Returns
        -------
        numpy.ndarray
            ``(X, Y, Z)`` float32, never negative.
        """
        image = texture_gain * self.texture
        for tissue, fraction in self.fractions.items():
            image += np.float32(intensities[tissue]) * fraction
        return np.asarray(np.maximum(image, 0) * self.shading, dtype=np.float32)


def load_icbm152() -> TissueMaps:
    """Read the ICBM152 2009a maps at 1 mm, each scaled so that its largest value is 1."""
    t1w, grey, white = (
        load_volume(_MAPS / f"icbm152_{name}.nii.gz")
        for name in ("T1w", "grey_matter", "white_matter")
    )
    t1w_map, grey_map, white_map = (image.data / image.data.max() for image in (t1w, grey, white))
    return TissueMaps(t1w_map, grey_map, white_map, t1w.affine)


def build_anatomy(maps: TissueMaps, participant: Participant) -> Anatomy:
    """Deform a template to the head of one participant at 1 mm.

    Parameters
    ----------
    maps
        The template.
    participant
        How the participant differs from the template.

    Returns
    -------
    Anatomy
        Anatomy on a grid that contains the head with a margin of air. At the bottom the grid ends
        where the template ends, as a field of view ends in the neck.
    """
    rng = np.random.default_rng(participant.seed)
    to_participant = scaling(participant.size)
    to_participant[0, 1] = participant.shear
    grid = _head_grid(maps, to_participant)
    places = _template_voxels(maps, grid, to_participant, participant.displacement, rng)
    t1w, grey, white, brain = (
        ndimage.map_coordinates(image, places, order=1, mode="nearest", output=np.float32)
        for image in (maps.t1w, maps.grey, maps.white, maps.brain.astype(np.float32))
    )
    fluid = np.clip(brain - grey - white, 0, 1)
    texture = _texture(t1w, np.stack([grey, white, fluid]), brain)
    grey, white, fluid = _sharpened(np.stack([grey, white, fluid]), brain)
    fractions = {"grey": grey, "white": white, "fluid": fluid, **_envelope(brain)}
    fractions["fluid"] = fluid + fractions.pop("outer_fluid")
    deep_white = np.argwhere(white > 0.95)
    spaces = _perivascular_spaces(grid.shape, deep_white, participant.perivascular_spaces, rng)
    _replace(fractions, "fluid", spaces)
    _replace(fractions, "lesion", _lesions(grid.shape, deep_white, participant.lesions, rng))
    shading = 1 + participant.shading * _wave(grid.shape, 300.0, rng)
    return Anatomy(fractions, texture, np.asarray(shading, dtype=np.float32), grid)


def _head_grid(maps: TissueMaps, to_participant: Affine) -> Grid:
    """Grid of 1 mm around the participant's head, without a margin below the template."""
    voxels = np.argwhere(maps.brain)
    low, high = voxels.min(axis=0), voxels.max(axis=0)
    box = apply_affine(translation(low), corners(tuple((high - low + 1).tolist())))
    world = apply_affine(to_participant @ maps.affine, box)
    margin = FLUID_LAYER + BONE_LAYER + SCALP_LAYER + AIR_MARGIN
    below = np.array([margin, margin, 0.0])
    origin = np.ceil(world.min(axis=0) - below)
    shape = np.floor(world.max(axis=0) + margin - origin).astype(int) + 1
    return Grid(tuple(shape.tolist()), translation(origin))


def _template_voxels(
    maps: TissueMaps,
    grid: Grid,
    to_participant: Affine,
    displacement: float,
    rng: np.random.Generator,
) -> Image:
    """Voxel coordinates in the template for each voxel of the grid, ``(3, X, Y, Z)``."""
    to_voxel = np.linalg.inv(to_participant @ maps.affine) @ grid.affine
    index = np.indices(grid.shape, dtype=np.float32)
    places = np.tensordot(to_voxel[:3, :3].astype(np.float32), index, axes=1)
    places += to_voxel[:3, 3].astype(np.float32)[:, None, None, None]
    for axis, reach in enumerate(displacement / voxel_size(maps.affine)):
        places[axis] += np.float32(reach) * _wave(grid.shape, 90.0, rng)
    return np.asarray(places)


def _wave(shape: Shape, length: float, rng: np.random.Generator) -> Image:
    """Smooth field between -1 and 1: a product of cosines with a period of ``length`` voxels."""
    field = np.ones((1, 1, 1), dtype=np.float32)
    for axis, phase in enumerate(rng.uniform(0, 2 * np.pi, 3)):
        sides = [1, 1, 1]
        sides[axis] = shape[axis]
        cosine = np.cos(2 * np.pi * np.arange(shape[axis]) / length + phase)
        field = field * cosine.reshape(sides).astype(np.float32)
    return field


def _texture(t1w: Image, tissues: Image, brain: Image) -> Image:
    """Residual of the T1w image after a least-squares fit of its tissues, ``(X, Y, Z)``."""
    inside = brain > 0.99
    design = tissues[:, inside].T.astype(np.float64)
    means, *_ = np.linalg.lstsq(design, t1w[inside].astype(np.float64), rcond=None)
    residual = t1w - np.tensordot(means.astype(np.float32), tissues, axes=1)
    return np.asarray(np.clip(residual, -0.1, 0.1) * (brain > 0.99), dtype=np.float32)


def _sharpened(tissues: Image, brain: Image) -> Image:
    """Tissue fractions ``(3, X, Y, Z)`` with crisp borders; their sum is ``brain``."""
    raised = np.maximum(tissues, 0) ** np.float32(SHARPENING)
    return np.asarray(raised * (brain / np.maximum(raised.sum(axis=0), 1e-6)))


def _envelope(brain: Image) -> dict[str, Image]:
    """Layers around a brain on a 1 mm grid: fluid, muscle, bone, scalp.

    Distances are computed on every second voxel. The skull follows the outline of the brain with
    its clefts closed; muscle fills the clefts.
    """
    reach = 8
    coarse = np.pad(brain[::2, ::2, ::2] > 0.5, reach, mode="edge")
    to_brain = 2 * ndimage.distance_transform_edt(~coarse)
    closed = ndimage.distance_transform_edt(to_brain <= 2 * reach) > reach
    to_skull = 2 * ndimage.distance_transform_edt(~(closed | coarse))

    def at_full_resolution(distance: NDArray[np.float64]) -> Image:
        pulled = ndimage.affine_transform(
            distance, np.full(3, 0.5), offset=reach, output_shape=brain.shape, order=1
        )
        return np.asarray(pulled, dtype=np.float32)

    inner, outer = at_full_resolution(to_brain), at_full_resolution(to_skull)
    outside = 1 - brain
    bone_end = FLUID_LAYER + BONE_LAYER
    fluid = outside * _below(inner, FLUID_LAYER)
    muscle = (outside - fluid) * _below(outer, FLUID_LAYER)
    bone = (outside - fluid - muscle) * _below(outer, bone_end)
    scalp = (outside - fluid - muscle - bone) * _below(outer, bone_end + SCALP_LAYER)
    return {"outer_fluid": fluid, "muscle": muscle, "bone": bone, "scalp": scalp}


def _below(distance: Image, limit: float) -> Image:
    """Fraction of a 1 mm voxel that lies nearer than ``limit`` mm."""
    return np.asarray(np.clip(limit + 0.5 - distance, 0, 1), dtype=np.float32)


def _replace(fractions: dict[str, Image], tissue: str, amount: Image) -> None:
    """Replace a fraction ``amount`` of each voxel, ``(X, Y, Z)``, by ``tissue``, in place."""
    for name in fractions:
        fractions[name] = fractions[name] * (1 - amount)
    fractions[tissue] = fractions.get(tissue, np.zeros_like(amount)) + amount


def _perivascular_spaces(
    shape: Shape, starts: NDArray[np.int64], count: int, rng: np.random.Generator
) -> Image:
    """Fraction of each 1 mm voxel inside thin straight channels, ``(X, Y, Z)``.

    Each channel is about 1 mm wide and 6 to 20 mm long. It begins at one of the voxels ``starts``
    ``(N, 3)``. Channels have random directions, so that each slice direction blurs some of them.
    """
    density = 40
    amount = np.zeros(shape, dtype=np.float32)
    for _ in range(count if len(starts) else 0):
        length = rng.uniform(6, 20)
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        along = rng.uniform(0, length, int(density * length))[:, None] * direction
        points = starts[rng.integers(len(starts))] + along + rng.normal(0, 0.3, along.shape)
        voxels = np.rint(points).astype(int)
        voxels = voxels[((voxels >= 0) & (voxels < shape)).all(axis=1)]
        np.add.at(amount, tuple(voxels.T), 1 / density)
    return np.minimum(amount, 1)


def _lesions(
    shape: Shape, centres: NDArray[np.int64], count: int, rng: np.random.Generator
) -> Image:
    """Fraction of each 1 mm voxel inside ellipsoids 3 to 10 mm wide, ``(X, Y, Z)``.

    The centre of each ellipsoid is one of the voxels ``centres`` ``(N, 3)``.
    """
    amount = np.zeros(shape, dtype=np.float32)
    for _ in range(count if len(centres) else 0):
        centre = centres[rng.integers(len(centres))]
        radii = rng.uniform(1.5, 5.0, 3)
        low = np.maximum(centre - 6, 0)
        high = np.minimum(centre + 7, shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        offsets = np.moveaxis(np.asarray(np.mgrid[box]), 0, -1) - centre
        outward = np.linalg.norm(offsets / radii, axis=-1)
        inside = np.clip((1 - outward) * radii.min() + 0.5, 0, 1)
        amount[box] = np.maximum(amount[box], inside)
    return amount
