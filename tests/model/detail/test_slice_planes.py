"""The planes of a scan in which detail is learned: where they lie, and how noisy they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bids_unires.model import NoiseEstimate, Observation, SliceProfile
from bids_unires.model.detail.planes import SlicePlanes, slice_planes
from bids_unires.space.affines import apply_affine, scaling, translation
from bids_unires.space.grid import corners

NOISE = NoiseEstimate(2.0, 0.0, 100.0, "rice-mixture")
SHAPE = np.array([24, 32, 9])


def scan(axis: int = 2, unit: float = 1.0, gap: float = 0.0) -> Observation:
    """White noise about 100, in voxels of 1 mm and slices of 6 mm."""
    shape, sizes = np.roll(SHAPE, axis - 2), np.ones(3)
    sizes[axis] = 6.0
    noise = np.random.default_rng(0).normal(100, 2, shape)
    affine = translation([5.0, -7.0, 3.0]) @ scaling(sizes)
    profile = SliceProfile("point", "rect", gap, axis)
    return Observation((unit * noise).astype(np.float32), affine, (2 * unit) ** -2.0, profile)


def planes(observation: Observation, noise: NoiseEstimate = NOISE) -> SlicePlanes:
    found = slice_planes(observation, noise, 2.0, torch.device("cpu"))
    assert found is not None
    return found


def test_voxels_that_are_put_together_are_as_noisy_as_they_are_said_to_be() -> None:
    found = planes(scan())
    assert float(found.data.std()) == pytest.approx(found.noise_sd, rel=0.05)


@pytest.mark.parametrize("unit", [1e-3, 50.0])
def test_detail_is_learned_alike_in_every_unit(unit: float) -> None:
    noise = replace(NOISE, noise_sd=2 * unit, foreground_mean=100 * unit)
    here, there = planes(scan()), planes(scan(unit=unit), noise)
    torch.testing.assert_close(here.data, there.data, rtol=1e-4, atol=0)
    assert there.noise_sd == pytest.approx(here.noise_sd)
    assert torch.equal(here.head, there.head)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_learned_detail_lies_where_its_slices_lie(axis: int) -> None:
    observation = scan(axis)
    found = planes(observation)
    slices, first, second = found.data.shape
    shape = np.insert([first, second], axis, slices * found.ratio)
    outer = [
        apply_affine(affine, corners(tuple(map(int, sides)), 0.5))
        for affine, sides in (
            (found.thin_affine, shape),
            (observation.affine, observation.data.shape),
        )
    ]
    np.testing.assert_allclose(*outer, atol=1e-9)


@pytest.mark.parametrize(("gap", "seen"), [(0.5, False), (0.0, True), (-0.5, True)])
def test_what_lies_in_the_gap_between_slices_is_not_seen(gap: float, seen: bool) -> None:
    found = slice_planes(scan(gap=gap), NOISE, 1.0, torch.device("cpu"))
    assert found is not None
    thin = torch.zeros((len(found.data) * found.ratio, 3, 4))
    thin[:: found.ratio] = thin[found.ratio - 1 :: found.ratio] = 1
    # The outermost thin voxels of each slice spacing, one on either side.
    assert bool((found.as_slices(thin) > 0).all()) == seen
    torch.testing.assert_close(found.as_slices(torch.ones_like(thin)).unique(), torch.ones(1))


@pytest.mark.parametrize("gap", [0.5, 0.0, -0.5])
def test_slices_are_the_same_from_above_as_from_below(gap: float) -> None:
    found = planes(scan(gap=gap))
    thin = torch.rand((len(found.data) * found.ratio, 3, 4), generator=torch.Generator())
    torch.testing.assert_close(found.as_slices(thin.flip(0)), found.as_slices(thin).flip(0))


def test_another_contrast_is_seen_alike_from_either_side() -> None:
    found = planes(scan())
    slices, along, across = found.data.shape
    random = torch.Generator().manual_seed(1)
    guide = torch.randn((slices * found.ratio, along, across), generator=random)
    k, m, q = torch.ones(found.data.shape).nonzero().T
    views = found.views_at(guide, k * found.ratio, m, q)
    assert views.shape == (found.data.numel(), found.ratio + 4, 5)
    turned = guide.flip(0, 1)
    again = found.views_at(turned, (slices - 1 - k) * found.ratio, along - 1 - m, q)
    torch.testing.assert_close(again, views.flip(1, 2))
    # In the middle are the thin voxels of the thick one.
    own = guide.unfold(0, found.ratio, found.ratio)[k, m, q]
    torch.testing.assert_close(views[:, 2:-2, 2], own)
