"""`super_resolve` and `reconstruct`: from scans as acquired to images on one grid."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ...config import Modality, ModelSettings
from ...kernels.device import usable_device
from ...space.affines import Affine
from ...space.arrays import Numbers, array_of
from ...space.grid import Grid, padded
from ..assess.small_lesions import LesionLook
from ..detail.learning import ShareListener, thin_voxel_count
from ..detail.term import DetailStatement
from ..intensity.noise import NoiseEstimate
from ..intensity.preprocessing import PreparedContrast
from ..intensity.scan_state import SlicePlan
from ..robust.verdict import Verdicts
from ..scanner.coverage import footprint_margin
from ..scanner.observation import Observation
from ..scanner.profile import SliceProfile, profile_for_voxels
from ..slice_motion.solve import LARGEST_MOTION_MM, usual_plan
from ..solve.solver import Listener
from .fine_voxels import averaged_within_slices, noise_of_averages, voxels_together
from .head_part import HeadPart, head_part
from .memory import (
    MemoryNeed,
    check_memory,
    device_with_room,
    has_room_for_lesions,
    has_room_to_learn,
)
from .placement import individual_space, say_which_grid, starting_poses
from .plan import NOBODY, FitListeners, FitPlan, detail_is_learned
from .result import Reconstruction
from .scans import (
    GivenContrast,
    GivenScan,
    PlacedContrast,
    PlacedScan,
    ScanLike,
    StartImages,
    acquisition_of,
    as_volume,
    noise_of_scan,
    poses_of,
    prepare,
)

logger = logging.getLogger("bids_unires")

_POINTS = SliceProfile("point", "point")


def super_resolve(  # noqa: PLR0913  (all that may be known of a fit, in one call)
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
    lesions: Sequence[LesionLook | None] | None = None,
    measured: bool = False,
    memory_limit: int | None = None,
    on_progress: Listener | None = None,
    on_learning: ShareListener | None = None,
) -> Reconstruction:
    """Reconstruct one image for each contrast from scans of one head.

    Parameters
    ----------
    contrasts
        For each contrast its scans (repeats): a `Volume`, an array or tensor with its affine,
        or the path of an image file. A voxel that is not finite is missing, and in MR one that
        is 0. The JSON file of the same name beside a path (``T1.json`` beside ``T1.nii.gz``) is
        read as its sidecar.
    settings
        Settings of the model; the method is super-resolution or denoising.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    modalities
        ``"MR"`` or ``"CT"`` for each contrast; None for MR throughout.
    profiles
        Slice profile of every scan; None chooses them by voxel size, with the slice axis and the
        gap of the sidecars where paths are given, else without a gap (when denoising, point
        samples).
    poses
        ``(4, 4)`` matrices, scan world mm -> world mm of the images, to start from; None
        aligns all scans to the first.
    grid
        Grid of the images; None for one that contains all scans, in which the first scan keeps
        its pose. Voxels of scans beyond a given grid are not used.
    start
        Images to start from, ``(C, X, Y, Z)`` on ``grid``; the scans interpolated if None.
    lam
        Weight of the prior of each contrast in mm / intensity, from an earlier fit; that of the
        settings if None.
    slices
        For each scan the order of its slices, whose groups are then placed if
        ``settings.slice_motion`` asks for it; or how the slices moved, taken as given; or None if
        they did not move. If None for all, the settings decide: `usual_plan` with slice motion.
    verdicts
        Weights and repairs of the slices of each scan, from an earlier fit. If None, slices are
        judged here if the settings are robust.
    details
        How accurate the detail is that an earlier fit of the same scans learned for each contrast.
        ``start`` then holds the interpolated images of that fit, which are used in place of learned
        detail, for every contrast. If None, detail is learned if the settings ask for it.
    lesions
        ``"bright"`` or ``"dark"``: how small lesions look in each contrast. What would become of
        them is then stated in the result; see `Detectability`. None to say nothing.
    measured
        Whether to find how much of the detail of the images the scans measured.
    memory_limit
        Bytes that may be used; a fit estimated to need more is refused. None for no limit.
    on_progress
        Called after every iteration of the solver.
    on_learning
        Called with the share of the detail within slices that is learned, from 0 to 1, by the
        threads that learn.

    Raises
    ------
    BadDataError
        If a scan is unreadable or constant, or the fit does not fit into memory.
    ValueError
        If the nesting is wrong or the device does not exist.
    """
    # Raises before anything is read.
    usable_device(device)
    if not contrasts or not all(contrasts):
        raise ValueError("every contrast needs at least one scan, and there must be one")
    weights = None if lam is None else array_of(lam, np.float64).reshape(-1).tolist()
    usual = [["usual"] * len(scans) for scans in contrasts]
    given = [
        GivenContrast(_given_scans(modality, *known), modality, weight, detail, look, measured)
        for *known, modality, weight, detail, look in zip(
            contrasts,
            _known(profiles, len(contrasts)),
            _known(None if poses is None else poses_of(poses), len(contrasts)),
            usual if slices is None else slices,
            _known(verdicts, len(contrasts)),
            ["MR"] * len(contrasts) if modalities is None else modalities,
            _known(weights, len(contrasts)),
            _known(details, len(contrasts)),
            _known(lesions, len(contrasts)),
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
        listeners=FitListeners(on_progress, on_learning),
    )


def reconstruct(
    contrasts: Sequence[GivenContrast],
    settings: ModelSettings | None = None,
    device: str = "auto",
    *,
    grid: Grid | None = None,
    start: StartImages | None = None,
    memory_limit: int | None = None,
    listeners: FitListeners = NOBODY,
) -> Reconstruction:
    """`super_resolve` of contrasts that hold all that is known of them.

    Parameters
    ----------
    contrasts
        At least one, each with at least one scan. Either all scans have a pose or none.
    settings, device, grid, memory_limit
        As for `super_resolve`.
    start
        Images to start from; the scans interpolated if None.
    listeners
        Who is told how far the fit is.

    Raises
    ------
    BadDataError
        If a scan is constant, or the fit does not fit into memory.
    ValueError
        If the device does not exist, or only some scans have a pose.
    """
    settings = settings or ModelSettings()
    torch_device = usable_device(device)
    layout = _laid_out(contrasts, settings, grid)
    if grid is None:
        say_which_grid(layout.part.lattice)
    if not has_room_for_lesions(layout.need, memory_limit):
        layout = layout.without_lesions()
    need = layout.need
    if not has_room_to_learn(need, memory_limit):
        settings, need = replace(settings, learned_detail=False), replace(need, thin_voxels=0)
    check_memory(need, memory_limit)
    plan = FitPlan(
        layout.near,
        settings,
        layout.part.grid,
        grid is not None,
        grid is not None or not layout.part.is_whole,
        layout.margin,
        layout.places_slices,
        layout.part.start(start),
        _verdicts(contrasts),
        listeners,
    )
    solved = _with_room(plan, device_with_room(torch_device, need))
    return layout.part.with_surroundings(solved, layout.placed)


def need_of_fit(contrasts: Sequence[GivenContrast], settings: ModelSettings) -> MemoryNeed:
    """The memory that `reconstruct` would need, with the scans where their headers place them.

    Parameters
    ----------
    contrasts, settings
        As for `reconstruct`. Nothing is aligned or fitted.

    Raises
    ------
    BadDataError
        If a scan is constant.
    """
    return _laid_out(contrasts, replace(settings, coregister=False), None).need


@dataclass(frozen=True, eq=False)
class _Layout:
    """Where a fit takes place, and the memory that it needs.

    Parameters
    ----------
    placed
        The whole scans.
    part
        The part of the grid of the images that is solved.
    near
        The scans around that part.
    places_slices
        Whether slices are placed, or are known to have moved.
    margin
        Voxels around the part in which scans may lie.
    need
        The memory that the fit needs.
    """

    placed: tuple[PlacedContrast, ...]
    part: HeadPart
    near: tuple[PlacedContrast, ...]
    places_slices: bool
    margin: int
    need: MemoryNeed

    def without_lesions(self) -> _Layout:
        """The same without small lesions that are put into the scans."""
        near = tuple(replace(contrast, lesions=None) for contrast in self.near)
        return replace(self, near=near, need=replace(self.need, puts_lesions=False))


def _laid_out(
    contrasts: Sequence[GivenContrast], settings: ModelSettings, grid: Grid | None
) -> _Layout:
    placed, lattice = _placed(contrasts, settings, grid)
    places_slices = settings.slice_motion or any(
        scan.slices is not None for contrast in placed for scan in contrast.scans
    )
    part = _part(placed, lattice, settings, moved=places_slices)
    near = part.around(placed)
    prepared = prepare(near, interleaved=settings.interleave_correction)
    scans = [scan for contrast in prepared for scan in contrast.observations]
    margin = _margin(part.grid, scans, places_slices)
    need = MemoryNeed(
        padded(part.grid, margin),
        len(prepared),
        scans,
        settings.uncertainty is not None,
        _thin_voxels(prepared, settings, part.grid),
        any(contrast.lesions for contrast in placed),
    )
    return _Layout(placed, part, near, places_slices, margin, need)


def _part(
    contrasts: Sequence[PlacedContrast], lattice: Grid, settings: ModelSettings, *, moved: bool
) -> HeadPart:
    """The part of a grid to solve.

    Slices are judged and placed by all that they show, and denoised images are as the scans are
    everywhere.
    """
    if settings.robust or moved or settings.method == "denoise":
        return HeadPart.whole(lattice)
    return head_part(contrasts, lattice)


def _known(values: Sequence[Any] | None, count: int) -> Sequence[Any]:
    """Values of ``count`` contrasts or scans; None for each if there are none."""
    return [None] * count if values is None else values


def _given_scans(
    modality: Modality, scans: Sequence[ScanLike], *known: Sequence[Any] | None
) -> tuple[GivenScan, ...]:
    """Scans of one contrast, with all that is known of each, in the order of `GivenScan`."""
    columns = [_known(values, len(scans)) for values in known]
    given = []
    for scan, *cells in zip(scans, *columns, strict=True):
        volume = as_volume(scan)
        acquisition = acquisition_of(scan, volume, modality)
        given.append(replace(GivenScan(volume, *cells), acquisition=acquisition))
    return tuple(given)


def _placed(
    contrasts: Sequence[GivenContrast], settings: ModelSettings, grid: Grid | None
) -> tuple[tuple[PlacedContrast, ...], Grid]:
    """The contrasts with noise, poses and profiles of their scans, and the grid of the images."""
    poses = _poses(contrasts, settings)
    if grid is None:
        boxes = [scan.volume.grid.moved(pose) for scan, pose in poses.items()]
        grid = individual_space(boxes, settings.voxel_size)
    placed = []
    for contrast in contrasts:
        scans = []
        for scan in contrast.scans:
            pose, noise = poses[scan], noise_of_scan(scan.volume, contrast.modality)
            if contrast.modality == "CT" and settings.method == "super-resolution":
                scan, noise = _with_fitting_voxels(scan, noise, float(min(grid.voxel_size)))
            profile = scan.profile or _profile(scan, grid, settings)
            slices = _plan(scan, profile, contrast.modality, settings)
            scans.append(PlacedScan(scan.volume, noise, profile, pose, slices))
        placed.append(
            PlacedContrast(
                tuple(scans),
                contrast.modality,
                contrast.weight,
                contrast.detail,
                contrast.lesions,
                contrast.measured,
            )
        )
    return tuple(placed), grid


def _with_fitting_voxels(
    scan: GivenScan, noise: NoiseEstimate, voxel_size: float
) -> tuple[GivenScan, NoiseEstimate]:
    """A scan with voxels that are not much smaller than the wanted ones within slices."""
    averaged = averaged_within_slices(scan.volume, voxel_size)
    if averaged is scan.volume:
        return scan, noise
    together = voxels_together(scan.volume, voxel_size)
    return replace(scan, volume=averaged), noise_of_averages(noise, together)


def _poses(contrasts: Sequence[GivenContrast], settings: ModelSettings) -> dict[GivenScan, Affine]:
    """The pose of each scan: as given, or from the alignment to the first scan."""
    scans = [scan for contrast in contrasts for scan in contrast.scans]
    given = {scan: scan.pose for scan in scans if scan.pose is not None}
    if not given:
        named = [
            c if contrast.modality == "MR" else None
            for c, contrast in enumerate(contrasts)
            for _ in contrast.scans
        ]
        volumes = [scan.volume for scan in scans]
        poses = starting_poses(volumes, settings, contrasts=named)
        return {scan: poses[n].matrix for n, scan in enumerate(scans)}
    if len(given) < len(scans):
        raise ValueError("either every scan has a pose or none")
    return given


def _profile(scan: GivenScan, grid: Grid, settings: ModelSettings) -> SliceProfile:
    if settings.method == "denoise":
        return _POINTS
    if scan.acquisition is None:
        return profile_for_voxels(scan.volume.grid, grid.voxel_size)
    return profile_for_voxels(
        scan.volume.grid,
        grid.voxel_size,
        gap=scan.acquisition.gap,
        axis=scan.acquisition.slice_axis,
        through_plane=scan.acquisition.through_plane,
    )


def _plan(
    scan: GivenScan, profile: SliceProfile, modality: Modality, settings: ModelSettings
) -> SlicePlan:
    """The order or motion of the slices of a scan; None if they did not move."""
    if scan.slices != "usual":
        return scan.slices
    return usual_plan(profile, scan.volume.grid, modality) if settings.slice_motion else None


def _verdicts(contrasts: Sequence[GivenContrast]) -> Verdicts | None:
    """Verdicts on all slices from an earlier fit; None if that of any scan is lacking."""
    verdicts = []
    for contrast in contrasts:
        of_scans = [scan.verdict for scan in contrast.scans if scan.verdict is not None]
        if len(of_scans) < len(contrast.scans):
            return None
        verdicts.append(tuple(of_scans))
    return tuple(verdicts)


def _with_room(plan: FitPlan, device: torch.device) -> Reconstruction:
    """Reconstruct on a device, or on the CPU if a GPU runs out of memory."""
    try:
        return plan.run(device)
    except torch.OutOfMemoryError:
        if device.type == "cpu":
            raise
        logger.warning("%s ran out of memory; the CPU takes over", device)
    # Outside the handler: its traceback would keep the tensors on the GPU alive.
    return plan.run(torch.device("cpu"))


def _margin(grid: Grid, scans: Sequence[Observation], places_slices: bool) -> int:
    """Voxels to add around the grid so that all slices lie inside, also slices that moved."""
    margin = footprint_margin(grid, scans)
    if places_slices:
        margin += math.ceil(LARGEST_MOTION_MM / float(min(grid.voxel_size)))
    return margin


def _thin_voxels(contrasts: Sequence[PreparedContrast], settings: ModelSettings, grid: Grid) -> int:
    """Number of voxels of the detail that is to be learned."""
    finest = float(min(grid.voxel_size))
    return sum(
        thin_voxel_count(contrast.observations[0], finest)
        for contrast in contrasts
        if detail_is_learned(settings) and len(contrast.scans) == 1
    )
