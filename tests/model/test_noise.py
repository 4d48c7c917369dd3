"""Noise estimates: known noise is found, and units and storage order do not matter."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_unires.errors import BadDataError
from bids_unires.model.noise import estimate_noise

REFERENCE_CASE = Path(__file__).resolve().parents[1] / "data" / "jtv2mm"


def ellipsoid(shape: tuple[int, int, int], radius: float) -> np.ndarray:
    axes = [np.linspace(-1, 1, n) for n in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return x**2 + y**2 + z**2 < radius**2


def magnitude_image(sd: float, seed: int = 0, shape: tuple[int, int, int] = (64, 72, 56)):
    """Rician image of a head with three tissues, and where the head is."""
    head = ellipsoid(shape, 0.8)
    signal = 300.0 * head + 250 * ellipsoid(shape, 0.6) + 200 * ellipsoid(shape, 0.3)
    noise = np.random.default_rng(seed).normal(scale=sd, size=(2, *shape))
    return np.hypot(signal + noise[0], noise[1]).astype(np.float32), head


@pytest.mark.parametrize("sd", [4.0, 15.0, 40.0])
def test_rician_noise_is_found(sd: float) -> None:
    data, head = magnitude_image(sd)
    estimate = estimate_noise(data)
    assert estimate.method == "rice-mixture"
    assert estimate.noise_sd == pytest.approx(sd, rel=0.05)
    assert estimate.tau == pytest.approx(1 / sd**2, rel=0.1)
    assert estimate.background_mean == pytest.approx(sd * np.sqrt(np.pi / 2), rel=0.05)
    expected = data[head].mean() - data[~head].mean()
    assert estimate.contrast == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("missing", [0.0, np.nan])
def test_masked_background_falls_back(missing: float) -> None:
    data, head = magnitude_image(15.0)
    data[~head] = missing
    estimate = estimate_noise(data)
    assert estimate.method == "high-pass-mad"
    assert estimate.noise_sd == pytest.approx(15.0, rel=0.15)


def test_masked_background_keeps_the_contrast() -> None:
    data, head = magnitude_image(15.0)
    data[~head] = 0
    assert estimate_noise(data).contrast == pytest.approx(data[head].mean(), rel=0.1)


def test_eight_bit_image() -> None:
    data, _ = magnitude_image(20.0)
    grey = np.round(data / data.max() * 255).astype(np.float32)
    estimate = estimate_noise(grey)
    assert estimate.noise_sd == pytest.approx(20.0 * 255 / data.max(), rel=0.15)


def test_interpolated_slices_do_not_hide_the_noise() -> None:
    """Voxels between two slices lie on a line: their second differences are zero."""
    data, head = magnitude_image(15.0)
    thin = np.repeat(data, 4, axis=2)[:, :, 1:]
    thin[:, :, 1::2] = (thin[:, :, :-1:2] + thin[:, :, 2::2])[:, :, : thin[:, :, 1::2].shape[2]] / 2
    assert estimate_noise(thin).noise_sd == pytest.approx(15.0, rel=0.15)
    thin[~np.repeat(head, 4, axis=2)[:, :, 1:]] = 0
    assert estimate_noise(thin).noise_sd == pytest.approx(15.0, rel=0.25)


def test_rounding_is_noise_where_there_is_no_other() -> None:
    signal = 40.0 * ellipsoid((40, 40, 40), 0.8) + 40 * ellipsoid((40, 40, 40), 0.5)
    estimate = estimate_noise((signal + 0.0).astype(np.float32))
    assert estimate.method == "high-pass-mad"
    assert estimate.noise_sd == pytest.approx(40 / np.sqrt(12), rel=0.01)


@settings(max_examples=8, deadline=None)
@given(st.floats(1e-4, 1e4))
def test_estimate_has_the_unit_of_the_data(factor: float) -> None:
    data, _ = magnitude_image(15.0)
    plain = estimate_noise(data)
    scaled = estimate_noise(data * np.float32(factor))
    assert scaled.method == plain.method
    assert scaled.noise_sd == pytest.approx(plain.noise_sd * factor, rel=0.02)
    assert scaled.contrast == pytest.approx(plain.contrast * factor, rel=0.02)


@pytest.mark.parametrize("masked", [False, True])
def test_storage_order_changes_nothing(masked: bool) -> None:
    data, head = magnitude_image(15.0)
    if masked:
        data[~head] = 0
    expected = estimate_noise(data)
    for stored in (data[::-1, :, ::-1], data.transpose(2, 0, 1), np.asfortranarray(data)):
        assert estimate_noise(stored).noise_sd == pytest.approx(expected.noise_sd, rel=1e-6)


def test_a_few_bright_voxels_change_little() -> None:
    data, _ = magnitude_image(15.0)
    data.flat[::9973] = 1e7
    assert estimate_noise(data).noise_sd == pytest.approx(15.0, rel=0.05)


def test_values_that_are_not_finite_change_nothing() -> None:
    data, _ = magnitude_image(15.0)
    damaged = np.concatenate([data, np.full((4, *data.shape[1:]), np.nan, dtype=np.float32)])
    damaged[-1] = np.inf
    assert estimate_noise(damaged).noise_sd == pytest.approx(estimate_noise(data).noise_sd)


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((8, 8, 8)),
        np.full((8, 8, 8), 5.0),
        np.full((8, 8, 8), np.nan),
        np.full((8, 8, 8), -3.0),
        np.zeros((0, 4, 4)),
    ],
    ids=["zero", "constant", "nan", "negative", "no voxels"],
)
def test_images_without_contrast_are_refused(data: np.ndarray) -> None:
    with pytest.raises(BadDataError, match="constant"):
        estimate_noise(data.astype(np.float32))


@pytest.mark.skipif(not REFERENCE_CASE.exists(), reason="needs tests/data/jtv2mm")
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_reference_found_the_same(channel: int) -> None:
    case = json.loads((REFERENCE_CASE / "case.json").read_text())
    image = nib.load(REFERENCE_CASE / f"contrast-{channel}.nii.gz")
    estimate = estimate_noise(image.get_fdata(dtype=np.float32))
    assert estimate.method == "rice-mixture"
    assert estimate.noise_sd == pytest.approx(case["noise_sd"][channel], rel=0.08)
    assert estimate.contrast == pytest.approx(case["mu"][channel], rel=0.02)
