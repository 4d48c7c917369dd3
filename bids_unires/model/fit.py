"""The fit as a whole: from scans as acquired to images on one grid."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..config import ModelSettings
from ..errors import BadDataError
from ..geometry import Affine, Grid, inside, padded
from ..grid import enclose, mean_space
from ..kernels.runtime import thread_count
from ..volume import Volume
from .disagreement import WeightedSolution, solve_weighted
from .forward import intermediate_grid
from .intensity import relative_fields
from .noise import NoiseEstimate, estimate_noise
from .observation import Observation, usable_device
from .profile import SliceProfile, profile_for_voxels
from .solver import Progress

logger = logging.getLogger("bids_unires")

ScanLike: TypeAlias = Volume | tuple[ArrayLike, ArrayLike] | Path | str

# Interpreter, libraries and compiled kernels, before any image.
_BASE_MEMORY = 700 * 2**20
# Image-sized float32 arrays the solver holds for each contrast, and once.
_ARRAYS_PER_CONTRAST = 7
_SHARED_ARRAYS = 4
_ARRAYS_PER_SCAN = 6


@dataclass(frozen=True, eq=False)
class SuperResolution:
    """Images on one grid, and everything that led to them.

    Nested tuples are (contrast, repeat), in the order of the input.

    Attributes
    ----------
    images
        ``(C, X, Y, Z)`` float32, one image a contrast, in the units of its scans; 0 where
        none of them measured.
    grid
        Where they lie.
    coverage
        ``(X, Y, Z)`` bool: voxels that at least one scan of every contrast measured.
    poses
        ``(4, 4)`` rigid matrices, scan world mm -> world mm of the images.
    noise
        Noise and contrast of every scan.
    profiles
        Slice profile used for every scan.
    scales
        Scale of each scan's residuals in intensity: its noise, or more where repeats of
        one contrast disagree.
    lam
        Regularisation of each contrast in mm / intensity.
    objective
        The solver's history; the last entry holds the final value.
    converged
        Whether the tolerance was met, rather than the bound on iterations.
    device
        Where it was computed: ``cpu`` or the name of the GPU.
    """

    images: NDArray[np.float32]
    grid: Grid
    coverage: NDArray[np.bool_]
    poses: tuple[tuple[Affine, ...], ...]
    noise: tuple[tuple[NoiseEstimate, ...], ...]
    profiles: tuple[tuple[SliceProfile, ...], ...]
    scales: tuple[tuple[float, ...], ...]
    lam: tuple[float, ...]
    objective: tuple[Progress, ...]
    converged: bool
    device: str


def super_resolve(
    contrasts: Sequence[Sequence[ScanLike]],
    settings: ModelSettings | None = None,
    device: str = "auto",
    *,
    profiles: Sequence[Sequence[SliceProfile]] | None = None,
    memory_limit: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> SuperResolution:
    """Reconstruct one image for each contrast from scans of one head.

    Parameters
    ----------
    contrasts
        For each contrast its scans (repeats): a `Volume`, an array with its affine, or
        the path of a NIfTI file. A voxel that is 0 or not finite is missing.
    settings
        Settings of the model.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    profiles
        Slice profile of every scan; None chooses them by voxel size, without gap.
    memory_limit
        Bytes that may be used; a fit estimated to need more is refused.
    on_progress
        Called after every iteration of the solver.

    Raises
    ------
    BadDataError
        If a scan is unreadable or constant, or the fit does not fit into memory.
    ValueError
        If the nesting is wrong or the device does not exist.
    """
    settings = settings or ModelSettings()
    torch_device = usable_device(device)
    volumes = [[_as_volume(scan) for scan in scans] for scans in contrasts]
    if not volumes or not all(volumes):
        raise ValueError("every contrast needs at least one scan, and there must be one")
    noise = [[_noise_of(volume) for volume in scans] for scans in volumes]
    poses = _coregister(volumes) if settings.coregister else _identities(volumes)
    grid = individual_space(volumes, poses, settings.voxel_size)
    if profiles is None:
        profiles = [[profile_for_voxels(v.grid, grid.voxel_size) for v in s] for s in volumes]
    observations = [
        _observations(*parts) for parts in zip(volumes, noise, profiles, poses, strict=True)
    ]
    margin = footprint_margin(grid, observations)
    working = padded(grid, margin)
    check_memory(working, observations, memory_limit)
    lam = regularisation(noise, settings.reg_scale)
    weighted, torch_device = _solve_with_room(
        observations, noise, working, lam, settings, torch_device, on_progress
    )
    solution = weighted.solution
    covered = np.stack([coverage(scans, grid) for scans in observations])
    return SuperResolution(
        images=_finished(solution.images, margin, volumes, covered),
        grid=grid,
        coverage=np.asarray(covered.all(axis=0)),
        poses=tuple(tuple(scan_poses) for scan_poses in poses),
        noise=tuple(tuple(estimates) for estimates in noise),
        profiles=tuple(tuple(scan_profiles) for scan_profiles in profiles),
        scales=weighted.scales,
        lam=lam,
        objective=solution.history,
        converged=solution.converged,
        device=_device_name(torch_device),
    )


def individual_space(
    volumes: Sequence[Sequence[Volume]],
    poses: Sequence[Sequence[Affine]],
    voxel_size: Sequence[float],
) -> Grid:
    """Grid in the scans' mean orientation that holds every voxel of every scan.

    Parameters
    ----------
    volumes, poses
        Scans and where they lie, (contrast, repeat).
    voxel_size
        In mm along x, y and z.
    """
    placed = [
        Grid(volume.grid.shape, pose @ volume.affine)
        for scans, scan_poses in zip(volumes, poses, strict=True)
        for volume, pose in zip(scans, scan_poses, strict=True)
    ]
    grid = enclose(mean_space(placed, voxel_size), placed)
    logger.info(
        "reconstruction grid: %s voxels of %s mm",
        " x ".join(map(str, grid.shape)),
        " x ".join(f"{size:g}" for size in np.round(grid.voxel_size, 4)),
    )
    return grid


def regularisation(noise: Sequence[Sequence[NoiseEstimate]], reg_scale: float) -> tuple[float, ...]:
    """Weight of the prior for each contrast in mm / intensity.

    ``reg_scale * sqrt(1 / C) / mean_n(mu_cn)``: dividing by the contrast between head
    and background makes edges of all contrasts comparable (Brudfors et al. 2018,
    section 2.3).

    Examples
    --------
    >>> regularisation([[NoiseEstimate(1.0, 0.0, 100.0, "rice-mixture")]], 4.0)
    (0.04,)
    """
    scale = reg_scale * math.sqrt(1 / len(noise))
    means = [sum(scan.contrast for scan in scans) / len(scans) for scans in noise]
    return tuple(scale / mean for mean in means)


def footprint_margin(grid: Grid, contrasts: Sequence[Sequence[Observation]]) -> int:
    """Voxels to add around ``grid`` so that every slice profile lies inside.

    Where a profile reaches beyond the grid the prediction is a fraction of what was
    measured, and the fit answers with wild values at the rim.
    """
    reach = 0.0
    for scan in (scan for scans in contrasts for scan in scans):
        fine = intermediate_grid(grid, scan.grid, scan.profile)
        half = [(len(weights) - 1) / 2 for weights in fine.weights]
        extent = np.abs(np.linalg.inv(grid.affine) @ fine.grid.affine)[:3, :3] @ half
        reach = max(reach, float(extent.max()))
    return math.ceil(reach) + 1


def coverage(contrast: Sequence[Observation], grid: Grid) -> NDArray[np.bool_]:
    """Voxels of ``grid`` within the field of view of at least one scan of a contrast."""
    reached = np.zeros(grid.shape, dtype=bool)
    for scan in contrast:
        affine = scan.affine if scan.pose is None else scan.pose @ scan.affine
        reached |= inside(grid, Grid(scan.grid.shape, affine))
    return reached


def check_memory(grid: Grid, contrasts: Sequence[Sequence[Observation]], limit: int | None) -> None:
    """Refuse a fit that would not fit.

    Raises
    ------
    BadDataError
        If the estimate in bytes is above ``limit``.
    """
    needed = _BASE_MEMORY + memory_estimate(grid, contrasts)
    logger.debug("memory estimate: %.1f GiB for a grid of %s", needed / 2**30, grid.shape)
    if limit is not None and needed > limit:
        raise BadDataError(
            f"a grid of {' x '.join(map(str, grid.shape))} voxels for {len(contrasts)} contrasts "
            f"needs about {needed / 2**30:.1f} GiB of memory and {limit / 2**30:.1f} GiB may be "
            "used: choose a larger voxel size, or give more memory"
        )


def memory_estimate(grid: Grid, contrasts: Sequence[Sequence[Observation]]) -> int:
    """Bytes that images and scans of a fit take on the device it runs on."""
    scans = [scan for repeats in contrasts for scan in repeats]
    arrays = _ARRAYS_PER_CONTRAST * len(contrasts) + _SHARED_ARRAYS
    largest_intermediate = max(
        math.prod(intermediate_grid(grid, scan.grid, scan.profile).grid.shape) for scan in scans
    )
    values = (
        arrays * math.prod(grid.shape)
        + _ARRAYS_PER_SCAN * sum(math.prod(scan.grid.shape) for scan in scans)
        + 2 * largest_intermediate
    )
    return 4 * values


def _solve_with_room(
    observations: Sequence[Sequence[Observation]],
    noise: Sequence[Sequence[NoiseEstimate]],
    grid: Grid,
    lam: Sequence[float],
    settings: ModelSettings,
    device: torch.device,
    on_progress: Callable[[Progress], None] | None,
) -> tuple[WeightedSolution, torch.device]:
    """Solve on the device, or on the CPU where a GPU has too little memory; say where it was."""

    def solve_on(where: torch.device) -> WeightedSolution:
        return solve_weighted(
            observations,
            noise,
            grid,
            lam,
            tolerance=settings.tolerance,
            max_iter=settings.max_iter,
            device=where,
            on_progress=on_progress,
        )

    device = _with_room(device, grid, observations)
    try:
        return solve_on(device), device
    except torch.OutOfMemoryError:
        if device.type == "cpu":
            raise
        logger.warning("%s ran out of memory; the CPU takes over", device)
    # Outside the handler, whose traceback would keep the GPU's tensors alive.
    cpu = torch.device("cpu")
    return solve_on(cpu), cpu


def _with_room(
    device: torch.device, grid: Grid, contrasts: Sequence[Sequence[Observation]]
) -> torch.device:
    """The device, or the CPU where a GPU has too little memory free."""
    if device.type != "cuda":
        return device
    free, _ = torch.cuda.mem_get_info(device)
    needed = memory_estimate(grid, contrasts)
    if needed <= free:
        return device
    logger.warning(
        "%s has %.1f GiB of memory free and about %.1f GiB are needed; the CPU takes over",
        device,
        free / 2**30,
        needed / 2**30,
    )
    return torch.device("cpu")


def _as_volume(scan: ScanLike) -> Volume:
    if isinstance(scan, Volume):
        return scan
    if isinstance(scan, Path | str):
        # Files are read only where paths are given, so that the model runs without nibabel.
        from ..loading import load_volume

        return load_volume(scan)
    data, affine = scan
    return Volume(np.asarray(data, dtype=np.float32), np.asarray(affine, dtype=np.float64))


def _noise_of(volume: Volume) -> NoiseEstimate:
    try:
        return estimate_noise(volume.data)
    except BadDataError as error:
        raise BadDataError(f"{volume.path}: {error}" if volume.path else str(error)) from error


def _coregister(volumes: Sequence[Sequence[Volume]]) -> list[list[Affine]]:
    """Poses of all scans relative to the first scan of the first contrast."""
    flat = [volume for scans in volumes for volume in scans]
    if len(flat) == 1:
        return _identities(volumes)
    # The registration library is loaded only when there is something to register, so
    # that the model runs without it.
    from ..registration import coregister

    logger.info("aligning %d scans to the first", len(flat) - 1)
    alignments = iter(coregister(flat, threads=thread_count()))
    return [[next(alignments).pose for _ in scans] for scans in volumes]


def _observations(
    scans: Sequence[Volume],
    noise: Sequence[NoiseEstimate],
    profiles: Sequence[SliceProfile],
    poses: Sequence[Affine],
) -> list[Observation]:
    """Scans of one contrast, brought to common intensities."""
    fields = relative_fields(scans, poses, noise)
    return [
        Observation(scan.data / field, scan.affine, estimate.tau, profile, pose)
        for scan, field, estimate, profile, pose in zip(
            scans, fields, noise, profiles, poses, strict=True
        )
    ]


def _identities(volumes: Sequence[Sequence[Volume]]) -> list[list[Affine]]:
    return [[np.eye(4) for _ in scans] for scans in volumes]


def _intensity_range(scans: Sequence[Volume]) -> tuple[float, float]:
    low = min(float(np.nanmin(scan.data, initial=0.0)) for scan in scans)
    high = max(float(np.nanmax(scan.data, initial=0.0)) for scan in scans)
    return low, high


def _finished(
    images: Tensor,
    margin: int,
    volumes: Sequence[Sequence[Volume]],
    covered: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Without the margin, within the range of the scans, and 0 where none of them measured."""
    inner = (slice(None), *(slice(margin, side - margin) for side in images.shape[1:]))
    cropped = np.ascontiguousarray(images.cpu().numpy()[inner])
    for image, scans, measured in zip(cropped, volumes, covered, strict=True):
        np.clip(image, *_intensity_range(scans), out=image)
        image[~measured] = 0
    return cropped


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
