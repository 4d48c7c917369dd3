"""What the kernels are told about a scan."""

from __future__ import annotations

import numpy as np

from bids_unires.kernels.sampling import Sampling


def test_every_profile_fits_in_the_intermediate_grid() -> None:
    weights = (np.ones(1), np.full(7, 1 / 7), np.full(3, 1 / 3))
    sampling = Sampling((9, 9, 9), (6, 5, 1), np.eye(4)[:3], (1, 4, 2), weights)
    assert sampling.intermediate_shape == (6, 4 * 4 + 7, 3)
    assert sampling.blurred_axes == (1, 2)
