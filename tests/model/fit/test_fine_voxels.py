"""Voxels of CT that are much smaller than the wanted ones are averaged where they lie."""

from __future__ import annotations

import numpy as np
import pytest

from bids_unires.config import ModelSettings
from bids_unires.model import super_resolve
from bids_unires.model.fit.fine_voxels import (
    averaged_within_slices,
    noise_of_averages,
    voxels_together,
)
from bids_unires.model.intensity.noise import NoiseEstimate, coloured
from bids_unires.space.affines import apply_affine, scaling, slice_axis
from bids_unires.space.volume import Volume

AFFINE = np.array(
    [[-0.4, 0.1, 0.0, 12.0], [0.1, 0.4, 0.3, -7.0], [0.0, 0.0, 4.8, 3.0], [0, 0, 0, 1]]
)


def ramp(affine: np.ndarray, shape: tuple[int, int, int]) -> Volume:
    """Values that say where in the world a voxel lies."""
    points = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    return Volume((points @ [1.0, 3.0, -2.0]).astype(np.float32), affine)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_averages_lie_where_their_voxels_did(order: tuple[int, ...]) -> None:
    affine = AFFINE[:, [*order, 3]]
    sides = np.array([13, 10, 5])[list(order)].tolist()
    averaged = averaged_within_slices(ramp(affine, (sides[0], sides[1], sides[2])), 1.0)
    assert sorted(averaged.data.shape) == [5, 5, 6]
    expected = ramp(averaged.affine, averaged.grid.shape)
    np.testing.assert_allclose(averaged.data, expected.data, atol=1e-3)


def test_voxels_of_about_the_wanted_size_stay() -> None:
    volume = ramp(np.diag([0.7, 0.7, 5.0, 1.0]), (12, 12, 3))
    assert averaged_within_slices(volume, 1.0) is volume


def test_what_holds_a_missing_voxel_is_missing() -> None:
    data = np.zeros((8, 8, 3), np.float32)
    data[3, 5, 1] = np.nan
    averaged = averaged_within_slices(Volume(data, np.diag([0.5, 0.5, 5.0, 1.0])), 1.0)
    assert np.argwhere(np.isnan(averaged.data)).tolist() == [[1, 2, 1]]


def test_a_single_row_of_voxels_is_not_lost() -> None:
    volume = Volume(np.zeros((1, 8, 3), np.float32), np.diag([0.5, 0.5, 5.0, 1.0]))
    assert averaged_within_slices(volume, 1.0) is volume


def test_slices_stay_the_longest_side_of_voxels() -> None:
    fine = Volume(np.zeros((24, 24, 9), np.float32), np.diag([0.81, 0.81, 2.4, 1.0]))
    coarse = averaged_within_slices(fine, 3.0)
    assert coarse.data.shape == (12, 12, 9)
    assert slice_axis(coarse.affine) == 2


@pytest.mark.parametrize("width", [0.0, 0.6])
def test_averages_have_the_noise_that_is_said(width: float) -> None:
    white = np.random.default_rng(4).normal(scale=5.0, size=(120, 120, 20)).astype(np.float32)
    noise = NoiseEstimate(5.0, -1000.0, 40.0, "high-pass-mad", (width, width, 0.0))
    scan = Volume(coloured(white, noise.kernel), np.diag([0.5, 0.5, 5.0, 1.0]))
    together = voxels_together(scan, 1.5)
    assert together == (3, 3, 1)
    averaged = averaged_within_slices(scan, 1.5)
    said = noise_of_averages(noise, together).noise_sd
    assert float(averaged.data.std()) == pytest.approx(said, rel=0.03)


def test_the_fit_believes_averages_more_than_single_voxels() -> None:
    shape, sizes, noise_sd = (60, 60, 14), np.array([0.75, 0.75, 4.0]), 10.0
    at = (np.moveaxis(np.indices(shape), 0, -1) - (np.array(shape) - 1) / 2) * sizes
    head = np.where(np.linalg.norm(at, axis=-1) < 19, 40.0, -1000.0)
    noise = np.random.default_rng(2).normal(scale=noise_sd, size=shape)
    scan = Volume((head + noise).astype(np.float32), scaling(sizes))
    settings = ModelSettings((2.25, 2.25, 2.25), max_iter=1, learned_detail=False)
    result = super_resolve([[scan]], settings, "cpu", modalities=["CT"])
    assert result.fit is not None
    ((found,),) = result.fit.noise
    assert found.noise_sd == pytest.approx(noise_sd / 3, rel=0.2)
