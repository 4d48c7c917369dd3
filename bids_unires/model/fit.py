"""The fit as a whole: from scans as acquired to images on one grid."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import Modality, ModelSettings
from ..geometry import Affine, Grid, padded
from ..volume import Volume
from .alternation import UnifiedSolution
from .calibration import calibrated_scales
from .learned_detail import (
    Details,
    DetailStatement,
    beside,
    learned_details,
    recalled,
    thin_voxel_count,
)
from .memory import check_memory, device_with_room, has_room_to_learn
from .noise import NoiseEstimate
from .observation import Observation, device_name, usable_device
from .placement import (
    coverage,
    footprint_margin,
    individual_space,
    measured,
    starting_poses,
    within,
)
from .profile import SliceProfile, profile_for_voxels
from .readings import Readings, ScanLike, Scans, intensity_of_air, noise_of, volumes_of
from .regularisation import is_searched, regularisation
from .residuals import ResidualStatement, residual_statement
from .result import SuperResolution
from .slice_filling import measured_only
from .slice_groups import apart
from .slice_motion import LARGEST_MOTION_MM, SlicePlans, plans_for
from .slice_trust import weigh_slices, weighed_as
from .slice_verdict import Verdicts
from .solver import Listener
from .tiers import solve_in_tiers, tiers
from .uncertainty import Uncertainty, standard_deviations

logger = logging.getLogger("bids_unires")

_POINTS = SliceProfile("point", "point")


def super_resolve(
    contrasts: Sequence[Sequence[ScanLike]],
    settings: ModelSettings | None = None,
    device: str = "auto",
    *,
    modalities: Sequence[Modality] | None = None,
    profiles: Sequence[Sequence[SliceProfile]] | None = None,
    poses: Sequence[Sequence[Affine]] | None = None,
    grid: Grid | None = None,
    start: NDArray[np.float32] | None = None,
    lam: Sequence[float] | None = None,
    slices: SlicePlans | None = None,
    verdicts: Verdicts | None = None,
    details: Sequence[DetailStatement | None] | None = None,
    memory_limit: int | None = None,
    on_progress: Listener | None = None,
) -> SuperResolution:
    """Reconstruct one image for each contrast from scans of one head.

    Parameters
    ----------
    contrasts
        For each contrast its scans (repeats): a `Volume`, an array with its affine, or
        the path of a NIfTI file. A voxel that is not finite is missing, and in MR one that
        is 0.
    settings
        Settings of the model; its method is super-resolution or denoising.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    modalities
        ``"MR"`` or ``"CT"`` for each contrast; None for MR throughout.
    profiles
        Slice profile of every scan; None chooses them by voxel size, without gap, and
        takes voxels for points when denoising.
    poses
        ``(4, 4)`` matrices, scan world mm -> world mm of the images, to start from; None
        aligns all scans to the first.
    grid
        Grid of the images; None for one that holds all scans, in which the first scan keeps
        its pose. Where scans reach beyond a given grid they are left out.
    start
        Images to start from, ``(C, X, Y, Z)`` on ``grid``; the scans interpolated if None.
    lam
        Regularisation of each contrast in mm / intensity, as an earlier fit found it; that of
        the settings if None.
    slices
        For each scan the order of its slices, which ``settings.slice_motion`` then places group
        by group; or how they moved, which is then taken as given; or None to keep it whole.
        Without any, the settings decide: `plans_for` unless they leave scans whole.
    verdicts
        How far the slices of each scan are believed, as an earlier fit found it; judged here if
        None and the settings are robust.
    details
        How good the detail is that an earlier fit of the same scans learned for each contrast.
        ``start`` then holds the images of that fit, interpolated, and is believed in the place of
        detail, for every contrast. If None, detail is learned where the settings ask for it.
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
    volumes = volumes_of(contrasts)
    modalities = ["MR"] * len(volumes) if modalities is None else modalities
    noise = noise_of(volumes, modalities)
    poses = starting_poses(volumes, settings) if poses is None else poses
    lattice = individual_space(volumes, poses, settings) if grid is None else grid
    profiles = _profiles(volumes, lattice, settings, profiles)
    scans = Scans(volumes, modalities, profiles, poses, noise, settings.interleave_correction)
    read = scans.read()
    if slices is None and settings.slice_motion:
        slices = plans_for(read.observations, modalities)
    margin = _margin(lattice, read.observations, slices)
    working = padded(lattice, margin)
    thin_voxels = _thin_voxels(read, modalities, settings, lattice)
    sampled = settings.uncertainty is not None
    if not has_room_to_learn(
        working, read.observations, memory_limit, sampled=sampled, thin_voxels=thin_voxels
    ):
        settings, thin_voxels = replace(settings, learned_detail=False), 0
    check_memory(working, read.observations, memory_limit, sampled=sampled, thin_voxels=thin_voxels)
    bounds = None if grid is None else working
    read = read.inside(bounds)
    groups = tiers(read.observations, working)

    def weights(noise: Sequence[Sequence[NoiseEstimate]]) -> Sequence[float]:
        return regularisation(noise, settings, modalities, groups) if lam is None else lam

    def trusting(verdicts: Verdicts) -> Readings:
        return scans.read(verdicts).inside(bounds)

    if verdicts is not None:
        read = weighed_as(trusting, verdicts)
    elif settings.robust:
        read, verdicts = weigh_slices(read, trusting, working, weights(noise), torch_device)
    if start is not None:
        start = _above_air(start, modalities, read.noise)

    def learn(where: torch.device) -> Details:
        if details is not None and start is not None:
            return _recalled(details, start, lattice, read.above_air)
        # What lies beyond a given grid can be learned from, too.
        whole = scans.read() if verdicts is None else weighed_as(scans.read, verdicts)
        return _learned(whole, modalities, settings, lattice, bounds, where)

    fitted, torch_device = _solve_with_room(
        read.observations,
        read.above_air,
        working,
        weights(read.noise),
        [lam is None and is_searched(settings, modality) for modality in modalities],
        settings,
        torch_device,
        None if start is None else _with_margin(start, margin),
        slices,
        learn,
        thin_voxels,
        on_progress,
    )
    anchor = _anchor(poses[0][0], fitted.contrasts[0][0]) if grid is None else np.eye(4)
    return _result(
        fitted, read, verdicts, modalities, lattice, margin, anchor, settings, torch_device
    )


