from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bids_unires.pipeline.inspection.information import Sampling, Told, information


def scan(
    axis: int = 2, thick: float = 4.0, gap: float = 0.0, snr: float = 40.0, coverage: float = 1.0
) -> Sampling:
    """Slices across an axis; 1 mm in their plane."""
    spacing = np.ones(3)
    spacing[axis] = thick / (1 - gap)
    extent = np.ones(3)
    extent[axis] = thick
    return Sampling(np.eye(3), spacing, extent, snr, coverage)


def test_the_only_scan_tells_everything() -> None:
    assert information([scan()]) == [Told(1.0, 1.0)]
    assert information([]) == []


def test_a_second_plane_adds_more_than_a_repeat() -> None:
    repeat = information([scan(2), scan(2)])
    planes = information([scan(2), scan(0)])
    assert repeat[0].adds < 0.5 * planes[0].adds
    assert planes[0].adds == pytest.approx(planes[1].adds, rel=1e-6)


def test_the_sharp_scan_goes_before_the_thick_one() -> None:
    thick, sharp = information([scan(2, 5.0), scan(2, 1.0)])
    assert sharp.alone > 2 * thick.alone
    assert thick.adds < 0.1


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        (scan(snr=10), scan(snr=40)),
        (scan(coverage=0.3), scan()),
        (scan(thick=6), scan(thick=3)),
        (scan(thick=3, gap=0.5), scan(thick=3, gap=0.0)),
    ],
)
def test_what_is_better_tells_more(worse: Sampling, better: Sampling) -> None:
    first, second = information([worse, better])
    assert first.alone < second.alone
    assert first.adds < second.adds


def test_order_and_orientation_of_all_scans_make_no_difference() -> None:
    scans = [scan(2), scan(0, 3.0), scan(1, 6.0, snr=20)]
    told = information(scans)
    backwards = information(scans[::-1])[::-1]
    for each, other in zip(told, backwards, strict=True):
        assert (other.alone, other.adds) == pytest.approx((each.alone, each.adds), rel=1e-9)
    quarter = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    turned = [
        Sampling(quarter @ s.directions, s.spacing, s.extent, s.signal_to_noise, s.coverage)
        for s in scans
    ]
    for each, other in zip(told, information(turned), strict=True):
        assert (other.alone, other.adds) == pytest.approx((each.alone, each.adds), rel=1e-6)


def test_shares_are_shares() -> None:
    for each in information([scan(axis, snr=snr) for axis in range(3) for snr in (5, 50)]):
        assert 0 <= each.adds <= each.alone <= 1
