"""The template's brain on an image: where the alignment says it is."""

from __future__ import annotations

import numpy as np

from bids_unires.registration import Template, TemplateAlignment, brain_mask_from_template
from bids_unires.space.affines import Affine, apply_affine, scaling, translation
from bids_unires.space.grid import Grid
from bids_unires.space.volume import Volume

SHAPE = (88, 100, 32)
AFFINE = scaling((2.0, 2.0, 6.0)) @ translation(-(np.array(SHAPE) - 1) / 2)
CENTRE, RADII = (5, -10, 0), (50, 65, 55)


def radius(points: np.ndarray) -> np.ndarray:
    """1 on the surface of the brain."""
    return np.linalg.norm((points - CENTRE) / RADII, axis=-1)


def test_template_s_brain_comes_back_through_the_alignment() -> None:
    voxels = np.moveaxis(np.indices(SHAPE), 0, -1)
    brain = radius(apply_affine(AFFINE, voxels)) < 1
    volume = Volume(brain.astype(np.float32), AFFINE)
    template = Template("ellipsoid", volume, volume, volume, "test")
    matrix: Affine = translation((4.0, 12.0, -6.0)) @ scaling([1.1] * 3)
    alignment = TemplateAlignment(matrix, "similarity", 1.1, 1.0)
    # The participant's image shows the same brain where the matrix takes it from.
    grid = Grid(SHAPE, np.linalg.inv(matrix) @ AFFINE)
    np.testing.assert_array_equal(brain_mask_from_template(grid, alignment, template), brain)
    fine = brain_mask_from_template(Grid((40, 40, 40), np.eye(4)), alignment, template)
    assert fine.any()
    assert radius(apply_affine(matrix, np.argwhere(fine))).max() < 1.08
