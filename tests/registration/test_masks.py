"""Head masks: known shapes are found under noise, shading and empty background."""

from __future__ import annotations

import numpy as np
import pytest

from bids_unires.registration import head_mask
from bids_unires.registration.masks import nonempty_voxels
from bids_unires.space.affines import apply_affine, scaling, translation

SHAPE = (88, 100, 32)
AFFINE = scaling((2.0, 2.0, 6.0)) @ translation(-(np.array(SHAPE) - 1) / 2)
WORLD = apply_affine(AFFINE, np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1))


def ellipsoid(centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    return (((WORLD - centre) / radii) ** 2).sum(axis=-1) < 1


HEAD = ellipsoid((0, 0, 0), (66, 82, 75))
SKULL = ellipsoid((0, 0, 0), (61, 77, 70)) & ~ellipsoid((0, 0, 0), (55, 71, 64))


def anatomy() -> np.ndarray:
    """Scalp, dark skull, brain with dark ventricles, an air-filled sinus, and a coil marker."""
    image = np.where(HEAD, 100.0, 0.0)
    image[SKULL] = 12.0
    image[ellipsoid((0, 0, 0), (10, 30, 15))] = 20.0
    image[ellipsoid((0, 60, -30), (12, 12, 12))] = 0.0
    image[ellipsoid((80, 90, 80), (4, 4, 12))] = 100.0
    return image


def overlap(found: np.ndarray, true: np.ndarray) -> float:
    """Dice's coefficient."""
    return 2 * float((found & true).sum()) / float(found.sum() + true.sum())


def noisy(image: np.ndarray, sd: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(scale=sd, size=(2, *image.shape))
    return np.hypot(image + noise[0], noise[1])


SHADING = 1 / (1 + np.exp(WORLD[..., 2] / 50)) + 0.3

SCANS = {
    "noise": noisy(anatomy(), 5.0),
    "shading": noisy(anatomy() * SHADING, 3.0),
    "background set to 0": np.where(HEAD, noisy(anatomy(), 3.0), 0.0),
    "bright fat": noisy(anatomy() + 400 * (HEAD & ~ellipsoid((0, 0, 0), (62, 78, 71))), 5.0),
    "CT": noisy(np.where(HEAD, 1040 + 1000 * SKULL, 0.0), 10.0) - 1000,
    "CT padded": np.where(WORLD[..., 0] > 70, -3024.0, np.where(HEAD, 40.0, -1000.0)),
    "missing values": np.where(WORLD[..., 1] < -90, np.nan, noisy(anatomy(), 5.0)),
}


@pytest.mark.parametrize("name", SCANS)
def test_head_is_found_and_filled(name: str) -> None:
    found = head_mask(SCANS[name].astype(np.float32), AFFINE)
    assert found.shape == SHAPE
    assert overlap(found, HEAD) > 0.97
    assert found[ellipsoid((0, 0, 0), (50, 66, 60))].all()


def test_head_cut_by_the_field_of_view_is_filled_to_the_edge() -> None:
    cut = slice(0, 14)
    found = head_mask(SCANS["noise"][:, :, cut].astype(np.float32), AFFINE)
    assert overlap(found, HEAD[:, :, cut]) > 0.97


def test_constant_image_has_no_head() -> None:
    assert not head_mask(np.full((8, 8, 8), 5, dtype=np.float32), np.eye(4)).any()


@pytest.mark.parametrize("axis", [0, 1])
def test_the_mask_of_fine_voxels_lies_where_the_head_lies(axis: int) -> None:
    """A mirrored head has the mirrored mask, also where voxels are put together to find it."""
    fine = np.repeat(SCANS["noise"], 2, axis).astype(np.float32)
    halves = np.ones(3)
    halves[axis] = 0.5
    affine = AFFINE @ scaling(halves)
    found = head_mask(fine, affine)
    mirrored = head_mask(np.ascontiguousarray(np.flip(fine, axis)), affine)
    np.testing.assert_array_equal(np.flip(mirrored, axis), found)


@pytest.mark.parametrize("darkest", [-3024.0, -1000.0, -500.0])
def test_air_and_what_lies_beyond_a_round_field_of_view_are_empty(darkest: float) -> None:
    """Whatever stands for them: scanners write -1000 HU, less, or the least that they store."""
    tissue = np.where(HEAD, np.float32(40), np.float32(max(darkest, -1000)))
    image = np.where(WORLD[..., 0] > 70, np.float32(darkest), tissue)
    np.testing.assert_array_equal(nonempty_voxels(image, "CT"), HEAD & (image == 40))


def test_in_mr_everything_but_zero_is_measured() -> None:
    image = np.array([-3.0, 0.0, 1e-6, 5.0], dtype=np.float32)[:, None, None]
    np.testing.assert_array_equal(nonempty_voxels(image, "MR").ravel(), [True, False, True, True])
