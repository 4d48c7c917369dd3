"""The fit as a whole: from scans as acquired to images on one grid."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import ModelSettings
from ..geometry import Affine, Grid, padded
from ..volume import Volume
from .alternation import UnifiedSolution
from .calibration import calibrated_scales
from .linear import linear_images
from .memory import check_memory, device_with_room
from .noise import Modality, NoiseEstimate
from .observation import Observation, usable_device
from .placement import (
    coverage,
    footprint_margin,
    individual_space,
    starting_poses,
)
from .profile import SliceProfile, profile_for_voxels
from .readings import ScanLike, Scans, intensity_of_air, noise_of, volumes_of
from .residuals import ResidualStatement, residual_statement
from .slice_filling import measured_only
from .slice_groups import SliceMotion, moved
from .slice_motion import LARGEST_MOTION_MM, SlicePlans, plans_for
from .slice_weights import Verdicts, weigh_slices
from .solver import Listener, Progress
from .strength import weight_by_noise
from .tiers import solve_in_tiers, tiers
from .uncertainty import Uncertainty, standard_deviations

logger = logging.getLogger("bids_unires")

# The contrast between air and head spans far more in CT than that between soft tissues.
_CT_CONTRAST_SHARE = 0.25
# Where strengths are chosen from the scans, that of CT, which is not.
_STRENGTH = 4.0
_POINTS = SliceProfile("point", "point")


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Images on one grid, however they came about.

    Nested tuples are (contrast, repeat), in the order of the input.

    Attributes
    ----------
    images
        ``(C, X, Y, Z)`` float32, one image a contrast, in the units of its scans; where none
        of them measured it is 0, or in CT the darkest value of the scans.
    grid
        Where they lie.
    coverage
        ``(X, Y, Z)`` bool: voxels that at least one scan of every contrast measured.
    poses
        ``(4, 4)`` matrices, scan world mm -> world mm of the images; rigid unless others
        were given.
    device
        Where it was computed: ``cpu`` or the name of the GPU.
    """

    images: NDArray[np.float32]
    grid: Grid
    coverage: NDArray[np.bool_]
    poses: tuple[tuple[Affine, ...], ...]
    device: str


@dataclass(frozen=True, eq=False)
class SuperResolution(Reconstruction):
    """Images that minimise the objective, and everything that led to them.

    Attributes
    ----------
    noise
        Noise and contrast of every scan.
    profiles
        Slice profile used for every scan.
    interleaves
        Logarithm of the factor of even slices of every scan; 0 where it was not estimated.
    scales
        Scale of each scan's residuals in intensity: its noise, or more where repeats of
        one contrast disagree.
    residuals
        What the images leave unexplained of every scan.
    lam
        Regularisation of each contrast in mm / intensity.
    objective
        The solver's history; the last entry holds the final value.
    converged
        Whether the tolerance was met, rather than the bound on iterations.
    uncertainty
        Standard deviations of the images; None unless the settings ask for them.
    slice_motions
        How the slices of every scan moved, None for those that were not taken apart; empty
        where that was not asked for.
    slice_verdicts
        How far each slice of every scan is believed; None where all are.
    """

    noise: tuple[tuple[NoiseEstimate, ...], ...]
    profiles: tuple[tuple[SliceProfile, ...], ...]
    interleaves: tuple[tuple[float, ...], ...]
    scales: tuple[tuple[float, ...], ...]
    residuals: tuple[tuple[ResidualStatement, ...], ...]
    lam: tuple[float, ...]
    objective: tuple[Progress, ...]
    converged: bool
    uncertainty: Uncertainty | None = None
    slice_motions: tuple[tuple[SliceMotion | None, ...], ...] = ()
    slice_verdicts: Verdicts | None = None


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
    margin = footprint_margin(lattice, read.observations)
    if slices is not None:
        margin += math.ceil(LARGEST_MOTION_MM / float(min(lattice.voxel_size)))
    working = padded(lattice, margin)
    check_memory(working, read.observations, memory_limit, sampled=settings.uncertainty is not None)
    bounds = None if grid is None else working
    read = read.inside(bounds)
    groups = tiers(read.observations, working)

    def weights(noise: Sequence[Sequence[NoiseEstimate]]) -> Sequence[float]:
        return regularisation(noise, settings, modalities, groups) if lam is None else lam

    verdicts = None
    if settings.robust:
        read, verdicts = weigh_slices(
            read,
            lambda factors: scans.read(factors).inside(bounds),
            working,
            weights(noise),
            torch_device,
        )
    fitted, torch_device = _solve_with_room(
        read.observations,
        read.above_air,
        working,
        weights(read.noise),
        [lam is None and _is_searched(settings, modality) for modality in modalities],
        settings,
        torch_device,
        None if start is None else _with_margin(start, modalities, read.noise, margin),
        slices,
        on_progress,
    )
    covered = np.stack([coverage(own, lattice) for own in fitted.contrasts])
    images = _cropped(fitted.solution.images, margin)
    anchor = _anchor(poses[0][0], fitted.contrasts[0][0]) if grid is None else np.eye(4)
    return SuperResolution(
        images=_finished(images, read.volumes, modalities, read.noise, covered),
        grid=Grid(lattice.shape, anchor @ lattice.affine),
        coverage=np.asarray(covered.all(axis=0)),
        poses=tuple(tuple(anchor @ scan.world_pose for scan in own) for own in fitted.contrasts),
        device=_device_name(torch_device),
        noise=tuple(tuple(estimates) for estimates in read.noise),
        profiles=tuple(tuple(scan.profile for scan in own) for own in fitted.contrasts),
        interleaves=tuple(tuple(s.interleave for s in own) for own in fitted.contrasts),
        scales=fitted.scales,
        residuals=_residuals(fitted, read.above_air, working),
        lam=fitted.lam,
        objective=fitted.solution.history,
        converged=fitted.solution.converged,
        uncertainty=_uncertainty(
            fitted, read.above_air, working, fitted.lam, settings, margin, covered
        ),
        slice_motions=fitted.motions,
        slice_verdicts=verdicts,
    )


