"""A bent template shows what a scan shows, slice by slice, however the two heads differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from bids_unires.errors import BadDataError
from bids_unires.registration import Template, bent_template, packaged_template
from bids_unires.space.affines import Affine, apply_affine, scaling, translation
from bids_unires.space.grid import Grid
from bids_unires.space.volume import Volume

pytestmark = pytest.mark.slow

AXIAL = Grid((56, 70, 40), scaling((3.4, 3.2, 4.6)) @ translation((-28, -36, -20)))


@pytest.fixture(scope="module")
def template() -> Template:
    return packaged_template()


def warped(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Another head: smaller, and bent by up to a centimetre."""
    x, y, z = points.T / 60
    bend = np.stack([4 * np.sin(z), 5 * np.cos(x + 0.5 * z), 4 * np.sin(1.2 * y)], axis=1)
    return np.asarray(points * (1.08, 1.03, 1.1) + bend)


def scan_of(template: Template, grid: Grid) -> Volume:
    image = template.image
    points = warped(apply_affine(grid.affine, np.indices(grid.shape).reshape(3, -1).T))
    voxels = apply_affine(np.linalg.inv(image.affine), points)
    shown = ndimage.map_coordinates(image.data, voxels.T, order=1).reshape(grid.shape)
    noise = np.random.default_rng(0).normal(scale=3.0, size=grid.shape)
    # Dark is bright and bright is dark, as in another contrast.
    intensity = np.where(shown > 20, 300 - shown, shown)
    return Volume(np.abs(intensity + noise).astype(np.float32), grid.affine)


@pytest.fixture(scope="module")
def scan(template: Template) -> Volume:
    return scan_of(template, AXIAL)


@pytest.fixture(scope="module")
def shown(scan: Volume, template: Template) -> NDArray[np.float32]:
    return bent_template(scan, template, threads=1)


def expected(template: Template, affine: Affine, shape: tuple[int, ...]) -> NDArray[np.float32]:
    points = warped(apply_affine(affine, np.indices(shape).reshape(3, -1).T))
    voxels = apply_affine(np.linalg.inv(template.image.affine), points)
    found: NDArray[np.float32] = ndimage.map_coordinates(template.image.data, voxels.T, order=1)
    return found.reshape(shape)


def test_another_head_is_followed(
    scan: Volume, shown: NDArray[np.float32], template: Template
) -> None:
    truth = expected(template, scan.affine, scan.data.shape)
    inside = ndimage.binary_erosion(truth > 20, iterations=1)
    assert np.corrcoef(shown[inside], truth[inside])[0, 1] > 0.9


def test_axes_and_flips_of_the_scan_do_not_matter(
    scan: Volume, shown: NDArray[np.float32], template: Template
) -> None:
    order = np.zeros((4, 4))
    order[[2, 0, 1, 3], [0, 1, 2, 3]] = 1
    data = np.ascontiguousarray(scan.data.transpose(2, 0, 1)[::-1])
    flipped = translation([scan.data.shape[2] - 1, 0, 0]) @ scaling([-1, 1, 1])
    other = bent_template(Volume(data, scan.affine @ order @ flipped), template, threads=1)
    np.testing.assert_allclose(other[::-1].transpose(1, 2, 0), shown, atol=1.0)


def test_a_slice_that_moved_is_not_followed(
    scan: Volume, shown: NDArray[np.float32], template: Template
) -> None:
    data = scan.data.copy()
    data[..., 20] = ndimage.shift(data[..., 20], (3 / 3.4, 0), order=1)
    other = bent_template(replace(scan, data=data), template, threads=1)
    # By how far, along the first axis, the slice of the template went along.
    slope = np.gradient(shown[..., 20], 3.4, axis=0)
    followed = -(slope * (other[..., 20] - shown[..., 20])).sum() / (slope**2).sum()
    assert abs(followed) < 0.5


def test_what_is_no_head_is_refused(template: Template) -> None:
    empty = Volume(np.zeros((20, 20, 20), np.float32), np.diag([3.0, 3.0, 3.0, 1.0]))
    with pytest.raises(BadDataError, match="no contrast"):
        bent_template(empty, template, threads=1)
