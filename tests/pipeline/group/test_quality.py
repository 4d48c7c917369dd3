from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from bids_unires.pipeline.group.quality import quality_of
from bids_unires.space.affines import scaling
from bids_unires.space.grid import Grid

RNG = np.random.default_rng(0)
SHAPE = (24, 20, 22)
GRID = Grid(SHAPE, np.eye(4))
EVERYWHERE = {"brain": np.ones(SHAPE, dtype=bool)}
TEXTURE = ndimage.gaussian_filter(RNG.normal(size=SHAPE), 1.0).astype(np.float32)


def sharpness(image: np.ndarray, grid: Grid = GRID) -> float:
    value = quality_of(image.astype(np.float32), grid, EVERYWHERE).sharpness
    assert value is not None
    return float(value)


def test_a_ramp_has_the_sharpness_of_its_slope() -> None:
    ramp = np.broadcast_to(np.arange(24.0)[:, None, None], SHAPE)
    # From the 5th to the 95th percentile it rises by 21 of 23 steps, a layer more or less.
    assert sharpness(ramp) == pytest.approx(1 / 21, rel=0.06)


def test_blur_takes_sharpness_and_brightness_does_not() -> None:
    assert sharpness(ndimage.gaussian_filter(TEXTURE, 2.0)) < 0.7 * sharpness(TEXTURE)
    assert sharpness(7 * TEXTURE + 3) == pytest.approx(sharpness(TEXTURE), rel=1e-4)


def test_it_is_per_millimetre() -> None:
    double = Grid(SHAPE, scaling([2, 2, 2]))
    assert sharpness(TEXTURE, double) == pytest.approx(sharpness(TEXTURE) / 2, rel=1e-5)


def test_only_the_brain_within_the_field_of_view_counts() -> None:
    brain, fov = np.zeros(SHAPE, dtype=bool), np.zeros(SHAPE, dtype=bool)
    brain[4:20, 4:16, 4:16] = True
    fov[:12] = True
    image = TEXTURE.copy()
    image[~(brain & fov)] = 100
    found = quality_of(image, GRID, {"brain": brain, "head": ~brain, "fov": fov})
    assert found.region == "brain"
    assert found.voxels == np.count_nonzero(brain & fov)
    assert found.mean_intensity == pytest.approx(TEXTURE[brain & fov].mean(), rel=1e-4)


def test_nothing_to_look_at_has_no_quality() -> None:
    nowhere = np.zeros(SHAPE, dtype=bool)
    found = quality_of(TEXTURE, GRID, {"head": nowhere})
    assert (found.voxels, found.sharpness, found.mean_intensity) == (0, None, None)
    assert quality_of(np.ones(SHAPE, np.float32), GRID, EVERYWHERE).sharpness is None
