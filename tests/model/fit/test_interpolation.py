"""Scans on one grid without a model: linear in them, and exact where they are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from bids_unires.config import ModelSettings
from bids_unires.model import interpolate
from bids_unires.space.affines import Affine, apply_affine, scaling, translation
from bids_unires.space.grid import Grid
from bids_unires.space.rigid import rigid_matrix
from bids_unires.space.volume import Volume

SETTINGS = ModelSettings(voxel_size=(3, 3, 3), method="linear")
THICK = Grid((20, 18, 6), translation([4, -7, 2]) @ scaling([3, 3, 12]))
TURNED: Affine = rigid_matrix([2.0, -1.0, 1.5, 0.1, -0.05, 0.08])


def scan(seed: int = 0) -> Volume:
    values = np.random.default_rng(seed).uniform(10, 100, THICK.shape)
    return Volume(values.astype(np.float32), THICK.affine)


@pytest.mark.parametrize("pose", [np.eye(4), TURNED])
def test_interpolation_passes_through_the_scan(pose: Affine) -> None:
    volume = scan()
    result = interpolate([[volume]], SETTINGS, "cpu", poses=[[pose]])
    assert result.fit is None
    at = apply_affine(
        np.linalg.inv(pose @ volume.affine) @ result.grid.affine,
        np.indices(result.grid.shape).reshape(3, -1).T,
    )
    expected = ndimage.map_coordinates(volume.data, at.T, order=1, mode="nearest")
    inner = ((at >= 0) & (at <= np.array(volume.grid.shape) - 1)).all(axis=1)
    np.testing.assert_allclose(result.images[0].ravel()[inner], expected[inner], atol=0.02)


def test_repeats_are_averaged() -> None:
    first, second = scan(0), scan(1)
    settings = ModelSettings(voxel_size=(3, 3, 3), method="linear", coregister=False)
    both = interpolate([[first, second]], settings, "cpu").images[0]
    apart = [interpolate([[one]], settings, "cpu").images[0] for one in (first, second)]
    np.testing.assert_allclose(both, (apart[0] + apart[1]) / 2, rtol=1e-4)


def test_the_grid_may_be_given() -> None:
    grid = Grid((8, 8, 8), translation([10, 0, 10]) @ scaling([2, 2, 2]))
    result = interpolate([[scan()]], SETTINGS, "cpu", grid=grid)
    assert result.grid == grid
    assert result.images.shape == (1, 8, 8, 8)
