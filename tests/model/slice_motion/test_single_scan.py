"""A contrast as other contrasts predict it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bids_unires.model import Observation, SliceProfile
from bids_unires.model.slice_motion.single_scan import limit_precision, predict_from_other_contrasts
from bids_unires.space.grid import Grid

GRID = Grid((20, 18, 16), np.eye(4))
POINTS = SliceProfile("dirac", "dirac")


def contrasts() -> list[torch.Tensor]:
    """Images of one anatomy: smooth fields."""
    x, y, z = np.meshgrid(*(np.linspace(0, 3, n) for n in GRID.shape), indexing="ij")
    fields = (100 * (1 + np.sin(x + y)), 80 * (1 + np.cos(2 * z - y)))
    return [torch.as_tensor(field, dtype=torch.float32) for field in fields]


@pytest.mark.parametrize("count", [1, 2])
def test_a_function_of_the_other_contrasts_is_predicted(count: int) -> None:
    others = contrasts()[:count]
    truth = sum(300 - 0.008 * (image - 90) ** 2 for image in others)
    scan = Observation(truth.numpy(), GRID.affine, 1.0, POINTS)
    image, sd = predict_from_other_contrasts([scan], others, GRID)
    spread = float(truth.std())
    assert float((image - truth).abs().mean()) < 0.1 * spread
    assert sd < 0.15 * spread


def test_what_the_others_do_not_show_is_not_predicted() -> None:
    first, second = contrasts()
    image, sd = predict_from_other_contrasts(
        [Observation(second.numpy(), GRID.affine, 1.0, POINTS)], [first], GRID
    )
    assert float(image.std()) < 0.6 * float(second.std())
    assert sd > 0.3 * float(second.std())


def test_missing_voxels_teach_nothing() -> None:
    others = contrasts()[:1]
    data = 2 * others[0].numpy()
    data[:, :5] = np.nan
    image, _ = predict_from_other_contrasts(
        [Observation(data, GRID.affine, 1.0, POINTS)], others, GRID
    )
    assert bool(torch.isfinite(image).all())
    assert float((image - 2 * others[0]).abs().mean()) < 5


def test_an_error_of_the_image_limits_the_precision() -> None:
    scan = Observation(np.ones((2, 2, 2), np.float32), np.eye(4), 4.0)
    assert limit_precision(scan, 0.0) is scan
    assert limit_precision(scan, 10.0).tau == pytest.approx(1 / (25 * 100))
    assert limit_precision(scan, 1e-3).tau == 4.0
