"""A quick look finds what is wrong with slices, and nothing where nothing is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from bids_unires.dataset.acquisition import acquisition_from_sidecar
from bids_unires.dataset.reading import load_volume
from bids_unires.model.intensity.noise import NoiseEstimate, estimate_noise
from bids_unires.pipeline.inspection.slices import SliceLook, look_at_slices
from tests.paths import SHARED

SIZES = (1.5, 2.0)
NOISE = NoiseEstimate(
    noise_sd=2.0, background_mean=1.0, foreground_mean=99.0, method="rice-mixture"
)


def stack(seed: int = 0, count: int = 24) -> np.ndarray:
    """Slices ``(K, U, V)`` of a head of ellipsoids and waves, with noise."""
    k, u, v = np.meshgrid(
        np.linspace(-1, 1, count), np.linspace(-1, 1, 64), np.linspace(-1, 1, 72), indexing="ij"
    )
    head = (k / 1.05) ** 2 + (u / 0.85) ** 2 + (v / 0.8) ** 2 < 1
    texture = 15 * np.sin(9 * u + 2 * k) * np.cos(8 * v - 2 * k) + 10 * np.sin(23 * u + 17 * v)
    noise = np.random.default_rng(seed).normal(scale=2.0, size=k.shape)
    return np.abs(np.where(head, 100 + texture, 0) + noise).astype(np.float32)


def look(slices: np.ndarray) -> SliceLook:
    return look_at_slices(slices, NOISE, SIZES)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_nothing_is_found_where_nothing_is_wrong(seed: int) -> None:
    found = look(stack(seed))
    assert found.damaged == ()
    assert not found.seems_moved
    assert found.interleave == pytest.approx(0, abs=0.01)


def test_noise_is_not_taken_for_motion() -> None:
    uniform = np.where(stack() > NOISE.halfway, 100, 0)
    noisy = uniform + np.random.default_rng(0).normal(scale=10, size=uniform.shape)
    noise = NoiseEstimate(10.0, 5.0, 100.0, "rice-mixture")
    found = look_at_slices(np.abs(noisy).astype(np.float32), noise, SIZES)
    assert not found.seems_moved
    assert found.damaged == ()


@pytest.mark.parametrize("factor", [0.6, 0.7, 1.5])
@pytest.mark.parametrize("k", [8, 13])
def test_a_slice_of_another_brightness_is_named(factor: float, k: int) -> None:
    slices = stack()
    slices[k] *= factor
    assert look(slices).damaged == (k,)


def test_a_slice_without_signal_is_named() -> None:
    slices = stack()
    slices[11] *= 0.05
    assert 11 in look(slices).damaged


def test_even_slices_that_lie_elsewhere_are_found() -> None:
    slices = stack()
    slices[::2] = np.roll(slices[::2], 2, axis=1)
    found = look(slices)
    assert found.seems_moved
    assert found.damaged == ()


def test_even_slices_that_are_brighter_are_not_taken_for_damaged_or_moved() -> None:
    slices = stack()
    slices[::2] *= np.exp(0.2).astype(np.float32)
    found = look(slices)
    assert found.interleave == pytest.approx(0.1, abs=0.01)
    assert found.damaged == ()
    assert not found.seems_moved


@pytest.mark.parametrize("flip", [0, 1, 2])
def test_which_way_round_a_stack_is_makes_no_difference(flip: int) -> None:
    slices = stack()
    slices[8] *= 0.6
    found, flipped = look(slices), look(np.flip(slices, flip).copy())
    expected = tuple(sorted(len(slices) - 1 - k for k in found.damaged))
    assert flipped.damaged == (expected if flip == 0 else found.damaged)
    assert flipped.roughness == pytest.approx(found.roughness, rel=1e-3)
    assert flipped.shift == pytest.approx(found.shift, rel=0.05)


def test_the_unit_of_intensity_makes_no_difference() -> None:
    slices = stack()
    slices[8] *= 0.6
    noise = NoiseEstimate(2000.0, 1000.0, 99_000.0, "rice-mixture")
    found, scaled = look(slices), look_at_slices(1000 * slices, noise, SIZES)
    assert scaled.damaged == found.damaged
    assert scaled.roughness == pytest.approx(found.roughness, rel=1e-3)


@pytest.mark.parametrize("shape", [(3, 20, 20), (1, 5, 5), (30, 4, 4)])
def test_scans_with_too_little_in_them_are_left_alone(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).uniform(50, 100, shape).astype(np.float32)
    found = look(values)
    assert (found.damaged, found.roughness, found.shift) == ((), None, None)
    assert look(np.full(shape, np.nan, dtype=np.float32)).damaged == ()


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "ms-clinical/sub-01/ses-1/anat/sub-01_ses-1_FLAIR.nii.gz",
        "ms-clinical/sub-01/ses-2/anat/sub-01_ses-2_T2w.nii.gz",
        "positions/sub-01/anat/sub-01_acq-sag_run-3_T1w.nii.gz",
        "contrasts/sub-01/anat/sub-01_PDw.nii.gz",
        "stroke/T1w.nii.gz",
    ],
)
def test_real_scans(name: str) -> None:
    path = SHARED / "data" / name
    volume = load_volume(path)
    axis = acquisition_from_sidecar({}, volume.affine).slice_axis
    noise = estimate_noise(volume.data)
    u, v = np.delete(volume.grid.voxel_size, axis)
    slices = np.moveaxis(volume.data, axis, 0)
    found = look_at_slices(slices, noise, (u, v))
    assert (found.damaged, found.seems_moved) == ((), False)

    dark = slices.copy()
    middle = len(dark) // 2
    dark[middle] *= 0.6
    assert look_at_slices(dark, noise, (u, v)).damaged == (middle,)

    moved = slices.copy()
    moved[::2] = np.roll(moved[::2], max(round(2 / u), 1), axis=1)
    found = look_at_slices(moved, noise, (u, v))
    assert (found.damaged, found.seems_moved) == ((), True)
