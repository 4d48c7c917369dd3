import numpy as np
import pytest

from bids_unires.demo.score import psnr, resample, score
from bids_unires.space.affines import scaling, translation
from bids_unires.space.grid import Grid
from bids_unires.space.volume import Volume

EVERYWHERE = np.ones((4, 4, 4), dtype=bool)


def smooth_volume(shape: tuple[int, int, int], affine: np.ndarray) -> Volume:
    """Samples of one smooth function of world coordinates."""
    world = np.einsum("ij,jxyz->ixyz", affine[:3, :3], np.indices(shape))
    world += affine[:3, 3][:, None, None, None]
    waves = np.sin(world[0] / 5) + np.cos(world[1] / 6) + np.sin(world[2] / 7 + 1)
    return Volume((100 * (waves + 4)).astype(np.float32), affine)


def test_psnr_of_a_known_error() -> None:
    truth = np.full((4, 4, 4), 100, dtype=np.float32)
    assert psnr(truth + 1, truth, EVERYWHERE) == pytest.approx(40.0)
    assert psnr(truth, truth, EVERYWHERE) == np.inf


def test_psnr_has_no_unit_and_ignores_the_outside() -> None:
    rng = np.random.default_rng(0)
    truth, image = rng.random((2, 4, 4, 4), dtype=np.float32)
    inside = rng.random((4, 4, 4)) > 0.5
    expected = psnr(image, truth, inside)
    assert psnr(7 * image, 7 * truth, inside) == pytest.approx(expected, abs=1e-4)
    assert psnr(np.where(inside, image, np.float32(99)), truth, inside) == pytest.approx(expected)


def test_psnr_needs_voxels() -> None:
    with pytest.raises(ValueError, match="nothing to compare"):
        psnr(EVERYWHERE.astype(np.float32), EVERYWHERE.astype(np.float32), ~EVERYWHERE)


def test_resample_follows_world_coordinates() -> None:
    volume = smooth_volume((20, 20, 20), translation([-3, 2, 5]))
    finer = Grid((12, 12, 12), translation([0.3, 13.1, 8.2]) @ scaling([0.8, -0.5, 0.9]))
    shift = translation([0.5, -0.25, 0.125])
    expected = smooth_volume(finer.shape, shift @ finer.affine)
    seen = resample(volume, finer, shift, order=3)
    np.testing.assert_allclose(seen, expected.data, atol=0.5)


@pytest.mark.parametrize("shift", [np.zeros(3), np.array([1.0, -2.0, 0.5])])
def test_score_ranks_images_by_their_distance_from_the_truth(shift: np.ndarray) -> None:
    truth = smooth_volume((24, 24, 24), np.eye(4))
    head = Volume(np.ones_like(truth.data), truth.affine)
    moved = translation(shift)
    thick = smooth_volume((24, 24, 7), moved @ scaling([1, 1, 4]))
    scan = Volume(smooth_volume(thick.data.shape, scaling([1, 1, 4])).data, thick.affine)
    outcome = score(truth, scan, truth, head, to_scan=moved, to_truth=np.eye(4))
    assert outcome.linear < outcome.cubic < outcome.result
    assert outcome.gain == outcome.result - outcome.cubic
    wrong = score(truth, scan, truth, head, to_scan=np.eye(4), to_truth=np.eye(4))
    assert not shift.any() or wrong.cubic < outcome.cubic
