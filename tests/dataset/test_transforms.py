from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from nitransforms.linear import Affine
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from bids_unires.dataset.transforms import read_transform, write_transform
from bids_unires.dataset.writing import write_image


def rigid(angles: tuple[float, ...], shift: tuple[float, ...]) -> NDArray[np.float64]:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    pose[:3, 3] = shift
    return pose


@settings(max_examples=20, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    shift=st.tuples(*[st.floats(-200, 200)] * 3),
)
def test_poses_come_back(
    tmp_path_factory: pytest.TempPathFactory,
    angles: tuple[float, float, float],
    shift: tuple[float, float, float],
) -> None:
    pose = rigid(angles, shift)
    path = write_transform(tmp_path_factory.mktemp("pose") / "a_xfm.txt", pose)
    np.testing.assert_allclose(read_transform(path), pose, atol=2e-3)
    # nitransforms keeps matrices from reference space to moving space.
    inverse = Affine.from_filename(path, fmt="itk").matrix
    np.testing.assert_allclose(inverse @ pose, np.eye(4), atol=2e-3)


def test_itk_brings_a_landmark_of_the_scan_to_its_place_in_the_output(tmp_path: Path) -> None:
    pose = rigid((10, -20, 30), (5, -7, 3))
    scan_affine = np.array(
        [[0.0, 0.0, 2.0, -30.0], [-1.0, 0.0, 0.0, 40.0], [0.0, 1.5, 0.0, -35.0], [0, 0, 0, 1.0]]
    )
    index = np.array([30, 20, 15])
    world = (scan_affine @ [*index, 1])[:3]
    grid = np.indices((60, 50, 30)).reshape(3, -1).T @ scan_affine[:3, :3].T + scan_affine[:3, 3]
    # A blob is found again to a fraction of a voxel, a single voxel is not.
    blob = np.exp(-((grid - world) ** 2).sum(axis=1) / (2 * 4.0**2)).reshape(60, 50, 30)
    scan = write_image(tmp_path / "scan.nii.gz", blob, scan_affine)
    output_affine = np.diag([1.0, 1.0, 1.0, 1.0])
    output_affine[:3, 3] = -60
    output = write_image(tmp_path / "output.nii.gz", np.zeros((120, 120, 120)), output_affine)
    path = write_transform(tmp_path / "a_xfm.txt", pose)
    resampled = SimpleITK.Resample(
        SimpleITK.ReadImage(str(scan)),
        SimpleITK.ReadImage(str(output)),
        SimpleITK.ReadTransform(str(path)),
        SimpleITK.sitkLinear,
    )
    data = SimpleITK.GetArrayFromImage(resampled).T
    centre = (np.indices(data.shape) * data).sum(axis=(1, 2, 3)) / data.sum()
    np.testing.assert_allclose(
        (output_affine @ [*centre, 1])[:3], (pose @ [*world, 1])[:3], atol=0.05
    )


@pytest.mark.parametrize("pose", [np.eye(3), np.full((4, 4), np.nan), np.zeros((2, 4, 4))])
def test_what_is_no_pose_is_refused(tmp_path: Path, pose: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="4x4"):
        write_transform(tmp_path / "a_xfm.txt", pose)
    assert not list(tmp_path.iterdir())
