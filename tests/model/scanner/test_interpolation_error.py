"""A scan counts less where samples between voxels cannot explain it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bids_unires.model import Observation
from bids_unires.model.scanner.interpolation_error import with_interpolation_error
from bids_unires.model.scanner.profile import SliceProfile
from bids_unires.space.affines import scaling, translation
from bids_unires.space.grid import Grid
from bids_unires.space.rigid import rigid_matrix

SHAPE = (24, 20, 6)
AFFINE = np.diag([1.0, 1.0, 4.0, 1.0])
PROFILE = SliceProfile("point", "rect", axis=2)
TAU = 25.0


def scan(data: NDArray[np.floating], tau: float | NDArray[np.float32] = TAU) -> Observation:
    return Observation(data.astype(np.float32), AFFINE, tau, PROFILE)


def grid(shift: float) -> Grid:
    """Voxels of 1 mm, away from the scan's own by a share of a voxel in both directions."""
    return Grid((SHAPE[0], SHAPE[1], 4 * SHAPE[2]), translation([shift, shift, -1.5]))


def bright_line() -> NDArray[np.float64]:
    data = np.full(SHAPE, 50.0)
    data[12] = 60.0
    return data


def precision(observation: Observation, shift: float = 0.5) -> NDArray[np.float32]:
    found = with_interpolation_error(observation, grid(shift)).tau
    assert isinstance(found, np.ndarray)
    return found


def test_samples_on_voxels_are_explained() -> None:
    whole = scan(bright_line())
    assert with_interpolation_error(whole, grid(0.0)) is whole


def test_only_what_bends_is_doubted() -> None:
    slope = np.indices(SHAPE)[0] * 7.0 + 40
    np.testing.assert_allclose(precision(scan(slope)), TAU)
    lines = precision(scan(bright_line()))
    np.testing.assert_allclose(lines[[0, 5, 20]], TAU)
    assert lines[12].max() < lines[11].max() < 0.6 * TAU


def test_the_further_from_voxels_the_more() -> None:
    near, far = (precision(scan(bright_line()), shift) for shift in (0.1, 0.5))
    assert far[12].max() < 0.5 * near[12].max()


def test_the_line_is_off_by_about_what_is_said() -> None:
    # Half-way between voxels an image of that line cannot be interpolated to what was measured.
    variance = 1 / precision(scan(bright_line()))[12].mean() - 1 / TAU
    assert variance == pytest.approx((20.0 / 8) ** 2, rel=0.05)


@pytest.mark.parametrize("factor", [100.0, 0.01])
def test_units_do_not_matter(factor: float) -> None:
    other = scan(factor * bright_line(), TAU / factor**2)
    np.testing.assert_allclose(
        precision(other) * factor**2, precision(scan(bright_line())), rtol=1e-4
    )


def test_noise_alone_is_hardly_doubted() -> None:
    noise = np.random.default_rng(1).normal(scale=1 / np.sqrt(TAU), size=SHAPE)
    assert precision(scan(50 + noise)).mean() > 0.9 * TAU


def test_what_is_missing_bends_nothing() -> None:
    data = np.full(SHAPE, 50.0)
    data[:, :6] = 0
    data[10, 10, 2] = np.nan
    np.testing.assert_allclose(precision(scan(data)), TAU)


def test_voxels_of_no_precision_keep_none() -> None:
    tau = np.full(SHAPE, TAU, np.float32)
    tau[3] = 0
    found = precision(scan(bright_line(), tau))
    assert not found[3].any()
    assert found[4:].all()
    assert np.isfinite(found).all()


def test_the_slice_axis_does_not_count() -> None:
    data = np.full(SHAPE, 50.0)
    data[:, :, 3] = 90.0
    np.testing.assert_allclose(precision(scan(data)), TAU)
    turned = Observation(
        np.moveaxis(bright_line(), 2, 0).astype(np.float32),
        AFFINE[:, [2, 0, 1, 3]] @ scaling([1, 1, 1]),
        TAU,
        SliceProfile("point", "rect", axis=0),
    )
    np.testing.assert_allclose(
        np.moveaxis(precision(turned), 0, 2), precision(scan(bright_line())), rtol=1e-5
    )


@pytest.mark.parametrize("size", [0.5, 0.8])
def test_small_voxels_bend_as_much_per_mm(size: float) -> None:
    def parabola(voxel: float) -> Observation:
        sides = (round(24 / voxel), round(20 / voxel), 6)
        data = np.broadcast_to((np.arange(sides[0]) * voxel)[:, None, None] ** 2, sides)
        affine = np.diag([voxel, voxel, 4.0, 1.0])
        return Observation(data.astype(np.float32), affine, 1e6, PROFILE, zero_is_missing=False)

    def variance(voxel: float) -> float:
        found = with_interpolation_error(parabola(voxel), turned).tau
        assert isinstance(found, np.ndarray)
        middle = tuple(slice(side // 4, -side // 4) for side in found.shape[:2])
        return float(np.mean(1 / found[middle] - 1e-6))

    turned = Grid((40, 40, 24), rigid_matrix([-4.0, -6.0, -1.5, 0.0, 0.0, 0.1]))
    # The mean blur depends on where samples happen to lie, by up to 6 %.
    assert variance(size) == pytest.approx(variance(1.0), rel=0.13)
