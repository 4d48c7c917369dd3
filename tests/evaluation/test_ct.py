"""CT cases: noise, regions and lesions are what they are said to be."""

from __future__ import annotations

import numpy as np
import pytest

from bids_unires.space.grid import Grid
from bids_unires.space.volume import Volume
from evaluation.ct_cases import AIR_HU, Colour, CTCase, CTHead, examine, noise
from evaluation.ct_lesions import BRAIN_HU, LesionKind, with_balls


def ball() -> CTHead:
    """Brain in a skull."""
    side = 64
    at = np.indices((side,) * 3) - (side - 1) / 2
    radius = np.linalg.norm(at, axis=0)
    data = np.where(radius < 26, BRAIN_HU, np.where(radius < 29, 1000.0, AIR_HU))
    return CTHead("ball", Volume(data.astype(np.float32), np.eye(4)), radius < 29)


@pytest.mark.parametrize(("colour", "neighbours"), [("white", 0.0), ("coloured", 0.74)])
def test_noise_is_independent_across_slices_alone(colour: Colour, neighbours: float) -> None:
    values = noise(
        Grid((80, 80, 20), np.diag([0.49, 0.49, 5.0, 1.0])), colour, np.random.default_rng(0)
    )
    assert values.std() == pytest.approx(1, abs=0.02)
    assert np.mean(values[1:] * values[:-1]) == pytest.approx(neighbours, abs=0.03)
    assert np.mean(values[:, 1:] * values[:, :-1]) == pytest.approx(neighbours, abs=0.03)
    assert np.mean(values[..., 1:] * values[..., :-1]) == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("turned", [False, True])
def test_the_truth_is_closer_than_any_interpolation(turned: bool) -> None:
    examination = examine(ball(), CTCase(turned=turned))
    found = examination.psnr(examination.truth.data + np.float32(1))
    # An error of 1 HU is the same in every region.
    assert np.ptp(list(found.values())) < 0.01
    assert set(found) == {"head", "bone", "soft", "deep"}


def test_lesions_have_their_density_and_size() -> None:
    kind = LesionKind(60.0, (5.0, 7.0), 3)
    ill = with_balls(ball(), kind)
    for diameter, mask in ill.masks.items():
        assert mask.sum() == pytest.approx(kind.count * np.pi / 6 * diameter**3, rel=0.1)
        assert ill.head.truth.data[mask].mean() == pytest.approx(58, abs=3)
    assert ill.kept(ill.head.truth.data, ill.head.truth.data) == pytest.approx({5.0: 1, 7.0: 1})
    assert ill.kept(ball().truth.data, ill.head.truth.data) == pytest.approx(
        {5.0: 0, 7.0: 0}, abs=0.01
    )
