from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from evaluation.slice_width import (
    WidthCase,
    estimate_widths,
    squared_differences,
    summary,
    width_along,
)

SPACING = 4


def texture(stretch: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> NDArray[np.float32]:
    """Detail of several sizes, brighter than air, which is longer along some axes."""
    rng = np.random.default_rng(3)
    total = np.full((96, 96, 240), 20, dtype=np.float32)
    for size in (1.0, 2.0, 4.0):
        noise = rng.standard_normal(total.shape, dtype=np.float32)
        smooth = ndimage.gaussian_filter(noise, size * np.array(stretch), mode="wrap")
        total += np.sqrt(size) * smooth / smooth.std()
    return total


def slices(truth: NDArray[np.float32], thickness: int) -> NDArray[np.float32]:
    """Slices of a whole number of voxels every four voxels; the last axis is across them."""
    averaged = ndimage.uniform_filter1d(truth, thickness, axis=2, mode="wrap")
    return np.asarray(averaged[:, :, ::SPACING])


@pytest.mark.parametrize("thickness", [3, 4, 5])
def test_the_width_of_slices_of_an_isotropic_texture_is_found(thickness: int) -> None:
    # So many voxels blur as a rectangle does that is a little narrower.
    width = np.sqrt(thickness**2 - 1) / SPACING
    for found in estimate_widths(slices(texture(), thickness), (1, 1, SPACING)):
        assert found == pytest.approx(width, abs=0.05)


def test_detail_that_is_longer_across_slices_is_taken_for_thickness() -> None:
    scan = slices(texture((1.0, 1.0, 1.5)), SPACING)
    assert all(width is None or width > 1.1 for width in estimate_widths(scan, (1, 1, SPACING)))


def test_flips_and_other_units_change_nothing() -> None:
    scan = slices(texture(), 4)
    widths = estimate_widths(scan, (1, 1, SPACING))
    for same in (scan[:, :, ::-1], scan[::-1], 7 * scan):
        assert estimate_widths(same, (1, 1, SPACING)) == pytest.approx(widths, abs=1e-4)


def test_swapped_axes_of_the_plane_swap_the_widths() -> None:
    scan = slices(texture((1.0, 1.3, 1.0)), 4)
    swapped = estimate_widths(scan.swapaxes(0, 1), (1, 1, SPACING))
    assert swapped == pytest.approx(estimate_widths(scan, (1, 1, SPACING))[::-1], abs=1e-4)


def test_squared_differences_are_those_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    scan = rng.random((9, 5, 7), dtype=np.float32)
    inside = rng.random(scan.shape) < 0.7
    total, pairs = 0.0, 0
    for left, right in ((slice(2, None), slice(None, -2)), (slice(None, -2), slice(2, None))):
        both = inside[left, :, 1:] & inside[right, :, :-1]
        total += float(np.sum((scan[left, :, 1:] - scan[right, :, :-1])[both] ** 2))
        pairs += int(both.sum())
    table = squared_differences(scan, inside, (3, 2))
    assert table[2, 1] == pytest.approx(total / pairs, rel=1e-5)
    assert table[0, 0] == 0


def test_without_a_fitting_width_there_is_none() -> None:
    # Neighbouring slices that are independent: no average along the plane changes so much.
    table = squared_differences(texture(), np.ones((96, 96, 240), dtype=bool), (20, 2))
    table[:, 1:] = 2.0
    assert width_along(table, SPACING) is None


def test_the_summary_counts_the_cases_whose_axes_agree() -> None:
    cases = [
        WidthCase("a", "transverse", 4.0, 1.0, (1.0, 1.04)),
        WidthCase("b", "transverse", 4.0, 1.0, (1.3, 1.32)),
        WidthCase("c", "transverse", 4.0, 1.0, (0.7, 1.2)),
        WidthCase("d", "transverse", 4.0, 1.0, (None, 1.0)),
    ]
    assert "2 of 4, of which 50% within 0.1" in summary(cases, 0.1)
    assert "largest error 0.31" in summary(cases, 0.1)
    assert summary(cases[2:], 0.1) == "axes within 0.1: none of 2"
