"""Scans as they are compared, from coarse to fine."""

from __future__ import annotations

import numpy as np
import pytest

from bids_unires.registration.pyramid import affine_of, build_pyramid
from bids_unires.space.affines import apply_affine, scaling
from bids_unires.space.rigid import rigid_matrix
from bids_unires.space.volume import Volume


@pytest.mark.parametrize("sizes", [(1.0, 1.0, 1.0), (0.9, 5.0, 0.9), (3.0, 3.0, 3.0)])
def test_no_side_of_a_scan_is_cut_off_more_than_the_other(sizes: tuple[float, ...]) -> None:
    shape = np.ceil(90 / np.array(sizes)).astype(int)
    data = np.zeros(tuple(shape), np.float32)
    data[tuple(slice(n // 4, -(n // 4)) for n in shape)] = 100
    scan = Volume(data, rigid_matrix([3, -2, 5, 0.1, 0.05, -0.1]) @ scaling(sizes))
    centre = apply_affine(scan.affine, (shape - 1) / 2)
    for image in build_pyramid(scan, threads=1).images.values():
        middle = (np.array(image.GetSize()) - 1) / 2
        np.testing.assert_allclose(apply_affine(affine_of(image), middle), centre, atol=1e-3)
