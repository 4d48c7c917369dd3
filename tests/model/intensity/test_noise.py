"""Noise estimates: known noise is found, and units and storage order do not matter."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from bids_unires.errors import BadDataError
from bids_unires.model.intensity.noise import estimate_noise
from tests.paths import DATA

REFERENCE_CASE = DATA / "jtv2mm"
SHAPE = (96, 112, 80)
SEEDS = [0, 1, 2]
Image = NDArray[np.float32]


def ellipsoid(shape: tuple[int, ...], radius: float) -> NDArray[np.bool_]:
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return np.asarray(x**2 + y**2 + z**2 < radius**2)


HEAD = ellipsoid(SHAPE, 0.85)


@cache
def tissues() -> tuple[Image, Image, Image]:
    """Folds of grey in white matter, 0 to 1; fine texture, sd 1; a smooth field around 1."""
    rng = np.random.default_rng(7)

    def smooth_field(width: float) -> Image:
        field = ndimage.gaussian_filter(rng.standard_normal(SHAPE, dtype=np.float32), width)
        return np.asarray(field / field.std())

    folds = ndimage.gaussian_filter((smooth_field(6) > 0.3).astype(np.float32), 0.7)
    return folds, smooth_field(1.5), 1 + 0.25 * smooth_field(25) / 3


@cache
def head_signal() -> Image:
    """Noise-free MR: scalp, dark bone, brain with folds and texture, dark ventricles."""
    folds, texture, _ = tissues()
    signal = 800.0 * HEAD
    signal[ellipsoid(SHAPE, 0.8)] = 90
    brain = ellipsoid(SHAPE, 0.74)
    signal[brain] = (750 - 200 * folds + 4 * texture)[brain]
    signal[ellipsoid(SHAPE, 0.15)] = 180
    return np.asarray(ndimage.gaussian_filter(signal, 0.6), dtype=np.float32)


def rician(signal: Image, sd: float, seed: int) -> Image:
    noise = np.random.default_rng(seed).normal(scale=sd, size=(2, *signal.shape))
    return np.hypot(signal + noise[0], noise[1]).astype(np.float32)


def zero_filled(signal: Image, sd: float, seed: int, axes: tuple[int, ...]) -> Image:
    """Magnitude of a complex image whose k-space was padded to twice its size."""
    noise = np.random.default_rng(seed).normal(scale=sd, size=(2, *signal.shape))
    image = signal + noise[0] + 1j * noise[1]
    for axis in axes:
        length = image.shape[axis]
        widths = [(0, 0)] * 3
        widths[axis] = (length // 2, length // 2)
        kspace = np.fft.fftshift(np.fft.fft(image, axis=axis), axes=axis)
        kspace = np.fft.ifftshift(np.pad(kspace, widths), axes=axis)
        image = 2 * np.fft.ifft(kspace, axis=axis)
    return np.abs(image).astype(np.float32)


def plain(sd: float, seed: int) -> Image:
    return rician(head_signal(), sd, seed)


def masked(sd: float, seed: int) -> Image:
    return plain(sd, seed) * HEAD


def stripped(sd: float, seed: int) -> Image:
    return plain(sd, seed) * ellipsoid(SHAPE, 0.7)


def defaced(sd: float, seed: int) -> Image:
    data = plain(sd, seed)
    data[:, :30, :40] = 0
    return data


def rim(sd: float, seed: int) -> Image:
    return plain(sd, seed) * ndimage.binary_dilation(HEAD, iterations=2)


def floor(sd: float, seed: int) -> Image:
    return plain(sd, seed) * np.where(HEAD, np.float32(1), np.float32(0.2))


def sparse_floor(sd: float, seed: int) -> Image:
    kept = np.random.default_rng(seed).random(SHAPE) < 0.2
    return plain(sd, seed) * (HEAD | kept)


def thick(sd: float, seed: int) -> Image:
    slices = head_signal().reshape(96, 112, 16, 5).mean(axis=3)
    return rician(slices, sd, seed)


def receive_field(sd: float, seed: int) -> Image:
    return rician(head_signal() * tissues()[2], sd, seed)


def signed(sd: float, seed: int) -> Image:
    noise = np.random.default_rng(seed).normal(scale=sd, size=SHAPE)
    return (head_signal() + noise).astype(np.float32)


def stored_in_whole_numbers(sd: float, seed: int) -> Image:
    return np.round(plain(sd, seed))


SCENARIOS: list[Callable[[float, int], Image]] = [
    plain,
    masked,
    stripped,
    defaced,
    rim,
    floor,
    sparse_floor,
    thick,
    receive_field,
    signed,
    stored_in_whole_numbers,
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_noise_of_magnitude_images(scenario: Callable[[float, int], Image], seed: int) -> None:
    sd = [8.0, 15.0, 40.0][seed]
    assert estimate_noise(scenario(sd, seed)).noise_sd == pytest.approx(sd, rel=0.15)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mask", [True, False])
def test_noise_in_eight_bits(mask: bool, seed: int) -> None:
    data = plain(20.0, seed) * np.where(HEAD, 1, 0 if mask else 1)
    grey = np.round(data / data.max() * 255).astype(np.float32)
    assert estimate_noise(grey).noise_sd == pytest.approx(20.0 * 255 / data.max(), rel=0.15)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("mask", [True, False])
def test_zero_filling_changes_nothing(axes: tuple[int, ...], mask: bool, seed: int) -> None:
    """The standard deviation of the voxels is that before k-space was padded."""
    signal = head_signal()[:, :, 30:54]
    data = zero_filled(signal, 20.0, seed, axes)
    if mask:
        inside = HEAD[:, :, 30:54]
        for axis in axes:
            inside = np.repeat(inside, 2, axis=axis)
        data *= inside
    assert estimate_noise(data).noise_sd == pytest.approx(20.0, rel=0.25)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("strength", [0.05, 0.15, 0.3])
def test_ghosts_change_the_estimate_by_less_than_a_half(strength: float, seed: int) -> None:
    signal = head_signal()
    ghosted = signal + strength * np.roll(signal, SHAPE[1] // 2, axis=1)
    estimate = estimate_noise(rician(ghosted, 15.0, seed))
    assert 10 < estimate.noise_sd < 22.5


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", [(8, 8, 8), (12, 12, 4)])
def test_noise_of_a_few_hundred_voxels(shape: tuple[int, int, int], seed: int) -> None:
    signal = np.where(np.arange(shape[1])[None, :, None] < 2, 0, 300 + 5 * np.indices(shape)[0])
    data = rician(signal.astype(np.float32), 15.0, seed)
    assert estimate_noise(data).noise_sd == pytest.approx(15.0, rel=0.4)


@cache
def hounsfield_units() -> Image:
    """Noise-free CT: air, table, scalp, skull, brain with folds, ventricles."""
    folds, texture, _ = tissues()
    units = np.full(SHAPE, -1000.0)
    units[:, :4] = -350
    units[HEAD] = -70
    units[ellipsoid(SHAPE, 0.82)] = 1000
    brain = ellipsoid(SHAPE, 0.76)
    units[brain] = (29 + 9 * folds + texture)[brain]
    units[ellipsoid(SHAPE, 0.15)] = 8
    return np.asarray(ndimage.gaussian_filter(units, 0.5))


def ct(
    sd: float, seed: int, padding: float | None = None, kernel: float = 0, slices: int = 1
) -> Image:
    """CT in whole HU, padded outside the field of view; noise of a reconstruction kernel."""
    units = hounsfield_units().reshape(96, 112, 80 // slices, slices).mean(axis=3)
    noise = np.random.default_rng(seed).standard_normal(units.shape)
    if kernel:
        noise = ndimage.gaussian_filter(noise, (kernel, kernel, 0))
    # Air attenuates nothing, and is less noisy.
    values = units + sd * noise / noise.std() * np.where(units < -900, 0.5, 1)
    values = np.clip(np.round(values), -1024, 3071)
    if padding is not None:
        x, y = np.ogrid[:96, :112]
        values[np.hypot(x - 47.5, y - 55.5) > 50] = padding
    return values.astype(np.float32)


@pytest.mark.parametrize(("sd", "seed"), [(4.0, 0), (10.0, 1), (25.0, 2)])
@pytest.mark.parametrize("padding", [None, -1024, -2000, -3024])
def test_noise_of_soft_tissue_in_ct(padding: float | None, sd: float, seed: int) -> None:
    estimate = estimate_noise(ct(sd, seed, padding), "CT")
    assert estimate.noise_sd == pytest.approx(sd, rel=0.15)
    assert -1030 < estimate.background_mean < -900
    assert estimate.contrast > 1000


@pytest.mark.parametrize(("sd", "seed"), [(4.0, 0), (10.0, 1), (25.0, 2)])
def test_ct_of_thick_slices_and_smooth_kernels(sd: float, seed: int) -> None:
    assert estimate_noise(ct(sd, seed, slices=5), "CT").noise_sd == pytest.approx(sd, rel=0.15)
    smooth = ct(sd, seed, kernel=0.7)
    assert estimate_noise(smooth, "CT").noise_sd == pytest.approx(sd, rel=0.25)


@pytest.mark.parametrize(("sd", "seed"), [(4.0, 0), (10.0, 1)])
def test_ct_in_other_units(sd: float, seed: int) -> None:
    data = ct(sd, seed)
    unsigned = estimate_noise(data + 1024, "CT")
    assert unsigned.noise_sd == pytest.approx(sd, rel=0.15)
    assert unsigned.contrast == pytest.approx(estimate_noise(data, "CT").contrast, rel=0.1)
    window = np.round(np.clip((data + 100) / 300 * 255, 0, 255))
    assert estimate_noise(window, "CT").noise_sd == pytest.approx(sd * 255 / 300, rel=0.15)


@pytest.mark.parametrize(("sd", "seed"), [(4.0, 0), (10.0, 1)])
@pytest.mark.parametrize("outside", [-1024.0, 0.0])
def test_masked_ct(outside: float, sd: float, seed: int) -> None:
    data = ct(sd, seed)
    data[~ellipsoid(SHAPE, 0.72)] = outside
    assert estimate_noise(data, "CT").noise_sd == pytest.approx(sd, rel=0.15)


def test_water_is_a_value_in_ct() -> None:
    """A brain whose mean is 0 HU is not missing."""
    data = ct(6.0, 0) - 30
    assert estimate_noise(data, "CT").noise_sd == pytest.approx(6.0, rel=0.15)


def simple_head(sd: float, seed: int = 0) -> tuple[Image, NDArray[np.bool_]]:
    shape = (64, 72, 56)
    head = ellipsoid(shape, 0.8)
    signal = 300.0 * head + 250 * ellipsoid(shape, 0.6) + 200 * ellipsoid(shape, 0.3)
    return rician(signal.astype(np.float32), sd, seed), head


@pytest.mark.parametrize("sd", [4.0, 15.0, 40.0])
def test_air_is_believed_where_it_is_rician(sd: float) -> None:
    data, head = simple_head(sd)
    estimate = estimate_noise(data)
    assert estimate.method == "rice-mixture"
    assert estimate.noise_sd == pytest.approx(sd, rel=0.05)
    assert estimate.tau == pytest.approx(1 / sd**2, rel=0.1)
    assert estimate.background_mean == pytest.approx(sd * np.sqrt(np.pi / 2), rel=0.05)
    expected = data[head].mean() - data[~head].mean()
    assert estimate.contrast == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("missing", [0.0, np.nan])
def test_without_air_the_noise_is_that_of_tissue(missing: float) -> None:
    data, head = simple_head(15.0)
    data[~head] = missing
    estimate = estimate_noise(data)
    assert estimate.method == "high-pass-mad"
    assert estimate.noise_sd == pytest.approx(15.0, rel=0.1)


def test_masked_background_keeps_the_contrast() -> None:
    data, head = simple_head(15.0)
    data[~head] = 0
    assert estimate_noise(data).contrast == pytest.approx(data[head].mean(), rel=0.1)


def test_rounding_is_noise_where_there_is_no_other() -> None:
    shape = (56, 56, 56)
    signal = 40.0 * ellipsoid(shape, 0.8) + 40 * ellipsoid(shape, 0.6)
    estimate = estimate_noise(signal.astype(np.float32))
    assert estimate.method == "high-pass-mad"
    assert estimate.noise_sd == pytest.approx(40 / np.sqrt(12), rel=0.01)


@settings(max_examples=8, deadline=None)
@given(st.floats(1e-6, 1e6))
def test_estimate_has_the_unit_of_the_data(factor: float) -> None:
    data, _ = simple_head(15.0)
    before = estimate_noise(data)
    scaled = estimate_noise(data * np.float32(factor))
    assert scaled.method == before.method
    assert scaled.noise_sd == pytest.approx(before.noise_sd * factor, rel=0.02)
    assert scaled.contrast == pytest.approx(before.contrast * factor, rel=0.02)


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_storage_order_changes_little(mask: bool, modality: str) -> None:
    data = ct(8.0, 0) if modality == "CT" else plain(15.0, 0)
    if mask:
        data[~HEAD] = 0
    expected = estimate_noise(data, modality)
    for stored in (data[::-1, :, ::-1], data.transpose(2, 0, 1), np.asfortranarray(data)):
        found = estimate_noise(stored, modality)
        assert found.noise_sd == pytest.approx(expected.noise_sd, rel=0.05)
        assert found.contrast == pytest.approx(expected.contrast, rel=0.01)


@pytest.mark.parametrize("mask", [False, True])
def test_zero_padding_changes_little(mask: bool) -> None:
    data = masked(15.0, 0) if mask else plain(15.0, 0)
    padded = np.pad(data, ((7, 20), (11, 3), (0, 16)))
    found = estimate_noise(padded).noise_sd
    assert found == pytest.approx(estimate_noise(data).noise_sd, rel=0.05)


def test_a_few_bright_voxels_change_little() -> None:
    data, _ = simple_head(15.0)
    data.flat[::9973] = 1e7
    assert estimate_noise(data).noise_sd == pytest.approx(15.0, rel=0.05)


def test_values_that_are_not_finite_change_little() -> None:
    data, _ = simple_head(15.0)
    damaged = np.concatenate([data, np.full((4, *data.shape[1:]), np.nan, dtype=np.float32)])
    damaged[-1] = np.inf
    expected = estimate_noise(data).noise_sd
    assert estimate_noise(damaged).noise_sd == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("modality", ["MR", "CT"])
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
def test_images_without_contrast_are_refused(data: np.ndarray, modality: str) -> None:
    with pytest.raises(BadDataError, match="constant"):
        estimate_noise(data.astype(np.float32), modality)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_reference_found_the_same_contrast(channel: int) -> None:
    """These scans are signed: half of the air is missing to a mixture of positive values.

    What is left is half of a normal distribution. The reference takes it for a Rayleigh
    distribution of the same second moment, whose scale is smaller by the square root of 2.
    """
    case = json.loads((REFERENCE_CASE / "case.json").read_text())
    data = nib.load(REFERENCE_CASE / f"contrast-{channel}.nii.gz").get_fdata(dtype=np.float32)
    estimate = estimate_noise(data)
    assert estimate.noise_sd == pytest.approx(np.sqrt(2) * case["noise_sd"][channel], rel=0.1)
    assert estimate.noise_sd == pytest.approx(_sd_from_negative_values(data), rel=0.1)
    assert estimate.contrast == pytest.approx(case["mu"][channel], rel=0.02)


def _sd_from_negative_values(data: Image) -> float:
    """Scale of a normal distribution around 0, from the half that holds no tissue."""
    return float(np.sqrt((data[data < 0].astype(np.float64) ** 2).mean()))
