from __future__ import annotations

import itertools
import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.quaternions import mat2quat
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from bids_unires.dataset.orientation import affine_of
from bids_unires.errors import BadDataError

PATH = Path("sub-01_T1w.nii.gz")
SHAPE = (20, 24, 10)
SIDES = np.array([1.0, 1.5, 5.0])
Kind = type[nib.Nifti1Header]
KINDS = (nib.Nifti1Header, nib.Nifti2Header)

# Every order and direction of the axes.
AXES = [
    np.eye(3)[list(order)] * signs
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def placed(turn: NDArray[np.float64], sides: NDArray[np.float64] = SIDES) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = turn * sides
    affine[:3, 3] = [-12, 30, -7]
    return affine


def header_with(
    affine: NDArray[np.float64], kind: Kind = nib.Nifti1Header, codes: tuple[int, int] = (1, 1)
) -> nib.Nifti1Header:
    header = kind()
    header.set_data_shape(SHAPE)
    header.set_qform(affine, codes[1])
    header.set_sform(affine, codes[0])
    header.set_xyzt_units("mm", "sec")
    return header


def set_rows(header: nib.Nifti1Header, rows: NDArray[np.float64]) -> None:
    for axis, row in zip("xyz", rows, strict=True):
        header[f"srow_{axis}"] = row


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "rows", [np.zeros((3, 4)), np.full((3, 4), np.nan), np.full((3, 4), 1e30), np.eye(4)[[0, 1, 1]]]
)
def test_a_qform_stands_in_for_an_unusable_sform(
    caplog: pytest.LogCaptureFixture, kind: Kind, rows: NDArray[np.float64]
) -> None:
    for turn in AXES:
        affine = placed(turn)
        header = header_with(affine, kind)
        set_rows(header, rows)
        caplog.clear()
        np.testing.assert_allclose(affine_of(header, SHAPE, PATH), affine, atol=1e-4)
        (message,) = caplog.messages
        assert message.startswith(f"{PATH}: its sform cannot be used")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quaternion", [(0.8, 0.7, 0.3), (np.nan, 0, 0), (np.inf, 0, 0), (9, 9, 9)])
def test_an_sform_is_used_whatever_the_quaternion(
    caplog: pytest.LogCaptureFixture, kind: Kind, quaternion: tuple[float, ...]
) -> None:
    affine = placed(Rotation.from_euler("xyz", [10, -20, 30], degrees=True).as_matrix())
    header = header_with(affine, kind)
    for axis, value in zip("bcd", quaternion, strict=True):
        header[f"quatern_{axis}"] = value
    np.testing.assert_allclose(affine_of(header, SHAPE, PATH), affine, atol=1e-5)
    (message,) = caplog.messages
    assert message.startswith(f"{PATH}: its qform cannot be used")
    header["sform_code"] = 0
    with pytest.raises(BadDataError, match=rf"{PATH} has NaN .* in its qform: repair"):
        affine_of(header, SHAPE, PATH)


def test_both_forms_unusable_are_both_named() -> None:
    header = header_with(placed(np.eye(3)))
    set_rows(header, np.zeros((3, 4)))
    header["quatern_b"] = 2
    with pytest.raises(BadDataError, match=r"in its sform and .* in its qform: repair its header"):
        affine_of(header, SHAPE, PATH)


@settings(max_examples=200)
@given(
    axis=st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1),
    digits=st.integers(3, 7),
    flipped=st.booleans(),
)
def test_rounded_quaternions_of_half_turns_are_made_unit_length(
    axis: tuple[float, float, float], digits: int, flipped: bool
) -> None:
    turn = Rotation.from_rotvec(np.pi * np.array(axis) / np.linalg.norm(axis)).as_matrix()
    affine = placed(turn * [1, 1, -1 if flipped else 1])
    header = header_with(affine, codes=(0, 1))
    for name, value in zip("bcd", mat2quat(turn)[1:], strict=True):
        header[f"quatern_{name}"] = np.round(value, digits)
    found = affine_of(header, SHAPE, PATH)
    # A length that rounding made too short leaves a turn of less than 180 degrees: b, c and d do
    # not tell more.
    lost = 2 * np.sqrt(3 * 10.0**-digits)
    np.testing.assert_allclose(found[:3, :3] / SIDES, affine[:3, :3] / SIDES, atol=lost + 1e-5)
    np.testing.assert_allclose(np.linalg.norm(found[:3, :3], axis=0), SIDES, rtol=1e-6)


@given(vector=st.tuples(*[st.floats(-0.57, 0.57)] * 3), flipped=st.booleans())
def test_qforms_are_read_as_nibabel_reads_them(
    vector: tuple[float, float, float], flipped: bool
) -> None:
    header = header_with(placed(np.eye(3)), codes=(0, 1))
    for name, value in zip("bcd", vector, strict=True):
        header[f"quatern_{name}"] = value
    header["pixdim"][0] = -1 if flipped else 1
    np.testing.assert_allclose(affine_of(header, SHAPE, PATH), header.get_qform(), atol=1e-6)


