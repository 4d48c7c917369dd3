"""The fit as a whole: from scans as acquired to images on one grid."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ...config import Modality, ModelSettings
from ...kernels.device import usable_device
from ...space.affines import Affine
from ...space.grid import Grid, padded
from ...space.volume import Volume
from ..detail.learning import thin_voxel_count
from ..detail.term import DetailStatement
from ..intensity.preprocessing import Readings
from ..robust.verdict import Verdicts
from ..scanner.coverage import footprint_margin
from ..scanner.observation import Observation
from ..scanner.profile import SliceProfile, profile_for_voxels
from ..slice_motion.solve import LARGEST_MOTION_MM, SlicePlans, plans_for
from ..solve.solver import Listener
from .memory import check_memory, device_with_room, has_room_to_learn
from .placement import individual_space, starting_poses
from .plan import Reconstruction, learns
from .result import SuperResolution
from .scans import ScanLike, Scans, noise_of, volumes_of

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
    torch_device = device_with_room(
        torch_device, working, read.observations, sampled=sampled, thin_voxels=thin_voxels
    )
    reconstruction = Reconstruction(
        scans,
        settings,
        lattice,
        grid is not None,
        margin,
        slices,
        start,
        lam,
        verdicts,
        details,
        on_progress,
    )
    return _with_room(reconstruction, torch_device)


def _with_room(reconstruction: Reconstruction, device: torch.device) -> SuperResolution:
    """Reconstruct on a device, or on the CPU where a GPU runs out of memory."""
    try:
        return reconstruction.on(device)
    except torch.OutOfMemoryError:
        if device.type == "cpu":
            raise
        logger.warning("%s ran out of memory; the CPU takes over", device)
    # Outside the handler, whose traceback would keep the GPU's tensors alive.
    return reconstruction.on(torch.device("cpu"))


def _margin(
    grid: Grid, observations: Sequence[Sequence[Observation]], slices: SlicePlans | None
) -> int:
    """Voxels around the wanted ones that the scans may see, wherever their slices go."""
    margin = footprint_margin(grid, observations)
    if slices is not None:
        margin += math.ceil(LARGEST_MOTION_MM / float(min(grid.voxel_size)))
    return margin


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


def _thin_voxels(
    read: Readings, modalities: Sequence[Modality], settings: ModelSettings, grid: Grid
) -> int:
    """How many voxels of detail may be learned."""
    finest = float(min(grid.voxel_size))
    wanted = learns(modalities, settings)
    return sum(
        thin_voxel_count(scans[0], finest)
        for scans, is_learned in zip(read.observations, wanted, strict=True)
        if is_learned and len(scans) == 1
    )