def _margin(
    grid: Grid, observations: Sequence[Sequence[Observation]], slices: SlicePlans | None
) -> int:
    """Voxels around the wanted ones that the scans may see, wherever their slices go."""
    margin = footprint_margin(grid, observations)
    if slices is not None:
        margin += math.ceil(LARGEST_MOTION_MM / float(min(grid.voxel_size)))
    return margin


def _solve_with_room(
    observations: Sequence[Sequence[Observation]],
    noise: Sequence[Sequence[NoiseEstimate]],
    grid: Grid,
    lam: Sequence[float],
    searched: Sequence[bool],
    settings: ModelSettings,
    device: torch.device,
    start: Tensor | None,
    slices: SlicePlans | None,
    learn: Callable[[torch.device], Details],
    thin_voxels: int,
    on_progress: Listener | None,
) -> tuple[UnifiedSolution, torch.device]:
    """Solve on the device, or on the CPU where a GPU has too little memory; say where it was."""

    def solve_on(where: torch.device) -> UnifiedSolution:
        return solve_in_tiers(
            observations,
            noise,
            grid,
            lam,
            searched,
            move=settings.unified_rigid,
            tolerance=settings.tolerance,
            max_iter=settings.max_iter,
            device=where,
            start=start,
            slices=slices,
            details=learn(where),
            on_progress=on_progress,
        )

    sampled = settings.uncertainty is not None
    device = device_with_room(device, grid, observations, sampled=sampled, thin_voxels=thin_voxels)
    try:
        return solve_on(device), device
    except torch.OutOfMemoryError:
        if device.type == "cpu":
            raise
        logger.warning("%s ran out of memory; the CPU takes over", device)
    # Outside the handler, whose traceback would keep the GPU's tensors alive.
    cpu = torch.device("cpu")
    return solve_on(cpu), cpu


