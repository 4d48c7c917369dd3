"""Voxels of images lie close to the samples of scans, so that no pattern stays unseen."""

from __future__ import annotations

import numpy as np
import pytest

from bids_unires.model.fit.sample_positions import moved_onto_samples
from bids_unires.space.affines import scaling, translation
from bids_unires.space.grid import Grid
from bids_unires.space.rigid import rigid_matrix

LATTICE = Grid((40, 40, 40), scaling([3, 3, 3]))


def scan(offset: list[float], sizes: list[float], shape: tuple[int, int, int]) -> Grid:
    return Grid(shape, translation(offset) @ scaling(sizes))


def offsets(lattice: Grid, scan: Grid) -> np.ndarray:
    """Distance of a scan's first voxel from the nearest voxel of a lattice, in voxels."""
    at = (np.linalg.inv(lattice.affine) @ scan.affine)[:3, 3]
    return np.abs(at - np.round(at))


def test_samples_in_the_plane_of_slices_lie_on_voxels() -> None:
    axial = scan([1.5, 0.6, 1.0], [3, 3, 5], (40, 40, 20))
    found = moved_onto_samples(LATTICE, [axial])
    np.testing.assert_allclose(offsets(found, axial)[:2], 0, atol=1e-5)
    # Across the slices nothing is asked for.
    assert found.affine[2, 3] == LATTICE.affine[2, 3]


@pytest.mark.parametrize("flip", [False, True])
def test_two_scans_share_what_neither_can_have_alone(flip: bool) -> None:
    axial = scan([0.3, 0.0, 1.0], [3, 3, 5], (40, 40, 20))
    sagittal = scan([2.0, 1.5, 0.9], [-5 if flip else 5, 3, 3], (20, 40, 40))
    found = moved_onto_samples(LATTICE, [axial, sagittal])
    assert offsets(found, axial)[0] == pytest.approx(0, abs=1e-5)
    assert offsets(found, sagittal)[2] == pytest.approx(0, abs=1e-5)
    # Half a voxel apart along y: a quarter for each.
    assert offsets(found, axial)[1] == pytest.approx(0.25, abs=1e-5)
    assert offsets(found, sagittal)[1] == pytest.approx(0.25, abs=1e-5)


def test_axes_may_be_stored_in_any_order() -> None:
    axial = scan([1.5, 0.6, 1.0], [3, 3, 5], (40, 40, 20))
    order = np.eye(4)[:, [2, 0, 1, 3]]
    stored = Grid((20, 40, 40), axial.affine @ order)
    first, second = (moved_onto_samples(LATTICE, [own]) for own in (axial, stored))
    np.testing.assert_allclose(first.affine, second.affine, atol=1e-6)


@pytest.mark.parametrize(
    "drifting",
    [
        scan([1.5, 1.5, 1.5], [1.2, 1.2, 5], (40, 40, 20)),
        Grid((40, 40, 20), rigid_matrix([0, 0, 0, 0.1, 0, 0]) @ scaling([3, 3, 5])),
    ],
)
def test_scans_whose_samples_lie_everywhere_change_nothing(drifting: Grid) -> None:
    np.testing.assert_array_equal(moved_onto_samples(LATTICE, [drifting]).affine, LATTICE.affine)
