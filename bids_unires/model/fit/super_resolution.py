"""The fit as a whole: from scans as acquired to images on one grid."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...config import Modality, ModelSettings
from ...kernels.device import usable_device
from ...space.affines import Affine
from ...space.arrays import Numbers, array_of
from ...space.grid import Grid, padded
from ...space.volume import Volume
from ..detail.learning import thin_voxel_count
from ..detail.term import DetailStatement
from ..intensity.preprocessing import PreparedContrast
from ..intensity.scan_state import SlicePlan
from ..robust.verdict import Verdicts
from ..scanner.coverage import footprint_margin
from ..scanner.observation import Observation
from ..scanner.profile import SliceProfile, profile_for_voxels
from ..slice_motion.solve import LARGEST_MOTION_MM, usual_plan
from ..solve.solver import Listener
from .memory import MemoryNeed, check_memory, device_with_room, has_room_to_learn
from .placement import individual_space, starting_poses
from .plan import FitPlan, detail_is_learned
from .result import Reconstruction
from .scans import (
    GivenContrast,
    GivenScan,
    PlacedContrast,
    PlacedScan,
    ScanLike,
    StartImages,
    as_volume,
    noise_of_scan,
    poses_of,
    prepare,
)

logger = logging.getLogger("bids_unires")

_POINTS = SliceProfile("point", "point")


def super_resolve(  # noqa: PLR0913  (all that may be said of a fit, in one call)
    contrasts: Sequence[Sequence[ScanLike]],
    settings: ModelSettings | None = None,
    device: str = "auto",
    *,
    modalities: Sequence[Modality] | None = None,
    profiles: Sequence[Sequence[SliceProfile]] | None = None,
    poses: Sequence[Sequence[Numbers]] | None = None,
    grid: Grid | None = None,
    start: Numbers | None = None,
    lam: Numbers | None = None,
    slices: Sequence[Sequence[SlicePlan]] | None = None,
    verdicts: Verdicts | None = None,
    details: Sequence[DetailStatement | None] | None = None,
    memory_limit: int | None = None,
    on_progress: Listener | None = None,
) -> Reconstruction:
    """Reconstruct one image for each contrast from scans of one head.

    Parameters
    ----------
    contrasts
        For each contrast its scans (repeats): a `Volume`, an array or tensor with its affine,
        or the path of a NIfTI file. A voxel that is not finite is missing, and in MR one that
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
        Weight of the prior of each contrast in mm / intensity, as an earlier fit found it; that
        of the settings if None.
    slices
        For each scan the order of its slices, which ``settings.slice_motion`` then places group
        by group; or how they moved, which is then taken as given; or None to keep it whole.
        Without any, the settings decide: `usual_plan` unless they leave scans whole.
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
    # Before anything is read.
    usable_device(device)
    if not contrasts or not all(contrasts):
        raise ValueError("every contrast needs at least one scan, and there must be one")
    weights = None if lam is None else array_of(lam, np.float64).reshape(-1).tolist()
    usual = [["usual"] * len(scans) for scans in contrasts]
    given = [
        GivenContrast(_given_scans(*known), modality, weight, detail)
        for *known, modality, weight, detail in zip(
            contrasts,
            _known(profiles, len(contrasts)),
            _known(None if poses is None else poses_of(poses), len(contrasts)),
            usual if slices is None else slices,
            _known(verdicts, len(contrasts)),
            ["MR"] * len(contrasts) if modalities is None else modalities,
            _known(weights, len(contrasts)),
            _known(details, len(contrasts)),
            strict=True,
        )
    ]
    images = None
    if start is not None:
        images = StartImages(array_of(start, np.float32), details is not None)
    return reconstruct(
        given,
        settings,
        device,
        grid=grid,
        start=images,
        memory_limit=memory_limit,
        on_progress=on_progress,
    )


def reconstruct(
    contrasts: Sequence[GivenContrast],
    settings: ModelSettings | None = None,
    device: str = "auto",
    *,
    grid: Grid | None = None,
    start: StartImages | None = None,
    memory_limit: int | None = None,
    on_progress: Listener | None = None,
) -> Reconstruction:
    """`super_resolve` with what is known of each scan beside it.

    Parameters
    ----------
    contrasts
        At least one, each with at least one scan. Either all scans have a pose or none.
    settings, device, grid, memory_limit, on_progress
        As for `super_resolve`.
    start
        Images to start from; the scans interpolated if None.

    Raises
    ------
    BadDataError
        If a scan is constant, or the fit does not fit into memory.
    ValueError
        If the device does not exist, or only some scans have a pose.
    """
    settings = settings or ModelSettings()
    torch_device = usable_device(device)
    placed, lattice = _placed(contrasts, settings, grid)
    places_slices = settings.slice_motion or any(
        scan.slices is not None for contrast in placed for scan in contrast.scans
    )
    prepared = prepare(placed, interleaved=settings.interleave_correction)
    scans = [contrast.observations for contrast in prepared]
    margin = _margin(lattice, [scan for own in scans for scan in own], places_slices)
    need = MemoryNeed(
        padded(lattice, margin),
        scans,
        settings.uncertainty is not None,
        _thin_voxels(prepared, settings, lattice),
    )
    if not has_room_to_learn(need, memory_limit):
        settings, need = replace(settings, learned_detail=False), replace(need, thin_voxels=0)
    check_memory(need, memory_limit)
    plan = FitPlan(
        placed,
        settings,
        lattice,
        grid is not None,
        margin,
        places_slices,
        start,
        _verdicts(contrasts),
        on_progress,
    )
    return _with_room(plan, device_with_room(torch_device, need))