@pytest.mark.parametrize("first", [0.0, 2.0, np.nan])
def test_qforms_of_old_tools_are_not_flipped(first: float) -> None:
    affine = placed(np.eye(3))
    header = header_with(affine, codes=(0, 1))
    header["pixdim"][0] = first
    np.testing.assert_allclose(affine_of(header, SHAPE, PATH), affine, atol=1e-6)


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5])
def test_an_sform_that_stretches_gives_way_to_the_qform(
    caplog: pytest.LogCaptureFixture, code: int
) -> None:
    stretch = np.array([[1.12, 0.03, 0], [-0.02, 1.18, 0.05], [0.01, -0.04, 1.15]])
    for turn in AXES:
        affine = placed(turn)
        header = header_with(affine)
        set_rows(header, np.column_stack([stretch @ affine[:3, :3], [1, 2, 3]]))
        header["sform_code"] = code
        caplog.clear()
        np.testing.assert_allclose(affine_of(header, SHAPE, PATH), affine, atol=1e-4)
        (message,) = caplog.messages
        assert f"{PATH}: its sform has voxels of" in message
        assert message.endswith("the qform, which has these, is used")
        header["qform_code"] = 0
        found = affine_of(header, SHAPE, PATH)
        np.testing.assert_allclose(found[:3, :3], stretch @ affine[:3, :3], rtol=1e-5)
        assert "the sform is used, since there is no qform" in caplog.text


@pytest.mark.parametrize("scale", [0.93, 1.4])
def test_a_uniform_scale_is_a_stretch_too(scale: float) -> None:
    affine = placed(np.eye(3))
    header = header_with(affine)
    set_rows(header, scale * affine[:3])
    np.testing.assert_allclose(affine_of(header, SHAPE, PATH), affine, atol=1e-5)


@given(
    tilt=st.floats(-35, 35),
    axis=st.integers(0, 2),
    lean=st.integers(0, 2),
    across=st.booleans(),
    turn=st.sampled_from(AXES),
)
def test_tilted_gantries_are_no_stretch(
    tilt: float, axis: int, lean: int, across: bool, turn: NDArray[np.float64]
) -> None:
    # Slices of 5 mm along the axis, stacked along a direction that leans; pixdim states the
    # step along that direction, or the distance across the slices.
    sides = np.array([0.5, 0.6, 0.7])
    sides[axis] = 5.0
    affine = placed(np.eye(3), sides)
    if lean != axis:
        affine[lean, axis] = 5.0 * np.tan(np.radians(tilt))
    header = header_with(placed(np.eye(3), sides))
    if not across:
        header["pixdim"][1 + axis] = np.linalg.norm(affine[:3, axis])
    affine[:3] = turn @ affine[:3]
    set_rows(header, affine[:3])
    np.testing.assert_allclose(affine_of(header, SHAPE, PATH), affine, atol=1e-5)


@pytest.mark.parametrize("pixdim", [(1, 1, 1), (0, 0, 0), (np.nan, 1, 1), (1.004, 1.506, 5.02)])
def test_a_pixdim_that_was_never_filled_in_or_rounded_moves_nothing(
    caplog: pytest.LogCaptureFixture, pixdim: tuple[float, ...]
) -> None:
    affine = placed(np.eye(3))
    header = header_with(affine, codes=(1, 0))
    header["pixdim"][1:4] = pixdim
    np.testing.assert_allclose(affine_of(header, SHAPE, PATH), affine, atol=1e-5)
    assert not caplog.records


def test_codes_that_nobody_knows_mean_that_a_form_is_set(caplog: pytest.LogCaptureFixture) -> None:
    affine = placed(AXES[7])
    header = header_with(affine, codes=(1, 0))
    header["sform_code"] = 9
    with caplog.at_level(logging.WARNING, "bids_unires"):
        np.testing.assert_allclose(affine_of(header, SHAPE, PATH), affine, atol=1e-5)
    assert not caplog.records


def test_a_form_that_is_marked_unset_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    header = header_with(placed(AXES[5]), codes=(0, 0))
    found = affine_of(header, SHAPE, PATH)
    np.testing.assert_allclose(found[:3, :3], np.diag([-1, 1.5, 5]), atol=1e-6)
    assert "the header gives no orientation" in caplog.text


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_forms_that_mirror_each_other_are_told(caplog: pytest.LogCaptureFixture, axis: int) -> None:
    affine = placed(AXES[3])
    header = header_with(affine)
    mirrored = affine.copy()
    mirrored[axis] *= -1
    set_rows(header, mirrored[:3])
    np.testing.assert_allclose(affine_of(header, SHAPE, PATH), mirrored, atol=1e-5)
    assert "one shows the mirror image of the other; the sform is used" in caplog.text
    caplog.clear()
    header = header_with(affine)
    header["qoffset_x"] += 9
    affine_of(header, SHAPE, PATH)
    assert "disagree by up to 9 mm; the sform" in caplog.text
