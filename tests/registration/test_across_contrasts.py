"""Fine poses of other contrasts: known motions are found, however scans are stored and scaled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bids_unires.registration.across_contrasts import across_contrasts
from bids_unires.registration.equal_blur import blurred_alike
from bids_unires.registration.header_prior import HeaderPrior
from bids_unires.registration.local_likelihood import (
    LocalAlignment,
    LocalParameters,
    align_locally,
    displacement,
    motion_about,
    uncertainty_of,
)
from bids_unires.registration.rigid import RigidAlignment
from bids_unires.space.affines import Affine, apply_affine, scaling, translation
from bids_unires.space.volume import Volume
from tests.registration.synthetic import (
    AXIAL,
    OTHER_CONTRAST,
    assert_same_pose,
    centred,
    motion,
    scan,
)

NOWHERE = np.zeros(3)
FEW = LocalParameters(most_blocks=800)
STILL = np.eye(4)
MOVED = motion((2.0, -1.5, 1.0), (1.0, -2.0, 1.5))
# The pose that mutual information might have found.
ROUGH = motion((0.4, 0.3, -0.5), (0.3, -0.4, 0.8))


def other_contrast(affine: Affine, pose: Affine) -> Volume:
    return scan(affine, AXIAL[1], pose, seed=2, values=OTHER_CONTRAST)


@pytest.fixture(scope="module")
def reference() -> Volume:
    return scan(centred(*AXIAL), AXIAL[1], STILL, seed=1)


@pytest.fixture(scope="module", params=[pytest.param("still", marks=pytest.mark.slow), "moved"])
def moving(request: pytest.FixtureRequest) -> tuple[Volume, Affine]:
    """A scan of another contrast, half a slice beside those of the reference, and its pose."""
    pose = STILL if request.param == "still" else MOVED
    affine = translation([0, 0, 2.3]) @ centred(*AXIAL)
    return other_contrast(affine, pose), pose


def found(reference: Volume, moving: Volume, start: Affine, unit: float = 1.0) -> LocalAlignment:
    alignment = align_locally(reference, moving, start, unit, FEW)
    assert alignment is not None
    return alignment


@pytest.fixture(scope="module")
def expected(reference: Volume, moving: tuple[Volume, Affine]) -> LocalAlignment:
    volume, pose = moving
    return found(reference, volume, ROUGH @ pose)


def test_known_poses_are_found(moving: tuple[Volume, Affine], expected: LocalAlignment) -> None:
    _, pose = moving
    assert displacement(ROUGH, NOWHERE) > 1.0
    # A head of nine smooth ellipsoids determines a pose less than a real one.
    assert_same_pose(expected.pose, pose)
    assert uncertainty_of(expected.covariance) < 0.15


@pytest.mark.parametrize("flipped", ["reference", "moving"])
def test_storage_order_changes_nothing(
    reference: Volume, moving: tuple[Volume, Affine], expected: LocalAlignment, flipped: str
) -> None:
    volume, pose = moving
    pair = {"reference": reference, "moving": volume}
    pair[flipped] = stored_otherwise(pair[flipped])
    again = found(pair["reference"], pair["moving"], ROUGH @ pose)
    assert displacement(again.pose @ np.linalg.inv(expected.pose), NOWHERE) < 1e-6


def stored_otherwise(volume: Volume) -> Volume:
    """The same voxels in the same places, the first axis flipped and all axes permuted."""
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = volume.data.shape[0] - 1
    return Volume(volume.data[::-1].transpose(2, 0, 1), (volume.affine @ flip)[:, [2, 0, 1, 3]])


def test_intensities_of_any_unit_and_sign_give_the_same_pose(
    reference: Volume, moving: tuple[Volume, Affine], expected: LocalAlignment
) -> None:
    volume, pose = moving
    inverted = replace(volume, data=7 - 0.01 * volume.data)
    again = found(reference, inverted, ROUGH @ pose)
    assert displacement(again.pose @ np.linalg.inv(expected.pose), NOWHERE) < 1e-3


def test_a_small_head_is_placed_like_a_large_one(
    reference: Volume, moving: tuple[Volume, Affine], expected: LocalAlignment
) -> None:
    volume, pose = moving
    size = 0.1
    small, large = scaling([size] * 3), scaling([1 / size] * 3)
    shrunk = [replace(one, affine=small @ one.affine) for one in (reference, volume)]
    again = found(shrunk[0], shrunk[1], small @ ROUGH @ pose @ large, size)
    enlarged = large @ again.pose @ small
    # The mask of the head is made on other voxels.
    assert displacement(enlarged @ np.linalg.inv(expected.pose), NOWHERE) < 0.1
    stated = uncertainty_of(again.covariance, size) / size
    assert stated == pytest.approx(uncertainty_of(expected.covariance), rel=0.05)


def test_voxels_that_were_not_measured_do_not_count(reference: Volume) -> None:
    moved = other_contrast(centred(*AXIAL), MOVED)
    holes = moved.data.copy()
    holes[:, :, 10:14] = np.nan
    alignment = found(reference, replace(moved, data=holes), ROUGH @ MOVED)
    assert_same_pose(alignment.pose, MOVED)


def test_scans_that_determine_no_pose_are_left_where_they_are(reference: Volume) -> None:
    elsewhere = replace(reference, affine=translation([0, 0, 500]) @ reference.affine)
    noise = np.random.default_rng(0).normal(100, 5, reference.data.shape).astype(np.float32)
    assert align_locally(reference, elsewhere, STILL) is None
    placed = {n: RigidAlignment(STILL, 1.0, "header") for n in range(2)}
    scans = [reference, replace(elsewhere, data=noise)]
    assert across_contrasts(scans, placed, 0, ["T1w", "T2w"]) == {}


@pytest.mark.parametrize("contrasts", [["T1w", "T1w"], ["T1w", None], [None, "FLAIR"]])
def test_scans_of_one_contrast_keep_their_poses(
    reference: Volume, contrasts: list[str | None]
) -> None:
    placed = {n: RigidAlignment(STILL, 1.0, "header") for n in range(2)}
    assert across_contrasts([reference, reference], placed, 0, contrasts) == {}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_samples_are_as_blurred_between_slices_as_on_them(axis: int) -> None:
    """Noise of slices has about the same variance everywhere, and slopes stay what they are."""
    shape, sizes = np.full(3, 32), np.ones(3)
    sizes[axis] = 5.0
    noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    ramp = np.indices(shape)[axis].astype(np.float32)
    sds, slopes = [], []
    for at in (0.0, 0.25, 0.5):
        points = np.argwhere(np.ones((20, 20, 20))) + 6.0
        points[:, axis] += at
        points = points * sizes
        for data, values in ((noise, sds), (ramp, slopes)):
            volume = Volume(data, scaling(sizes))
            blurred, _ = blurred_alike(volume, volume, 1.0)
            values.append(blurred.at(points))
    assert np.ptp([values.std() for values in sds]) < 0.1 * sds[0].std()
    np.testing.assert_allclose(slopes[2] - slopes[0], 0.5, atol=1e-2)


def test_headers_draw_uncertain_poses_and_leave_large_motions_alone() -> None:
    centre = np.array([10.0, -20.0, 30.0])

    def drawn(shift: float, sd: float) -> float:
        pose = motion_about(np.array([shift, 0, 0, 0, 0, shift / 70]), centre)
        covariance = sd**2 * np.diag([1, 1, 1, *(3 * [70.0**-2])])
        after = HeaderPrior().applied(LocalAlignment(pose, covariance, centre))
        assert uncertainty_of(after.covariance) < uncertainty_of(covariance)
        return displacement(after.pose @ np.linalg.inv(pose), centre)

    assert drawn(1.0, 0.01) < 0.001
    assert drawn(1.0, 1.0) > 0.5
    assert drawn(10.0, 0.3) < drawn(1.0, 0.3) < 0.4
    assert drawn(0.0, 1.0) == pytest.approx(0.0, abs=1e-9)


def test_displacement_and_uncertainty_speak_of_the_same_points() -> None:
    """Motions drawn from a covariance displace the surface of the head by what is stated."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6)) * np.array([0.1, 0.1, 0.1, 0.001, 0.001, 0.001])[:, None]
    steps = rng.normal(size=(2000, 6)) @ root.T
    moved = [displacement(motion_about(step, NOWHERE), NOWHERE) for step in steps]
    assert np.sqrt(np.mean(np.square(moved))) == pytest.approx(uncertainty_of(root @ root.T), 0.05)
    points = apply_affine(motion_about(steps[0], NOWHERE), 70 * np.eye(3)) - 70 * np.eye(3)
    assert np.linalg.norm(points, axis=1).max() < 3 * moved[0]
