from __future__ import annotations

import json
import logging
import math

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_unires.dataset.acquisition import acquisition_from_sidecar
from tests.paths import SHARED


def affine_with(axis: int, spacing: float, flip: bool = False) -> np.ndarray:
    sizes = np.ones(3)
    sizes[axis] = -spacing if flip else spacing
    return np.diag([*sizes, 1.0])


@given(
    axis=st.integers(0, 2),
    flip=st.booleans(),
    spacing=st.floats(2, 10),
    ratio=st.floats(0.11, 1.99),
)
def test_gap_follows_thickness_and_spacing_however_the_image_is_stored(
    axis: int, flip: bool, spacing: float, ratio: float
) -> None:
    scan = {"MRAcquisitionType": "2D", "SliceThickness": ratio * spacing}
    acquisition = acquisition_from_sidecar(scan, affine_with(axis, spacing, flip))
    assert acquisition.slice_axis == axis
    assert math.isclose(acquisition.gap, 1 - ratio, abs_tol=1.1e-3)
    assert acquisition.dimensionality == "2D"
    assert "SliceThickness" in acquisition.gap_source


@pytest.mark.parametrize(
    "thickness",
    [
        *("4", "", "thick", None, True, [], [4], [4, 4], {"mm": 4}),
        *(0, -0.0, -1, 100, 0.3, 1e-300, 10**400, math.nan, math.inf, -math.inf),
    ],
)
def test_absurd_thickness_means_no_gap_and_a_word(
    thickness: object, caplog: pytest.LogCaptureFixture
) -> None:
    acquisition = acquisition_from_sidecar({"SliceThickness": thickness}, affine_with(2, 5))
    assert acquisition.gap == 0
    assert acquisition.gap_source.startswith("assumed none")
    assert ("SliceThickness" in caplog.text) is (thickness is not None)


def test_thickness_equal_to_spacing_is_exactly_no_gap() -> None:
    affine = affine_with(2, 4.000002)
    assert acquisition_from_sidecar({"SliceThickness": 4}, affine).gap == 0


def test_volumes_excited_as_a_slab_have_no_gap() -> None:
    for thickness in (2, 4, 8, "thin"):
        scan = {"MRAcquisitionType": "3D", "SliceThickness": thickness}
        acquisition = acquisition_from_sidecar(scan, affine_with(2, 4))
        assert (acquisition.gap, acquisition.dimensionality) == (0, "3D")


@pytest.mark.parametrize(
    ("kind", "dimensionality", "source"),
    [
        ("2D", "2D", "excited slice"),
        (" 3d ", "3D", "encoded partition"),
        (None, "unknown", "assumed"),
        ("EPI", "unknown", "assumed"),
        (3, "unknown", "assumed"),
        (["2D"], "unknown", "assumed"),
        (math.nan, "unknown", "assumed"),
    ],
)
def test_profile_says_where_it_comes_from(kind: object, dimensionality: str, source: str) -> None:
    scan = {} if kind is None else {"MRAcquisitionType": kind}
    acquisition = acquisition_from_sidecar(scan, affine_with(2, 4))
    assert acquisition.dimensionality == dimensionality
    assert acquisition.profile_source.startswith(source)
    # What no sidecar tells is assumed: a rect as wide as the slices are apart.
    assert (acquisition.through_plane, acquisition.gap) == ("rect", 0)


@pytest.mark.parametrize("kind", [None, "2D", "3D"])
def test_slices_of_ct_are_not_excited(kind: str | None) -> None:
    scan = {"SliceThickness": 4} | ({} if kind is None else {"MRAcquisitionType": kind})
    acquisition = acquisition_from_sidecar(scan, affine_with(2, 5), modality="CT")
    assert acquisition.profile_source.startswith("CT slice")
    assert (acquisition.through_plane, acquisition.dimensionality) == ("rect", "unknown")
    assert acquisition.gap == pytest.approx(0.2)


@pytest.mark.parametrize(
    "metadata",
    [
        {"SliceThickness": "thick"},
        {"SliceThickness": 100},
        {"SpacingBetweenSlices": 1},
        {"SliceEncodingDirection": "x"},
        {"SliceEncodingDirection": "i"},
    ],
)
def test_warnings_name_the_scan(
    metadata: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    acquisition_from_sidecar(metadata, affine_with(2, 5), "sub-01_T1w.nii.gz")
    (message,) = caplog.messages
    assert message.startswith(f"sub-01_T1w.nii.gz: {next(iter(metadata))} ")


def test_thicker_than_apart_is_an_overlap() -> None:
    assert acquisition_from_sidecar({"SliceThickness": 5}, affine_with(2, 2.5)).gap == -1


@given(tilt=st.floats(-35, 35), thickness=st.floats(2, 5), spacing=st.floats(4, 6))
def test_a_tilted_gantry_changes_no_gap(tilt: float, thickness: float, spacing: float) -> None:
    # The table moves along z; a step of it is longer than the slices are apart.
    tilted = affine_with(2, spacing / math.cos(math.radians(tilt)))
    tilted[2, 1] = math.sin(math.radians(tilt))
    tilted[1, 1] = math.cos(math.radians(tilt))
    acquisition = acquisition_from_sidecar({"SliceThickness": thickness}, tilted)
    assert acquisition.slice_axis == 2
    assert acquisition.gap == pytest.approx(1 - thickness / spacing, abs=1.1e-3)


@pytest.mark.parametrize("stated", [0, -5, math.nan, math.inf, [5], {"mm": 5}, True, None])
def test_absurd_spacing_changes_nothing(stated: object, caplog: pytest.LogCaptureFixture) -> None:
    scan = {"SliceThickness": 4, "SpacingBetweenSlices": stated}
    assert acquisition_from_sidecar(scan, affine_with(2, 5)).gap == pytest.approx(0.2)
    assert ("SpacingBetweenSlices" in caplog.text) is (stated is not None)


@pytest.mark.parametrize(("direction", "axis"), [("i", 0), ("j-", 1), ("k", 2), ("x", 2), (3, 2)])
def test_named_slice_direction_wins_if_it_is_one(direction: object, axis: int) -> None:
    scan = {"SliceEncodingDirection": direction}
    assert acquisition_from_sidecar(scan, affine_with(2, 3)).slice_axis == axis


@pytest.mark.parametrize(("stated", "warns"), [(5, False), (4, True), ("wide", True)])
def test_spacing_is_the_image_s_and_a_contradiction_told(
    stated: object, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    scan = {"SliceThickness": 4, "SpacingBetweenSlices": stated}
    with caplog.at_level(logging.WARNING, "bids_unires"):
        acquisition = acquisition_from_sidecar(scan, affine_with(1, 5))
    assert acquisition.gap == pytest.approx(0.2)
    assert ("SpacingBetweenSlices" in caplog.text) is warns


@pytest.mark.skipif(not SHARED.exists(), reason="the example scans are not beside the checkout")
def test_real_sidecar() -> None:
    scan = SHARED / "data/positions/sub-01/anat/sub-01_acq-sag_run-1_T1w.nii.gz"
    metadata = json.loads(scan.with_name("sub-01_acq-sag_run-1_T1w.json").read_text())
    acquisition = acquisition_from_sidecar(metadata, nib.Nifti1Image.from_filename(scan).affine)
    assert acquisition.gap == pytest.approx(1 - 4 / 4.8, abs=1e-4)