def interpolate(
    contrasts: Sequence[Sequence[ScanLike]],
    settings: ModelSettings | None = None,
    device: str = "auto",
    *,
    modalities: Sequence[Modality] | None = None,
    poses: Sequence[Sequence[Affine]] | None = None,
    grid: Grid | None = None,
) -> Reconstruction:
    """Interpolate the scans of one head trilinearly on one grid, without any model.

    Parameters and errors are those of `super_resolve`.
    """
    settings = settings or ModelSettings(method="linear")
    torch_device = usable_device(device)
    volumes = volumes_of(contrasts)
    modalities = ["MR"] * len(volumes) if modalities is None else modalities
    poses = starting_poses(volumes, settings) if poses is None else poses
    grid = individual_space(volumes, poses, settings) if grid is None else grid
    observations = [
        [
            Observation(scan.data, scan.affine, pose=pose, zero_is_missing=modality == "MR")
            for scan, pose in zip(scans, scan_poses, strict=True)
        ]
        for scans, scan_poses, modality in zip(volumes, poses, modalities, strict=True)
    ]
    covered = np.stack([coverage(scans, grid) for scans in observations])
    return Reconstruction(
        images=linear_images(observations, grid, torch_device).cpu().numpy(),
        grid=grid,
        coverage=np.asarray(covered.all(axis=0)),
        poses=tuple(tuple(scan_poses) for scan_poses in poses),
        device=_device_name(torch_device),
    )


def regularisation(
    noise: Sequence[Sequence[NoiseEstimate]],
    settings: ModelSettings,
    modalities: Sequence[Modality],
    groups: Sequence[Sequence[int]],
) -> tuple[float, ...]:
    """Weight of the prior for each contrast in mm / intensity.

    ``reg_scale * sqrt(G) / mean_n(mu_cn)``: dividing by the contrast between head and
    background makes edges of all contrasts comparable (Brudfors et al. 2018, section
    2.3). Super-resolving CT takes a quarter of that contrast.

    G contrasts are solved for together. The squares of their differences add up below one
    root, those of noise included: where the head is flat the root is ``sqrt(G)`` times as
    large as for one contrast, and smooths each of them so much less. The article's
    ``sqrt(1 / G)`` in place of ``sqrt(G)`` leaves every contrast noisier than a fit alone.

    Where the strength is to be found from the scans, `weight_by_noise` takes the place of
    ``reg_scale / mean_n(mu_cn)`` as a beginning.

    Parameters
    ----------
    noise
        Noise and contrast of every scan.
    settings
        Of which ``reg_scale`` and ``method`` count here.
    modalities
        Modality of each contrast.
    groups
        Indices of the contrasts that are solved for together; see `tiers`.

    Examples
    --------
    >>> estimate = NoiseEstimate(1.0, 0.0, 100.0, "rice-mixture")
    >>> regularisation([[estimate]], ModelSettings(reg_scale=4.0), ["MR"], [[0]])
    (0.04,)
    """
    gains = {contrast: math.sqrt(len(group)) for group in groups for contrast in group}
    means = [sum(scan.contrast for scan in scans) / len(scans) for scans in noise]
    share = _CT_CONTRAST_SHARE if settings.method == "super-resolution" else 1.0
    scale = _STRENGTH if settings.reg_scale == "auto" else settings.reg_scale
    return tuple(
        gains[c]
        * (
            weight_by_noise(noise[c])
            if _is_searched(settings, modality)
            else scale / (mean * (share if modality == "CT" else 1.0))
        )
        for c, (mean, modality) in enumerate(zip(means, modalities, strict=True))
    )


