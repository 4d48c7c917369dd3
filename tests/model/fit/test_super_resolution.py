"""The fit as a whole, on scans of a small head that can be sampled anywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from bids_unires.config import ModelSettings
from bids_unires.errors import BadDataError
from bids_unires.model import Observation, Reconstruction, SliceProfile, super_resolve
from bids_unires.model.assess.residuals import residual_statement
from bids_unires.model.fit import plan, super_resolution
from bids_unires.model.guided import solve_guided
from bids_unires.model.intensity.scan_state import ScanState
from bids_unires.model.prior.weight import prior_weight
from bids_unires.model.robust.rejection import reject_and_repair_slices
from bids_unires.model.solve.problem import Problem
from bids_unires.model.state import with_learned_detail
from bids_unires.space.affines import Affine, apply_affine, scaling, translation
from bids_unires.space.grid import Grid, corners
from bids_unires.space.rigid import rigid_matrix, rigid_parameters
from bids_unires.space.volume import Volume

# A head of natural size in voxels that are coarse for one, so that everything is quick.
VOXEL_MM = 3.0
BOX = 48
# Centre and radii (in voxels) and intensity of what the head is made of.
HEAD = (
    ((0, 0, 0), (16, 21, 18), 60.0),
    ((0, -1, 1), (13, 18, 15), 120.0),
    ((-5, 3, 2), (3, 8, 4), 40.0),
    ((6, -4, 3), (3, 6, 5), 170.0),
    ((3, 9, -7), (8, 5, 4), 150.0),
    ((-5, -9, -5), (5, 4, 6), 80.0),
    ((1, 0, 9), (7, 6, 2), 160.0),
    ((0, 21, -6), (3, 3, 4), 90.0),
    ((0, -6, -18), (7, 8, 8), 90.0),
)
NOISE_SD = 2.0
# The prior counts differences per mm, of which coarse voxels show fewer, and so does a head
# without texture.
REG_SCALE = 30.0
SETTINGS = ModelSettings(
    voxel_size=(VOXEL_MM, VOXEL_MM, VOXEL_MM), reg_scale=REG_SCALE, learning_effort="brief"
)
FIXED = replace(SETTINGS, coregister=False)
BRIEF = replace(FIXED, max_iter=5)


def head_at(points: np.ndarray, inverted: bool = False) -> np.ndarray:
    """Intensity at world points ``(..., 3)``; the contrast within the head can be inverted."""
    points = points / VOXEL_MM
    intensity = np.zeros(points.shape[:-1])
    for centre, radii, value in HEAD:
        radius = np.linalg.norm((points - np.array(centre)) / np.array(radii), axis=-1)
        inside = 1 / (1 + np.exp((radius - 1) * min(radii) / 0.35))
        intensity += inside * ((200 - value if inverted else value) - intensity)
    return intensity


def slice_grid(axis: int) -> Grid:
    """Slices of four voxels that cover the box, centred on the head."""
    sizes, shape = np.full(3, VOXEL_MM), [BOX] * 3
    sizes[axis], shape[axis] = 4 * VOXEL_MM, BOX // 4
    centre = translation(-(np.array(shape) - 1) / 2)
    return Grid((shape[0], shape[1], shape[2]), scaling(sizes) @ centre)


def scan(grid: Grid, pose: Affine | None = None, seed: int = 0, inverted: bool = False) -> Volume:
    return Volume(with_noise(slices_on(grid, pose, inverted), seed), grid.affine)


def slices_on(grid: Grid, pose: Affine | None, inverted: bool) -> np.ndarray:
    """Slices as thick as they are apart: eight samples through each are averaged."""
    axis = int(np.argmax(grid.voxel_size))
    voxels = np.moveaxis(np.indices(grid.shape), 0, -1).astype(np.float64)
    to_head = (np.eye(4) if pose is None else pose) @ grid.affine
    total = np.zeros(grid.shape)
    for step in (np.arange(8) + 0.5) / 8 - 0.5:
        at = voxels.copy()
        at[..., axis] += step
        total += head_at(apply_affine(to_head, at), inverted)
    return total / 8


def with_noise(signal: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(scale=NOISE_SD, size=(2, *signal.shape))
    return np.hypot(signal + noise[0], noise[1]).astype(np.float32)


@cache
def axial() -> Volume:
    """Slices across the third axis; nobody changes its voxels."""
    return scan(slice_grid(2))


@cache
def fitted(settings: ModelSettings) -> Reconstruction:
    """The axial scan alone, which several tests compare with."""
    return super_resolve([[axial()]], settings, "cpu")


def truth_on(grid: Grid, inverted: bool = False) -> np.ndarray:
    voxels = np.moveaxis(np.indices(grid.shape), 0, -1)
    return head_at(apply_affine(grid.affine, voxels), inverted)


def cubic_on(grid: Grid, volume: Volume, pose: Affine | None = None) -> np.ndarray:
    voxels = np.moveaxis(np.indices(grid.shape), 0, -1)
    to_scan = np.linalg.inv((np.eye(4) if pose is None else pose) @ volume.affine) @ grid.affine
    at = np.moveaxis(apply_affine(to_scan, voxels), -1, 0)
    return ndimage.map_coordinates(volume.data, at, order=3, mode="nearest")


def decibels(image: np.ndarray, truth: np.ndarray, inside: np.ndarray) -> float:
    return float(
        20 * np.log10(truth.max() / np.sqrt(np.mean((image[inside] - truth[inside]) ** 2)))
    )


def in_head(grid: Grid) -> np.ndarray:
    voxels = np.moveaxis(np.indices(grid.shape), 0, -1)
    at = apply_affine(grid.affine, voxels) / VOXEL_MM
    return np.asarray(np.linalg.norm(at / HEAD[0][1], axis=-1) < 1)


def assert_covers(grid: Grid, volumes: Sequence[Volume], poses: Sequence[Affine]) -> None:
    """Every voxel that was measured lies in the box."""
    for volume, pose in zip(volumes, poses, strict=True):
        at = apply_affine(
            np.linalg.inv(grid.affine) @ pose @ volume.affine, corners(volume.grid.shape)
        )
        assert at.min() > -0.5
        assert (at.max(axis=0) < np.array(grid.shape) - 0.5).all()


def gain(result: Reconstruction, contrast: int, cubic: np.ndarray, inverted: bool) -> float:
    truth, inside = truth_on(result.grid, inverted), in_head(result.grid)
    return decibels(result.images[contrast], truth, inside) - decibels(cubic, truth, inside)


@pytest.mark.parametrize("learns", [True, False])
def test_residuals_are_added_back_where_detail_was_learned(learns: bool) -> None:
    volume = scan(slice_grid(1))
    result = super_resolve([[volume]], replace(BRIEF, learned_detail=learns), "cpu")
    assert result.fit is not None
    noise, profile = result.fit.noise[0][0], result.fit.profiles[0][0]
    seen = Observation(volume.data, volume.affine, noise.tau, profile, result.poses[0][0])
    after = residual_statement(
        ScanState.as_acquired(seen, noise), result.grid, torch.as_tensor(result.images[0])
    )
    left = after.sd / result.fit.residuals[0][0].sd
    assert left < 0.9 if learns else left == pytest.approx(1, abs=0.02)


def test_weights_of_an_earlier_fit_are_used() -> None:
    scans = [[scan(slice_grid(2))], [scan(slice_grid(0))]]
    settings = replace(BRIEF, learned_detail=False)
    given = [0.011, 0.023]
    smooth, sharp = (
        super_resolve(scans, settings, "cpu", lam=[scale * one for one in given])
        for scale in (100, 1)
    )
    assert sharp.fit is not None
    assert sharp.fit.lam == pytest.approx(given)
    for c in range(2):
        steps = [np.abs(np.diff(found.images[c], axis=0)).sum() for found in (smooth, sharp)]
        assert steps[0] < 0.9 * steps[1]


def test_one_scan_becomes_sharper_than_cubic_interpolation() -> None:
    volume = axial()
    seen: list[Any] = []
    result = super_resolve([[volume]], SETTINGS, "cpu", on_progress=seen.append)
    assert gain(result, 0, cubic_on(result.grid, volume), False) > 1.0
    assert result.images.dtype == np.float32
    assert result.images.shape == (1, *result.grid.shape)
    np.testing.assert_allclose(result.grid.voxel_size, VOXEL_MM, atol=1e-6)
    assert_covers(result.grid, [volume], [np.eye(4)])
    np.testing.assert_array_equal(result.poses[0][0], np.eye(4))
    assert result.fit.noise[0][0].noise_sd == pytest.approx(NOISE_SD, rel=0.15)
    assert result.fit.profiles == ((SliceProfile("point", "rect", axis=2),),)
    assert result.fit.lam == (prior_weight(result.fit.noise[0], SETTINGS, "MR", 1),)
    assert result.fit.objective == tuple(seen)
    assert result.fit.converged
    assert result.device == "cpu"
    assert result.coverage[in_head(result.grid)].all()


@pytest.mark.slow
def test_three_stacks_are_aligned_and_joined() -> None:
    true_poses = [
        np.eye(4),
        rigid_matrix([3.0, -4.5, 1.5, 0.04, -0.03, 0.05]),
        rigid_matrix([-2.4, 1.8, 3.6, -0.05, 0.04, 0.02]),
    ]
    volumes = [scan(slice_grid(axis), true_poses[axis], seed=axis) for axis in range(3)]
    result = super_resolve([volumes], SETTINGS, "cpu")
    for pose, true in zip(result.poses[0], true_poses, strict=True):
        error = rigid_parameters(np.linalg.inv(true) @ pose)
        # A third of a voxel, and rad as the Lie algebra counts them (times the root of 2).
        assert np.abs(error[:3]).max() < 1.0
        assert np.abs(error[3:]).max() < 0.02
    cubic = np.mean(
        [cubic_on(result.grid, v, p) for v, p in zip(volumes, true_poses, strict=True)], axis=0
    )
    assert gain(result, 0, cubic, False) > 1.0
    assert_covers(result.grid, volumes, result.poses[0])
    assert len(result.fit.noise[0]) == len(result.fit.profiles[0]) == len(result.fit.scales[0]) == 3


@pytest.mark.parametrize("learned_detail", [False, True])
def test_contrasts_gain_from_each_other(learned_detail: bool) -> None:
    settings = replace(FIXED, learned_detail=learned_detail)
    first, second = axial(), scan(slice_grid(0), seed=1, inverted=True)
    together = super_resolve([[first], [second]], settings, "cpu")
    assert together.images.shape[0] == 2
    gains = []
    alone_of = (fitted(settings), super_resolve([[second]], settings, "cpu"))
    for contrast, volume, inverted in ((0, first, False), (1, second, True)):
        joint = gain(together, contrast, cubic_on(together.grid, volume), inverted)
        alone = alone_of[contrast]
        gains.append(joint - gain(alone, 0, cubic_on(alone.grid, volume), inverted))
        assert joint > 1.0
    assert min(gains) > 0.2


def test_arrays_and_files_are_as_good_as_volumes(tmp_path: Path) -> None:
    volume = axial()
    path = tmp_path / "scan.nii.gz"
    nib.Nifti1Image(volume.data, volume.affine).to_filename(path)
    settings = replace(BRIEF, learned_detail=False)
    expected = fitted(settings)
    for other in ((volume.data, volume.affine), path, str(path)):
        found = super_resolve([[other]], settings, "cpu")
        assert found.grid == expected.grid
        np.testing.assert_allclose(found.images, expected.images, atol=0.1)


def test_the_sidecar_beside_a_path_is_read(tmp_path: Path) -> None:
    volume = axial()
    path = tmp_path / "scan.nii.gz"
    nib.Nifti1Image(volume.data, volume.affine).to_filename(path)
    spacing = volume.grid.voxel_size[2]
    sidecar = {"MRAcquisitionType": "2D", "SliceThickness": 0.8 * spacing}
    (tmp_path / "scan.json").write_text(json.dumps(sidecar))
    brief = replace(BRIEF, max_iter=2, learned_detail=False)
    with_gap = super_resolve([[path]], brief, "cpu")
    assert with_gap.fit is not None
    ((profile,),) = with_gap.fit.profiles
    assert profile.gap == pytest.approx(0.2)
    # What the caller gives counts more, and a volume in memory has no sidecar.
    for scans, profiles in (([[path]], [[SliceProfile("dirac")]]), ([[volume]], None)):
        found = super_resolve(scans, brief, "cpu", profiles=profiles)
        assert found.fit is not None
        assert found.fit.profiles[0][0].gap == 0


def test_tensors_and_lists_are_as_good_as_arrays() -> None:
    volume = axial()
    grid, pose, start = volume.grid, np.eye(4), volume.data[None]
    known = {"grid": grid, "poses": [[pose]], "lam": np.array([0.01]), "start": start}
    settings = replace(BRIEF, learned_detail=False)
    expected = super_resolve([[volume]], settings, "cpu", **known)
    for spell in (torch.tensor, np.ndarray.tolist):
        spelled = {name: spell(known[name]) for name in ("lam", "start")}
        found = super_resolve(
            [[(spell(volume.data), spell(volume.affine))]],
            settings,
            "cpu",
            **{"grid": grid, "poses": [[spell(pose)]], **spelled},
        )
        np.testing.assert_array_equal(found.images, expected.images)


def test_results_are_reproducible() -> None:
    scans = [[scan(slice_grid(2)), scan(slice_grid(1), seed=1)]]
    first, second = (super_resolve(scans, BRIEF, "cpu") for _ in range(2))
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.poses, second.poses)


def test_the_settings_decide_about_voxels_and_iterations() -> None:
    settings = replace(FIXED, voxel_size=(4.0, 4.0, 5.0), max_iter=2)
    result = super_resolve([[scan(slice_grid(2))]], settings, "cpu")
    np.testing.assert_allclose(result.grid.voxel_size, (4.0, 4.0, 5.0), atol=1e-6)
    assert len(result.fit.objective) == 3
    assert not result.fit.converged


def test_given_profiles_are_used() -> None:
    profile = SliceProfile("dirac", "rect", gap=0.5, axis=2)
    volume = axial()
    given = super_resolve([[volume]], BRIEF, "cpu", profiles=[[profile]])
    chosen = fitted(BRIEF)
    assert given.fit.profiles == ((profile,),)
    assert np.abs(given.images - chosen.images).max() > 1


def test_nothing_wild_happens_where_the_head_leaves_the_scan() -> None:
    # The lower third of the head lies below the first slice.
    grid = slice_grid(2)
    volume = scan(Grid((48, 48, 8), grid.affine @ translation([0, 0, 3])))
    result = super_resolve([[volume]], FIXED, "cpu")
    truth = truth_on(result.grid)
    lowest = int(np.flatnonzero(result.coverage.any(axis=(0, 1)))[0])
    for layer in range(lowest, lowest + 4):
        measured = result.coverage[:, :, layer]
        error = np.abs(result.images[0, :, :, layer] - truth[:, :, layer])[measured]
        # Without a margin around the grid: 8 and 50, from slices that seem cut in half.
        assert error.mean() < 6
        assert error.max() < 42


def test_intensities_stay_within_those_measured() -> None:
    volume = axial()
    result = super_resolve([[volume]], replace(FIXED, reg_scale=0.05), "cpu")
    assert result.images.min() >= 0
    assert result.images.max() <= volume.data.max()


@pytest.mark.parametrize("missing", [np.nan, 0.0])
def test_missing_voxels_leave_no_trace(missing: float) -> None:
    volume = axial()
    data = volume.data.copy()
    data[20:23, 20:23, 5] = missing
    result = super_resolve([[Volume(data, volume.affine)]], BRIEF, "cpu")
    assert np.isfinite(result.images).all()
    whole = fitted(BRIEF)
    assert result.grid == whole.grid
    # The hole is filled from around it: far from black, and elsewhere nothing changes.
    at = np.round(
        apply_affine(np.linalg.inv(result.grid.affine) @ volume.affine, (21, 21, 5))
    ).astype(int)
    centre = (0, *at)
    assert abs(result.images[centre] - whole.images[centre]) < 0.5 * whole.images[centre]
    difference = np.abs(result.images - whole.images)
    assert np.median(difference) < 0.5


def test_a_masked_scan_stays_masked() -> None:
    volume = axial()
    distance = np.linalg.norm(
        (apply_affine(volume.affine, np.moveaxis(np.indices(volume.grid.shape), 0, -1)) / VOXEL_MM)
        / HEAD[0][1],
        axis=-1,
    )
    brain = np.where(distance < 0.8, volume.data, 0)
    result = super_resolve([[Volume(brain, volume.affine)]], BRIEF, "cpu")
    voxels = np.moveaxis(np.indices(result.grid.shape), 0, -1)
    at = np.linalg.norm(apply_affine(result.grid.affine, voxels) / VOXEL_MM / HEAD[0][1], axis=-1)
    assert (result.images[0][at > 1.5] == 0).all()
    assert (result.images[0][at < 0.7] > 0).all()
    # A field of view is not a mask.
    assert result.coverage[at > 1.2].any()


def test_a_fit_too_large_for_the_memory_is_refused() -> None:
    volume = axial()
    with pytest.raises(BadDataError, match=r"needs about \d+\.\d GiB of memory and 0.1 GiB may"):
        super_resolve([[volume]], FIXED, "cpu", memory_limit=100 * 2**20)
    assert super_resolve([[volume]], BRIEF, "cpu", memory_limit=2**31).images.any()


def test_the_log_names_contrasts_by_their_scans(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "bids_unires")
    repeats = [replace(axial(), path=Path(f"sub-01_run-{run}_T1w.nii.gz")) for run in (1, 2)]
    settings = replace(BRIEF, learned_detail=False)
    super_resolve([repeats, [axial(), axial()]], settings, "cpu")
    said = [message for message in caplog.messages if "weighed anew" in message]
    assert said[0].startswith("sub-01_run-1_T1w.nii.gz and its repeats: 2 scans")
    assert said[1].startswith("contrast 2 and its repeats")


@pytest.mark.slow
def test_detail_is_not_learned_where_memory_is_short(caplog: pytest.LogCaptureFixture) -> None:
    volume = axial()
    learned = super_resolve([[volume]], BRIEF, "cpu")
    assert learned.fit.details[0] is not None
    without = super_resolve([[volume]], BRIEF, "cpu", memory_limit=_room_without_detail(volume))
    assert without.fit.details == (None,)
    assert "it does without" in caplog.text
    plain = super_resolve([[volume]], replace(BRIEF, learned_detail=False), "cpu")
    np.testing.assert_array_equal(without.images, plain.images)


def _room_without_detail(volume: Volume) -> int:
    """The least memory, to a MiB, with which a fit of the volume is not refused."""
    settings = replace(BRIEF, max_iter=1, learned_detail=False)
    low, high = 2**20, 2**32
    while high - low > 2**18:
        middle = (low + high) // 2
        try:
            super_resolve([[volume]], settings, "cpu", memory_limit=middle)
            high = middle
        except BadDataError:
            low = middle
    return high


def test_the_cpu_takes_over_where_a_gpu_is_too_small(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(super_resolution, "usable_device", lambda _: torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2**20, 2**33))
    result = super_resolve([[scan(slice_grid(2))]], BRIEF)
    assert result.device == "cpu"
    assert "memory free" in caplog.text


@pytest.mark.slow
def test_the_cpu_takes_over_where_a_gpu_runs_out_of_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def solve_or_run_out(problem: Problem, *others: Any) -> Any:
        if problem.device.type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return solve_guided(problem, *others)

    def learn_on_the_cpu(contrasts: Any, voxel_size: float, _: torch.device, *others: Any) -> Any:
        return with_learned_detail(contrasts, voxel_size, torch.device("cpu"), *others)

    monkeypatch.setattr(super_resolution, "usable_device", lambda _: torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2**33, 2**33))
    monkeypatch.setattr(plan, "with_learned_detail", learn_on_the_cpu)
    monkeypatch.setattr(plan, "solve_guided", solve_or_run_out)
    volume = axial()
    result = super_resolve([[volume]], BRIEF)
    assert result.device == "cpu"
    assert "ran out of memory" in caplog.text
    np.testing.assert_array_equal(result.images, super_resolve([[volume]], BRIEF, "cpu").images)


def test_the_cpu_takes_over_where_a_gpu_runs_out_of_memory_over_slices(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def weigh_or_run_out(*arguments: Any) -> Any:
        if arguments[-1].type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return reject_and_repair_slices(*arguments)

    monkeypatch.setattr(super_resolution, "usable_device", lambda _: torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2**33, 2**33))
    monkeypatch.setattr(plan, "reject_and_repair_slices", weigh_or_run_out)
    result = super_resolve([[scan(slice_grid(2))]], replace(BRIEF, robust=True))
    assert result.device == "cpu"
    assert "ran out of memory" in caplog.text


@pytest.mark.parametrize("contrasts", [[], [[]], [[scan(slice_grid(2))], []]])
def test_bad_nesting_is_refused(contrasts: list[list[Volume]]) -> None:
    with pytest.raises(ValueError, match="at least one scan"):
        super_resolve(contrasts, device="cpu")


@pytest.mark.parametrize("profiles", [[], [[]], [[SliceProfile()] * 2]])
def test_as_many_profiles_as_scans_are_needed(profiles: list[list[SliceProfile]]) -> None:
    with pytest.raises(ValueError, match=r"profile|zip|argument"):
        super_resolve([[scan(slice_grid(2))]], FIXED, "cpu", profiles=profiles)


def test_impossible_devices_are_refused_before_any_work() -> None:
    with pytest.raises(ValueError, match="device must be"):
        super_resolve([[Path("/nowhere.nii.gz")]], device="abacus")


def test_a_constant_scan_is_refused() -> None:
    with pytest.raises(BadDataError):
        super_resolve([[(np.full((20, 20, 20), 7.0), np.eye(4))]], device="cpu")


@pytest.mark.gpu
def test_the_gpu_finds_the_same_images() -> None:
    volume = axial()
    cpu, gpu = (super_resolve([[volume]], FIXED, device) for device in ("cpu", "cuda"))
    assert gpu.fit.objective[-1].objective == pytest.approx(
        cpu.fit.objective[-1].objective, rel=1e-3
    )
    assert np.abs(gpu.images - cpu.images).mean() < 0.5


def in_hounsfield(volume: Volume) -> Volume:
    """The head as CT shows it: air at -1000, and water, which is 0, in the head."""
    return Volume(np.round(volume.data * 10 - 1000).astype(np.float32), volume.affine)


def test_ct_keeps_its_units_and_water_is_no_hole() -> None:
    volume = in_hounsfield(scan(slice_grid(2)))
    settings = replace(FIXED, reg_scale=4.0)
    result = super_resolve([[volume]], settings, "cpu", modalities=["CT"])
    truth = 10 * truth_on(result.grid) - 1000
    core = np.zeros(result.grid.shape, dtype=bool)
    points = apply_affine(result.grid.affine, np.moveaxis(np.indices(core.shape), 0, -1))
    core[np.linalg.norm(points - np.array([0, -18, -54]), axis=-1) < 9] = True
    assert core.sum() > 50
    assert abs(float((result.images[0] - truth)[core].mean())) < 10
    assert result.images.min() == pytest.approx(volume.data.min(), abs=60)
    assert result.fit.noise[0][0].noise_sd == pytest.approx(10 * NOISE_SD, rel=0.3)


def test_denoising_keeps_the_voxels_of_the_scan() -> None:
    volume = axial()
    settings = replace(FIXED, voxel_size=(0, 0, 0), method="denoise")
    result = super_resolve([[volume]], settings, "cpu")
    assert result.grid == volume.grid
    assert result.fit.profiles == ((SliceProfile("point", "point"),),)
    signal = slices_on(volume.grid, None, False)
    clean = np.mean([with_noise(signal, seed) for seed in range(30)], axis=0)
    inside = clean > 30
    noisy, denoised = (
        float(np.sqrt(np.mean((image - clean)[inside] ** 2)))
        for image in (volume.data, result.images[0])
    )
    assert denoised < 0.9 * noisy


def test_denoising_scans_on_different_grids_takes_the_finest_side() -> None:
    settings = replace(BRIEF, voxel_size=(0, 0, 0), method="denoise")
    result = super_resolve([[scan(slice_grid(2))], [scan(slice_grid(0))]], settings, "cpu")
    np.testing.assert_allclose(result.grid.voxel_size, VOXEL_MM, atol=1e-6)


def test_uneven_slices_are_evened_out() -> None:
    volume = axial()
    sign = 1 - 2 * (np.arange(volume.grid.shape[2]) % 2)
    uneven = Volume(volume.data * np.exp(0.1 * sign).astype(np.float32), volume.affine)
    # What is learned anew scatters by as much as is asked for here.
    still = replace(FIXED, learned_detail=False)
    corrected = super_resolve([[uneven]], replace(still, interleave_correction=True), "cpu")
    assert corrected.fit.interleaves[0][0] == pytest.approx(0.1, abs=0.005)
    assert super_resolve([[uneven]], BRIEF, "cpu").fit.interleaves == ((0.0,),)
    truth, inside = truth_on(corrected.grid), in_head(corrected.grid)
    even = fitted(still)
    assert (
        decibels(corrected.images[0], truth, inside) > decibels(even.images[0], truth, inside) - 0.1
    )
    # In CT the slices are calibrated.
    settings = replace(BRIEF, interleave_correction=True)
    ct = super_resolve([[in_hounsfield(uneven)]], settings, "cpu", modalities=["CT"])
    assert ct.fit.interleaves == ((0.0,),)


def test_on_a_smaller_grid_the_images_are_the_same() -> None:
    volumes = [[scan(slice_grid(axis))] for axis in (0, 2)]
    poses = [[np.eye(4)], [np.eye(4)]]
    whole = super_resolve(volumes, FIXED, "cpu", poses=poses)
    low = np.array([12, 14, 10])
    box = Grid((24, 20, 26), whole.grid.affine @ translation(low))
    part = super_resolve(volumes, FIXED, "cpu", poses=poses, grid=box)
    assert part.grid == box
    cut = tuple(slice(a, a + n) for a, n in zip(low, box.shape, strict=True))
    difference = np.abs(part.images - whole.images[(slice(None), *cut)])
    assert difference.mean() < 1
    # Scans that reach beyond the grid leave no bright rim.
    assert difference.max() < 60


def test_a_start_is_used() -> None:
    volumes = [[axial()]]
    cold = fitted(FIXED)
    warm = super_resolve(volumes, FIXED, "cpu", grid=cold.grid, poses=cold.poses, start=cold.images)
    first, last = cold.fit.objective[0].objective, cold.fit.objective[-1].objective
    assert warm.fit.objective[0].objective - last < 0.1 * (first - last)
    assert np.abs(warm.images - cold.images).mean() < 0.2


def test_residuals_of_a_good_fit_look_like_noise() -> None:
    result = fitted(FIXED)
    (statement,) = result.fit.residuals[0]
    assert 0.5 < statement.sd < 1.5
    assert abs(statement.mean) < 0.25
