"""Volumes of tissues, and all measures of an image of a stack."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

pytest.importorskip("skimage", reason="`make peers` installs scikit-image")

from bids_unires.space.volume import Volume
from evaluation.lesion_cases import HeadWithLesions
from evaluation.peers.cases import STROKE, Case, stack_of
from evaluation.peers.measuring import measures, tissue_error

SIDE = 40


def head() -> HeadWithLesions:
    """Four tissues in layers, with one lesion."""
    layers = np.repeat(np.array([20, 60, 100, 140], np.float32), SIDE // 4)
    data = np.broadcast_to(layers[:, None, None], (SIDE,) * 3).copy()
    data += ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(data.shape), 1)
    mask = np.zeros(data.shape, dtype=bool)
    mask[14:17, 18:21, 18:21] = True
    data[mask] += 60
    return HeadWithLesions("layers", Volume(data, np.eye(4)), mask, np.ones_like(mask))


def test_the_truth_is_perfect() -> None:
    stack = stack_of(Case(STROKE, 4), head())
    found = measures(stack.head.truth, stack)
    assert found["PSNR"] > 100
    assert found["tissues"] == 0
    assert found["false"] == 0
    assert found["SSIM"] == pytest.approx(1)
    assert found["kept of 5 to 30 mm3"] == pytest.approx(1)
    assert found["erased of 5 to 30 mm3"] == 0
    assert found["lesions of 30 to 100 mm3"] == 0
    assert "kept of 30 to 100 mm3" not in found


def test_an_image_on_another_grid_is_interpolated() -> None:
    stack = stack_of(Case(STROKE, 4), head())
    truth = stack.head.truth
    turned = Volume(truth.data[::-1], truth.affine @ np.diag([-1, 1, 1, 1.0]))
    turned.affine[0, 3] = SIDE - 1
    assert measures(turned, stack)["PSNR"] > 60


def test_tissue_that_is_taken_for_another_is_an_error_of_both() -> None:
    truth = head().truth.data
    inside = np.ones(truth.shape, dtype=bool)
    image = truth.copy()
    # A tenth of the darkest tissue becomes as the next one.
    image[:1] += 40
    assert tissue_error(image, truth, inside) == pytest.approx(100 * (0.1 + 0.1) / 4, abs=0.5)
    assert tissue_error(truth, truth, inside) == 0