def _is_searched(settings: ModelSettings, modality: Modality) -> bool:
    """Whether the weight is to be found; noise of CT is too coloured for that."""
    return settings.reg_scale == "auto" and modality == "MR"


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
            on_progress=on_progress,
        )

    sampled = settings.uncertainty is not None
    device = device_with_room(device, grid, observations, sampled=sampled)
    try:
        return solve_on(device), device
    except torch.OutOfMemoryError:
        if device.type == "cpu":
            raise
        logger.warning("%s ran out of memory; the CPU takes over", device)
    # Outside the handler, whose traceback would keep the GPU's tensors alive.
    cpu = torch.device("cpu")
    return solve_on(cpu), cpu


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


def _with_margin(
    images: NDArray[np.float32],
    modalities: Sequence[Modality],
    noise: Sequence[Sequence[NoiseEstimate]],
    margin: int,
) -> Tensor:
    """Images to start from, with air at 0 and around them."""
    above_air = [
        image - np.float32(intensity_of_air(own, modality))
        for image, modality, own in zip(images, modalities, noise, strict=True)
    ]
    return torch.as_tensor(np.pad(above_air, [(0, 0)] + [(margin, margin)] * 3, mode="edge"))


def _cropped(images: Tensor, margin: int) -> NDArray[np.float32]:
    inner = (slice(None), *(slice(margin, side - margin) for side in images.shape[1:]))
    return np.ascontiguousarray(images.cpu().numpy()[inner])


def _finished(
    images: NDArray[np.float32],
    volumes: Sequence[Sequence[Volume]],
    modalities: Sequence[Modality],
    noise: Sequence[Sequence[NoiseEstimate]],
    covered: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """In the units of the scans, within their range, and as dark as air where none measured."""
    parts = zip(images, volumes, modalities, noise, covered, strict=True)
    for image, scans, modality, own, measured in parts:
        image += np.float32(intensity_of_air(own, modality))
        low, high = _intensity_range(scans)
        np.clip(image, low, high, out=image)
        image[~measured] = low if modality == "CT" else 0
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


def _apart(
    fitted: UnifiedSolution, noise: Sequence[Sequence[NoiseEstimate]]
) -> tuple[list[list[Observation]], list[list[NoiseEstimate]]]:
    """Scans, those whose slices moved as one scan for each group, and the noise of each."""
    if not fitted.motions:
        return [list(scans) for scans in fitted.contrasts], [list(own) for own in noise]
    parts = [
        [(part, own) for scan, own, motion in zip(*of, strict=True) for part in moved(scan, motion)]
        for of in zip(fitted.contrasts, noise, fitted.motions, strict=True)
    ]
    scans = [[part for part, _ in own] for own in parts]
    return scans, [[estimate for _, estimate in own] for own in parts]


def _uncertainty(
    fitted: UnifiedSolution,
    noise: Sequence[Sequence[NoiseEstimate]],
    grid: Grid,
    lam: Sequence[float],
    settings: ModelSettings,
    margin: int,
    covered: NDArray[np.bool_],
) -> Uncertainty | None:
    """Calibrated standard deviations, where nothing was measured as large as the contrast."""
    samples = settings.uncertainty
    if samples is None:
        return None
    images = fitted.solution.images
    scans, estimates_of = _apart(fitted, noise)
    sds = standard_deviations(scans, grid, lam, images, samples=samples)
    scales = calibrated_scales(
        scans,
        estimates_of,
        grid,
        lam,
        images,
        samples=samples,
        tolerance=settings.tolerance,
        max_iter=settings.max_iter,
    )
    maps = _cropped(sds, margin)
    for own, scale, estimates, measured in zip(maps, scales, noise, covered, strict=True):
        own *= np.float32(scale)
        own[~measured] = max(estimate.contrast for estimate in estimates)
    return Uncertainty(maps, scales, samples)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