def _known(values: Sequence[Any] | None, count: int) -> Sequence[Any]:
    """What is known of each of ``count`` things; None of each where nothing is."""
    return [None] * count if values is None else values


def _given_scans(scans: Sequence[ScanLike], *known: Sequence[Any] | None) -> tuple[GivenScan, ...]:
    """Scans of one contrast, each with what is known of it, in the order of `GivenScan`."""
    columns = [_known(values, len(scans)) for values in known]
    return tuple(
        GivenScan(as_volume(scan), *cells) for scan, *cells in zip(scans, *columns, strict=True)
    )


def _placed(
    contrasts: Sequence[GivenContrast], settings: ModelSettings, grid: Grid | None
) -> tuple[tuple[PlacedContrast, ...], Grid]:
    """The contrasts with all that a fit begins with, and the grid of their images."""
    noise = [
        noise_of_scan(scan.volume, contrast.modality)
        for contrast in contrasts
        for scan in contrast.scans
    ]
    scans = [scan for contrast in contrasts for scan in contrast.scans]
    poses = _poses(scans, settings)
    lattice = grid
    if lattice is None:
        boxes = [scan.volume.grid.moved(pose) for scan, pose in zip(scans, poses, strict=True)]
        lattice = individual_space(boxes, settings.voxel_size)
    found = iter(zip(noise, poses, strict=True))
    placed = []
    for contrast in contrasts:
        own = []
        for scan in contrast.scans:
            profile = scan.profile or _profile(scan.volume, lattice, settings)
            slices = _plan(scan, profile, contrast.modality, settings)
            scan_noise, pose = next(found)
            own.append(PlacedScan(scan.volume, scan_noise, profile, pose, slices))
        placed.append(
            PlacedContrast(tuple(own), contrast.modality, contrast.weight, contrast.detail)
        )
    return tuple(placed), lattice


def _poses(scans: Sequence[GivenScan], settings: ModelSettings) -> list[Affine]:
    """Where scans lie: as given, or aligned to the first of them."""
    given = [scan.pose for scan in scans if scan.pose is not None]
    if not given:
        return starting_poses([scan.volume for scan in scans], settings)
    if len(given) < len(scans):
        raise ValueError("either every scan has a pose or none")
    return given


def _profile(volume: Volume, grid: Grid, settings: ModelSettings) -> SliceProfile:
    if settings.method == "denoise":
        return _POINTS
    return profile_for_voxels(volume.grid, grid.voxel_size)


def _plan(
    scan: GivenScan, profile: SliceProfile, modality: Modality, settings: ModelSettings
) -> SlicePlan:
    """What is known of the slices of a scan."""
    if scan.slices != "usual":
        return scan.slices
    return usual_plan(profile, scan.volume.grid, modality) if settings.slice_motion else None


def _verdicts(contrasts: Sequence[GivenContrast]) -> Verdicts | None:
    """Verdicts on all slices, as an earlier fit found them; None where any is lacking."""
    found = []
    for contrast in contrasts:
        own = [scan.verdict for scan in contrast.scans if scan.verdict is not None]
        if len(own) < len(contrast.scans):
            return None
        found.append(tuple(own))
    return tuple(found)


def _with_room(plan: FitPlan, device: torch.device) -> Reconstruction:
    """Reconstruct on a device, or on the CPU where a GPU runs out of memory."""
    try:
        return plan.on(device)
    except torch.OutOfMemoryError:
        if device.type == "cpu":
            raise
        logger.warning("%s ran out of memory; the CPU takes over", device)
    # Outside the handler, whose traceback would keep the GPU's tensors alive.
    return plan.on(torch.device("cpu"))


def _margin(grid: Grid, scans: Sequence[Observation], places_slices: bool) -> int:
    """Voxels around the wanted ones that the scans may see, wherever their slices go."""
    margin = footprint_margin(grid, scans)
    if places_slices:
        margin += math.ceil(LARGEST_MOTION_MM / float(min(grid.voxel_size)))
    return margin


def _thin_voxels(contrasts: Sequence[PreparedContrast], settings: ModelSettings, grid: Grid) -> int:
    """How many voxels of detail may be learned."""
    finest = float(min(grid.voxel_size))
    return sum(
        thin_voxel_count(contrast.observations[0], finest)
        for contrast in contrasts
        if detail_is_learned(contrast.modality, settings) and len(contrast.scans) == 1
    )
