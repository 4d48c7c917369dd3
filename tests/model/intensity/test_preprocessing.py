"""Scans of one contrast on common intensities, air at 0: whatever their gain, field or origin."""

from __future__ import annotations

import numpy as np
import pytest

from bids_unires.config import Modality
from bids_unires.model import NoiseEstimate, SliceProfile
from bids_unires.model.intensity.preprocessing import PreparedContrast, prepare_contrast
from bids_unires.model.intensity.repaired_scan import RepairedScan
from bids_unires.space.affines import scaling, translation
from bids_unires.space.volume import Volume

SHAPE = (40, 40, 20)
AFFINE = scaling([4.0, 4.0, 8.0]) @ translation(-(np.array(SHAPE) - 1) / 2)
RADIUS = np.linalg.norm(
    np.moveaxis(np.indices(SHAPE), 0, -1) @ AFFINE[:3, :3] + AFFINE[:3, 3], axis=-1
)
HEAD = RADIUS < 70
INSIDE = RADIUS < 55


def prepared(
    *images: np.ndarray, modality: Modality = "MR", interleaved: bool = False
) -> PreparedContrast:
    scans = []
    for number, image in enumerate(images):
        noise = np.random.default_rng(number).normal(scale=2.0, size=(2, *SHAPE))
        data = image + noise[0] if modality == "CT" else np.hypot(image + noise[0], noise[1])
        volume = Volume(data.astype(np.float32), AFFINE)
        estimate = NoiseEstimate(
            2.0, float(image[~HEAD].mean()), float(image[HEAD].mean()), "rice-mixture"
        )
        scans.append(RepairedScan(volume, volume, estimate, SliceProfile(), np.eye(4)))
    return prepare_contrast(scans, modality, interleaved=interleaved)


def medians(contrast: PreparedContrast) -> list[float]:
    return [float(np.median(scan.data[INSIDE])) for scan in contrast.observations]


@pytest.mark.parametrize("gain", [0.7, 1.6])
def test_repeats_are_as_bright_as_each_other(gain: float) -> None:
    head = 120.0 * HEAD
    first, second = medians(prepared(head, gain * head))
    assert second == pytest.approx(first, rel=0.02)
    # Between the two, so that neither decides.
    assert first == pytest.approx(120 * np.sqrt(gain), rel=0.02)


def test_the_only_scan_keeps_its_intensities() -> None:
    (alone,) = medians(prepared(120.0 * HEAD))
    assert alone == pytest.approx(120, rel=0.01)


@pytest.mark.parametrize("interleaved", [True, False])
def test_even_slices_that_are_brighter_are_told_if_asked_for(interleaved: bool) -> None:
    factors = np.exp(0.1 * (1 - 2 * (np.arange(SHAPE[2]) % 2)))
    contrast = prepared(120.0 * HEAD * factors, interleaved=interleaved)
    (scan,) = contrast.observations
    assert scan.interleave == pytest.approx(0.1 if interleaved else 0, abs=0.01)


def test_hounsfield_units_stay_and_air_becomes_0() -> None:
    images = [np.where(HEAD, 40.0, air) for air in (-1000.0, -960.0)]
    contrast = prepared(*images, modality="CT")
    assert contrast.air == -1000
    # Nothing is darker than the air of all, and the head is as it was above it.
    for scan, image in zip(contrast.observations, images, strict=True):
        assert scan.data.min() > -15
        np.testing.assert_allclose(scan.data, image - contrast.air, atol=15)
        assert not scan.zero_is_missing
