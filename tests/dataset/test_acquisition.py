from __future__ import annotations

import json
import logging
import math

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from bids_unires.config import Modality
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
        *("4 mm", "", "nan", "thick", None, True, [], [4], [4, 4], {"mm": 4}),
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


@pytest.mark.parametrize("field", ["SliceThickness", "SpacingBetweenSlices"])
@pytest.mark.parametrize("text", ["4", "4.0", " 4e0 "])
def test_numbers_in_quotes_are_read_and_told(
    field: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    scan = {"SliceThickness": 4, "SpacingBetweenSlices": 4}
    affine = affine_with(2, 4 if field == "SpacingBetweenSlices" else 5)
    expected = acquisition_from_sidecar({**scan, field: 4}, affine)
    caplog.clear()
    assert acquisition_from_sidecar({**scan, field: text}, affine) == expected
    assert f"{field} is the text {text!r}" in caplog.text


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
        ("2D", "2D", "2D, one slice at a time"),
        (" 3d ", "3D", "3D, the whole slab at once"),
        (None, "unknown", "assumed 2D"),
        ("EPI", "unknown", "assumed 2D"),
        (3, "unknown", "assumed 2D"),
        (["2D"], "unknown", "assumed 2D"),
        (math.nan, "unknown", "assumed 2D"),
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


@settings(max_examples=50)
@given(
    turn=st.tuples(*[st.floats(-180, 180)] * 3),
    axis=st.integers(0, 2),
    spacing=st.sampled_from([2.0, 2.5, 3.0, 3.3]),
    ratio=st.sampled_from([2.0, 3.0, 5.0]),
)
def test_an_overlap_does_not_depend_on_how_the_scan_lies(
    turn: tuple[float, float, float], axis: int, spacing: float, ratio: float
) -> None:
    affine = affine_with(axis, spacing)
    affine[:3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() @ affine[:3]
    header = nib.Nifti1Header()
    header.set_sform(affine, 1)
    scan = {"SliceThickness": ratio * spacing, "SpacingBetweenSlices": spacing}
    for stored in (affine, header.get_sform()):
        acquisition = acquisition_from_sidecar(scan, stored)
        assert acquisition.slice_axis == axis
        assert acquisition.gap == pytest.approx(1 - ratio, abs=1e-5)


@pytest.mark.parametrize(
    ("ratio", "stated", "modality", "believed"),
    [
        (2.0, None, "MR", True),
        (2.01, None, "MR", True),
        (2.1, None, "MR", False),
        (3.0, 9.0, "MR", False),
        (3.0, 2.01, "MR", True),
        (5.0, 2.0, "MR", True),
        (5.2, 2.0, "MR", False),
        (5.0, None, "CT", True),
        (5.2, None, "CT", False),
        (0.1, None, "MR", True),
        (0.09, None, "MR", False),
    ],
)
def test_large_overlaps_are_believed_where_two_sources_agree(
    ratio: float,
    stated: float | None,
    modality: Modality,
    believed: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    scan = {"SliceThickness": 2 * ratio, "SpacingBetweenSlices": stated}
    acquisition = acquisition_from_sidecar(scan, affine_with(2, 2), modality=modality)
    assert acquisition.gap == pytest.approx(1 - ratio if believed else 0)
    assert ("does not fit the slice spacing" in caplog.text) is not believed


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("flip", [False, True])
def test_planes_coarser_than_the_spacing_do_not_hide_the_slices(
    axis: int, flip: bool, caplog: pytest.LogCaptureFixture
) -> None:
    sizes = np.full(3, 2.5)
    sizes[axis] = -2 if flip else 2
    affine = np.diag([*sizes, 1.0])
    scan = {"MRAcquisitionType": "2D", "SliceThickness": 6, "SpacingBetweenSlices": 2}
    for direction in ({}, {"SliceEncodingDirection": "ijk"[axis]}):
        acquisition = acquisition_from_sidecar({**scan, **direction}, affine)
        assert (acquisition.slice_axis, acquisition.gap) == (axis, -2)
    assert not caplog.records


@pytest.mark.parametrize("stated", [2.5, 7.0, 1.0])
def test_a_spacing_of_no_axis_or_of_several_names_none(stated: float) -> None:
    affine = np.diag([2.5, 2.5, 5.0, 1.0])
    assert acquisition_from_sidecar({"SpacingBetweenSlices": stated}, affine).slice_axis == 2


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


@pytest.mark.realdata
def test_real_sidecar() -> None:
    scan = SHARED / "data/positions/sub-01/anat/sub-01_acq-sag_run-1_T1w.nii.gz"
    metadata = json.loads(scan.with_name("sub-01_acq-sag_run-1_T1w.json").read_text())
    acquisition = acquisition_from_sidecar(metadata, nib.Nifti1Image.from_filename(scan).affine)
    assert acquisition.gap == pytest.approx(1 - 4 / 4.8, abs=1e-4)
