"""Stacks are cut so that the grid of their slices, divided, is that of the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bids_unires.demo.scanner import Plane
from bids_unires.space.affines import Affine, apply_affine
from bids_unires.space.grid import Grid
from bids_unires.space.volume import Volume
from evaluation.lesion_cases import HeadWithLesions
from evaluation.peers.cases import CASES, Case, Head, fine_grid, middle, stack_of, upright

SHAPE = (19, 22, 25)
LEFT_FIRST = np.diag([-1.0, 1.0, 1.0, 1.0])


def head(affine: Affine) -> HeadWithLesions:
    """A smooth head with one lesion."""
    noise = np.random.default_rng(0).standard_normal(SHAPE)
    data = (100 + 300 * ndimage.gaussian_filter(noise, 2.5)).astype(np.float32)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[8:11, 9:12, 10:13] = True
    return HeadWithLesions("head", Volume(data, affine), mask, np.ones(SHAPE, dtype=bool))


def never(name: str, files: Sequence[Path]) -> HeadWithLesions:
    raise AssertionError(name)


NAMED = Head("head", ("head.nii.gz",), never, "")
CASE = Case(NAMED, 4, noise=0.0)


@pytest.mark.parametrize("affine", [np.eye(4), LEFT_FIRST], ids=["right", "left"])
@pytest.mark.parametrize("plane", ["sagittal", "coronal", "transverse"])
@pytest.mark.parametrize(("thickness", "gap", "shift"), [(3, 0, 0), (5, 0, 2), (4, 1, 1)])
def test_the_truth_is_compared_voxel_by_voxel(
    affine: Affine, plane: Plane, thickness: int, gap: int, shift: int
) -> None:
    whole = head(affine)
    stack = stack_of(replace(CASE, plane=plane, thickness=thickness, gap=gap, shift=shift), whole)
    assert stack.scan.grid.voxel_size[2] == pytest.approx(thickness + gap)
    grid = stack.head.truth.grid
    assert grid.shape[2] == stack.scan.data.shape[2] * (thickness + gap)
    at = apply_affine(np.linalg.inv(affine) @ grid.affine, np.argwhere(stack.head.mask))
    assert np.abs(at - at.round()).max() < 1e-9
    places = tuple(at.round().astype(int).T)
    assert whole.mask[places].all()
    assert stack.head.mask.sum() == whole.mask.sum()
    np.testing.assert_allclose(stack.head.truth.data[stack.head.mask], whole.truth.data[places])


@pytest.mark.parametrize("thickness", [3, 4, 5])
def test_slices_are_means_of_the_voxels_they_are_divided_into(thickness: int) -> None:
    stack = stack_of(replace(CASE, thickness=thickness), head(np.eye(4)))
    truth = stack.head.truth.data
    means = truth.reshape(*truth.shape[:2], -1, thickness).mean(axis=3)
    assert np.abs(stack.scan.data - means).max() < 0.03 * truth.std()


def test_a_gap_is_in_no_slice() -> None:
    whole = head(np.eye(4))
    stack = stack_of(replace(CASE, thickness=3, gap=2), whole)
    truth = stack.head.truth.data
    seen = truth.reshape(*truth.shape[:2], -1, 5)[..., 1:4].mean(axis=3)
    assert np.abs(stack.scan.data - seen).max() < 0.03 * truth.std()


def test_noise_is_the_same_every_time() -> None:
    noisy = replace(CASE, noise=0.05)
    a, b = (stack_of(noisy, head(np.eye(4))).scan.data for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - stack_of(CASE, head(np.eye(4))).scan.data).max() > 0


@pytest.mark.parametrize("spacing", [2.0, 3.3, 4.8, 5.0])
def test_a_stack_is_divided_in_the_middle_of_its_field_of_view(spacing: float) -> None:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix()
    scan = Grid((6, 5, 7), affine @ np.diag([1.2, 1.2, spacing, 1]))
    fine = fine_grid(scan)
    assert fine.shape == (6, 5, round(7 * spacing / 1.2))
    np.testing.assert_allclose(fine.voxel_size, 1.2)
    middles = [apply_affine(grid.affine, (np.asarray(grid.shape) - 1) / 2) for grid in (scan, fine)]
    np.testing.assert_allclose(*middles)


@pytest.mark.parametrize("axes", ["RAS", "LPI", "SAL"])
def test_an_oblique_head_stands_upright(axes: str) -> None:
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("xyz", [5, -8, 12], degrees=True).as_matrix()
    order = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(axes), (5, 6, 7))
    oblique = turned @ order @ np.diag([1.0, 1.5, 2.0, 1.0])
    straight = upright(oblique)
    assert nib.aff2axcodes(straight) == nib.aff2axcodes(oblique)
    assert np.count_nonzero(straight[:3, :3]) == 3
    np.testing.assert_allclose(
        np.linalg.norm(straight[:3, :3], axis=0), np.linalg.norm(oblique[:3, :3], axis=0)
    )


def test_cases_have_names_of_their_own() -> None:
    assert len({str(case) for case in CASES}) == len({case.folder for case in CASES}) == len(CASES)
    assert all(set(case.folder) <= set("abcdefghijklmnopqrstuvwxyz0123456789-+") for case in CASES)


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    assert NAMED.missing(tmp_path) == [tmp_path / "head.nii.gz"]


def test_the_middle_of_a_head_has_the_lesions_that_are_whole() -> None:
    whole = head(LEFT_FIRST)
    whole.mask[1:5, 9:12, 10:13] = True
    box = middle(whole, 13)
    assert box.truth.data.shape == (13, 13, 13)
    at = np.array([8, 9, 10])
    within = apply_affine(np.linalg.inv(box.truth.affine) @ whole.truth.affine, at).astype(int)
    assert box.truth.data[tuple(within)] == whole.truth.data[tuple(at)]
    assert ndimage.label(box.mask)[1] == 1
    assert box.mask[tuple(within)]
    assert middle(whole, 99).mask.sum() == whole.mask.sum()