def _result(
    fitted: UnifiedSolution,
    read: Readings,
    verdicts: Verdicts | None,
    modalities: Sequence[Modality],
    lattice: Grid,
    margin: int,
    anchor: Affine,
    settings: ModelSettings,
    device: torch.device,
) -> SuperResolution:
    """What was found, without the margin and with everything moved by ``anchor``."""
    covered = np.stack([coverage(own, lattice) for own in fitted.contrasts])
    seen = np.stack([measured(own, lattice) for own in fitted.contrasts])
    images = _cropped(fitted.solution.images, margin)
    working = padded(lattice, margin)
    return SuperResolution(
        images=_finished(images, read.volumes, modalities, read.noise, seen),
        grid=Grid(lattice.shape, anchor @ lattice.affine),
        coverage=np.asarray(covered.all(axis=0)),
        poses=tuple(tuple(anchor @ scan.world_pose for scan in own) for own in fitted.contrasts),
        device=device_name(device),
        noise=tuple(tuple(estimates) for estimates in read.noise),
        profiles=tuple(tuple(scan.profile for scan in own) for own in fitted.contrasts),
        interleaves=tuple(tuple(s.interleave for s in own) for own in fitted.contrasts),
        scales=fitted.scales,
        residuals=_residuals(fitted, read.above_air, working),
        lam=fitted.lam,
        objective=fitted.solution.history,
        converged=fitted.solution.converged,
        uncertainty=_uncertainty(fitted, read.above_air, working, settings, margin, seen),
        slice_motions=fitted.motions,
        slice_verdicts=verdicts,
        details=tuple(None if own is None else own.statement for own in fitted.details),
    )


def _profiles(
    volumes: Sequence[Sequence[Volume]],
    grid: Grid,
    settings: ModelSettings,
    given: Sequence[Sequence[SliceProfile]] | None,
) -> Sequence[Sequence[SliceProfile]]:
    if given is not None:
        return given
    if settings.method == "denoise":
        return [[_POINTS for _ in scans] for scans in volumes]
    return [[profile_for_voxels(v.grid, grid.voxel_size) for v in scans] for scans in volumes]


def _anchor(given: Affine, first: Observation) -> Affine:
    """Motion of scans and images together that takes the first scan back to where it was."""
    return np.asarray(given @ np.linalg.inv(first.world_pose))


def _thin_voxels(
    read: Readings, modalities: Sequence[Modality], settings: ModelSettings, grid: Grid
) -> int:
    """How many voxels of detail `_learned` may find."""
    finest = float(min(grid.voxel_size))
    learns = _learns(modalities, settings)
    return sum(
        thin_voxel_count(scans[0], finest)
        for scans, is_learned in zip(read.observations, learns, strict=True)
        if is_learned and len(scans) == 1
    )


def _learned(
    read: Readings,
    modalities: Sequence[Modality],
    settings: ModelSettings,
    grid: Grid,
    bounds: Grid | None,
    device: torch.device,
) -> Details:
    found = learned_details(
        read.observations,
        read.above_air,
        float(min(grid.voxel_size)),
        _learns(modalities, settings),
        device,
    )
    if bounds is None:
        return found
    return tuple(
        None if detail is None else replace(detail, scan=within(detail.scan, bounds))
        for detail in found
    )


def _learns(modalities: Sequence[Modality], settings: ModelSettings) -> list[bool]:
    """Of which contrasts detail is learned; noise of CT is too coloured for that."""
    wanted = settings.learned_detail and settings.method == "super-resolution"
    return [wanted and modality == "MR" for modality in modalities]


