"""Three stacks of a head that moved: their poses are found, and cost the image nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bids_unires.config import ModelSettings
from bids_unires.demo.phantom import build_anatomy, load_icbm152
from bids_unires.demo.scanner import Motion, Plane, acquire
from bids_unires.demo.score import psnr, resample
from bids_unires.demo.study import PARTICIPANTS, PROTOCOLS
from bids_unires.model import Reconstruction, super_resolve
from bids_unires.space.affines import Affine, apply_affine
from bids_unires.space.volume import Volume

pytestmark = pytest.mark.slow

SETTINGS = ModelSettings(voxel_size=(2, 2, 2), reg_scale=4.0, learning_effort="brief")
MOTIONS: dict[Plane, Motion] = {
    "sagittal": Motion(),
    "coronal": Motion((4.8, -3.1, 4.0), (4.5, -5.0, 3.2)),
    "transverse": Motion((-3.6, 5.0, -4.4), (-4.1, 3.8, -5.0)),
}


def relative(poses: list[Affine]) -> list[Affine]:
    return [np.linalg.inv(poses[0]) @ pose for pose in poses[1:]]


@pytest.fixture(scope="module")
def stacks() -> tuple[Volume, Volume, list[Volume]]:
    """The truth, where the head is, and its scans with a noise of 1.5 % of the maximum."""
    anatomy = build_anatomy(load_icbm152(), PARTICIPANTS[0])
    protocol = PROTOCOLS[0]
    image = anatomy.image(protocol.intensities, protocol.texture_gain)
    truth = Volume(image.astype(np.float32), anatomy.grid.affine)
    rng = np.random.default_rng(5)
    scans = [
        acquire(truth, replace(protocol, plane=plane), motion, rng)
        for plane, motion in MOTIONS.items()
    ]
    return truth, Volume(anatomy.head.astype(np.float32), truth.affine), scans


def test_motion_is_found_and_costs_nothing(stacks: tuple[Volume, Volume, list[Volume]]) -> None:
    truth, head, scans = stacks
    known = [motion.scanner_to_head for motion in MOTIONS.values()]
    found = super_resolve([scans], SETTINGS, "cpu")
    brain = apply_affine(head.affine, np.argwhere(head.data)[::997])
    for pose, true_pose in zip(relative(list(found.poses[0])), relative(known), strict=True):
        wrong = pose @ np.linalg.inv(true_pose)
        error = np.linalg.norm(apply_affine(wrong, brain) - brain, axis=1)
        assert error.mean() < 0.15
        angle = np.degrees(np.arccos(np.clip((np.trace(wrong[:3, :3]) - 1) / 2, -1, 1)))
        assert angle < 0.15
    fixed = replace(SETTINGS, unified_rigid=False)
    given = super_resolve([scans], fixed, "cpu", poses=[known], grid=found.grid)

    def quality(result: Reconstruction) -> float:
        to_truth = known[0] @ np.linalg.inv(result.poses[0][0])
        inside = resample(head, result.grid, to_truth, order=0, mode="constant") > 0.5
        expected = resample(truth, result.grid, to_truth, order=3)
        return psnr(result.images[0], expected, inside)

    assert quality(found) > quality(given) - 0.3