def _recalled(
    details: Sequence[DetailStatement | None],
    start: NDArray[np.float32],
    grid: Grid,
    noise: Sequence[Sequence[NoiseEstimate]],
) -> Details:
    return tuple(
        recalled(image, grid, own, statement)
        for image, own, statement in zip(start, noise, details, strict=True)
    )


def _above_air(
    images: NDArray[np.float32],
    modalities: Sequence[Modality],
    noise: Sequence[Sequence[NoiseEstimate]],
) -> NDArray[np.float32]:
    """Images with air at 0."""
    air = [intensity_of_air(*pair) for pair in zip(noise, modalities, strict=True)]
    return images - np.asarray(air, dtype=np.float32)[:, None, None, None]


def _with_margin(images: NDArray[np.float32], margin: int) -> Tensor:
    return torch.as_tensor(np.pad(images, [(0, 0)] + [(margin, margin)] * 3, mode="edge"))


def _cropped(images: Tensor, margin: int) -> NDArray[np.float32]:
    inner = (slice(None), *(slice(margin, side - margin) for side in images.shape[1:]))
    return np.ascontiguousarray(images.cpu().numpy()[inner])


def _finished(
    images: NDArray[np.float32],
    volumes: Sequence[Sequence[Volume]],
    modalities: Sequence[Modality],
    noise: Sequence[Sequence[NoiseEstimate]],
    seen: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """In the units of the scans, within their range, and as dark as air where none measured."""
    parts = zip(images, volumes, modalities, noise, seen, strict=True)
    for image, scans, modality, own, here in parts:
        image += np.float32(intensity_of_air(own, modality))
        low, high = _intensity_range(scans)
        np.clip(image, low, high, out=image)
        image[~here] = low if modality == "CT" else 0
    return images


def _intensity_range(scans: Sequence[Volume]) -> tuple[float, float]:
    low = min(float(np.nanmin(scan.data, initial=0.0)) for scan in scans)
    high = max(float(np.nanmax(scan.data, initial=0.0)) for scan in scans)
    return low, high


def _residuals(
    fitted: UnifiedSolution, noise: Sequence[Sequence[NoiseEstimate]], grid: Grid
) -> tuple[tuple[ResidualStatement, ...], ...]:
    motions = fitted.motions or [[None] * len(scans) for scans in fitted.contrasts]
    return tuple(
        tuple(
            residual_statement(measured_only(scan), own, grid, image, motion)
            for scan, own, motion in zip(scans, estimates, moved, strict=True)
        )
        for scans, estimates, image, moved in zip(
            fitted.contrasts, noise, fitted.solution.images, motions, strict=True
        )
    )


def _uncertainty(
    fitted: UnifiedSolution,
    noise: Sequence[Sequence[NoiseEstimate]],
    grid: Grid,
    settings: ModelSettings,
    margin: int,
    seen: NDArray[np.bool_],
) -> Uncertainty | None:
    """Calibrated standard deviations, where nothing was measured as large as the contrast."""
    samples = settings.uncertainty
    if samples is None:
        return None
    images, lam = fitted.solution.images, fitted.lam
    scans, estimates_of = apart(fitted.contrasts, noise, fitted.motions)
    seen_and_learned = beside(scans, fitted.details, grid)
    sds = standard_deviations(seen_and_learned, grid, lam, images, samples=samples)
    scales = calibrated_scales(
        scans,
        estimates_of,
        grid,
        lam,
        images,
        samples=samples,
        learned=[detail is not None for detail in fitted.details],
        tolerance=settings.tolerance,
        max_iter=settings.max_iter,
    )
    maps = _cropped(sds, margin)
    for own, scale, estimates, here in zip(maps, scales, noise, seen, strict=True):
        own *= np.float32(scale)
        own[~here] = max(estimate.contrast for estimate in estimates)
    return Uncertainty(maps, scales, samples)
