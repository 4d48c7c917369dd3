"""What lies within thick slices, as the detail in their planes suggests.

A head looks much the same across the slices of a scan as along them. The planes of a scan,
averaged along one of their axes as its slices are along theirs, show what thick slices make of
detail that is known; a small network learns from them how to find that detail again, and how
far off it is when it does (Jog, Carass & Prince 2016, "Self super-resolution for magnetic
resonance images"; Zhao et al. 2021, "SMORE: a self-supervised anti-aliasing and
super-resolution algorithm for MRI using deep learning"). It learns from one scan alone, anew for
every scan, and nothing from anybody else. What it then says of planes through the slices in
several directions is averaged.

Where another contrast was scanned with its own planes across the slices, it shows what lies within
them, in other shades. Along the planes' own axes it does so, too, beside the truth: so the network
learns in passing what the one contrast says of the other in this very head.

To the fit the outcome is one more scan of the contrast, with thin slices, believed as far as the
network was right where the truth was known. What was measured has the last word.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...space.affines import slice_spacing
from ...space.grid import Grid
from ..intensity.scan_state import ScanState
from ..scanner.coverage import crop_empty_border
from ..scanner.observation import Observation
from ..scanner.profile import SliceProfile
from ..scanner.resampling import resample_scan
from .network import Pairs, PlaneNetwork, train
from .parameters import Effort, LearningParameters
from .planes import SlicePlanes, slice_planes, voxel_division
from .term import DetailStatement, LearnedDetail
from .thin_slices import ThinSlices

logger = logging.getLogger("bids_unires")

DEFAULTS = LearningParameters()

_FEWEST_PAIRS = 5_000
_FEWEST_SLICES = 3
# Pairs from one slice overlap and are much alike: to tell how far off a network is, slices are kept
# from it as a whole.
_KEPT_EVERY = 8
# Share of its precision that counts where another contrast shows edges within the slices to the
# prior but not to the network.
TRUST_IF_RESOLVED = 0.03
# Of a share of the head that no other contrast shows, less is not worth learning for.
_MOST_UNSEEN = 0.01
# Of a thin voxel, at least this share has to have been measured by whatever shows it.
_MEASURED = 0.99
_SEED = 2016
_POINTS = SliceProfile("point", "point")


def learn_details(
    scans: Sequence[ScanState],
    everything: Sequence[ScanState],
    voxel_size: float,
    device: torch.device,
    parameters: LearningParameters = DEFAULTS,
) -> list[LearnedDetail | None]:
    """`learn_detail` of each of some scans.

    Parameters
    ----------
    scans
        Whose slices are looked into.
    everything
        All scans of the head, these among them. Those of other contrasts may guide.
    voxel_size
        Of the wanted images in mm.
    device
        Where to learn.
    parameters
        Of learning.

    Notes
    -----
    On the CPU one thread learns from each scan: the matrices are too small to be shared,
    and the outcome does not depend on how many threads there are. Where planes alone tell,
    all of them help to look with what was learned. A GPU learns from one scan after the other.
    """

    def learn(scan: ScanState) -> LearnedDetail | None:
        others = [other for other in everything if other.observation is not scan.observation]
        eyes = helpers if on_cpu else None
        detail = learn_detail(scan, voxel_size, others, device, eyes, parameters)
        return None if detail is None else replace(detail, scan=_without_air(detail.scan))

    threads, on_cpu = torch.get_num_threads(), device.type == "cpu"
    try:
        with (
            _single_threads(threads if on_cpu else 1) as learners,
            _single_threads(threads) as helpers,
        ):
            return list(learners.map(learn, scans))
    finally:
        # What a thread sets, threads that begin later inherit.
        torch.set_num_threads(threads)


def _single_threads(count: int) -> ThreadPoolExecutor:
    """Threads that leave no work of theirs to others."""
    return ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))


def learn_detail(
    state: ScanState,
    voxel_size: float,
    others: Sequence[ScanState] = (),
    device: torch.device | None = None,
    helpers: Executor | None = None,
    parameters: LearningParameters = DEFAULTS,
) -> LearnedDetail | None:
    """A scan with its slices divided into thin ones, as its own planes suggest.

    Parameters
    ----------
    state
        A scan of thick slices; its profile says how thick, and with what gap.
    voxel_size
        Of the wanted images in mm. Smaller voxels in the plane are averaged first.
    others
        Scans of other contrasts.
    device
        Where to learn; None for the CPU.
    helpers
        Threads to look at patches with; None to look alone.
    parameters
        Of learning.

    Returns
    -------
    LearnedDetail or None
        None where there is nothing to learn: slices less than about twice as thick as their
        voxels are wide, or too little head.
    """
    scan = state.observation
    planes = slice_planes(scan, state.noise, voxel_size, device or torch.device("cpu"))
    if planes is None or len(planes.data) < _FEWEST_SLICES:
        return None
    guides = _guides(scan, others)
    seen = any(resolves_slices_of(other.observation, scan) for other in others)
    trust = TRUST_IF_RESOLVED if seen and not guides else 1.0
    chance = torch.Generator().manual_seed(_SEED)
    finding = ThinSlices(planes, helpers, parameters)
    networks = []
    for guide, axes in guides.items():
        shown = _shown(guide, scan, planes)
        network = _network(planes, axes, shown, parameters.beside, chance)
        if network is not None:
            networks.append(network)
            finding.look_beside(network, axes, shown, finding.head)
    is_shown = bool(networks)
    is_clear = bool(networks) and min(network.explained for network in networks) > parameters.clear
    unsure = finding.unseen() if is_clear else finding.head
    if float(unsure.sum()) > _MOST_UNSEEN * float(finding.head.sum()):
        effort = parameters.if_seen if seen and not guides else parameters.alone
        network = _network(planes, (1, 2), None, effort, chance)
        if network is not None:
            joins = _is_as_good(network, networks, parameters.as_good)
            where = unsure if joins else finding.unseen()
            finding.look_around(network, where)
            networks += [network] if where.any() else []
    if not networks:
        return None
    statement = _statement(networks, planes.unit, is_shown)
    return LearnedDetail(finding.scan(scan, trust), statement)


def resolves_slices_of(other: Observation, scan: Observation) -> bool:
    """Whether a scan's voxels are at most half as long across another's slices as those lie apart.

    Examples
    --------
    >>> data = np.ones((2, 2, 2), dtype=np.float32)
    >>> axial = Observation(data, np.diag([1.0, 1.0, 4.0, 1.0]))
    >>> coronal = Observation(data, np.diag([1.0, 4.0, 1.0, 1.0]))
    >>> resolves_slices_of(coronal, axial), sees_into(axial, axial)
    (True, False)
    """
    return _is_fine(other, scan, scan.slice_axis)


def can_guide(other: Observation, scan: Observation, axis: int) -> bool:
    """Whether one may learn along an in-plane axis of a scan what another shows of its slices.

    It has to show as much across the slices as along that axis of theirs.

    Examples
    --------
    >>> data = np.ones((2, 2, 2), dtype=np.float32)
    >>> axial = Observation(data, np.diag([1.0, 1.0, 4.0, 1.0]))
    >>> coronal = Observation(data, np.diag([1.0, 4.0, 1.0, 1.0]))
    >>> can_guide(coronal, axial, 0), shows_like(coronal, axial, 1)
    (True, False)
    """
    return resolves_slices_of(other, scan) and _is_fine(other, scan, axis)


def _is_fine(other: Observation, scan: Observation, axis: int) -> bool:
    """Whether voxels are at most half as long across an axis of a scan as its slices lie apart."""
    columns = (scan.world_pose @ scan.affine)[:3, :3]
    first, second = (columns[:, plane] for plane in range(3) if plane != axis)
    normal = np.cross(first, second)
    along = normal @ (other.world_pose @ other.affine)[:3, :3] / np.linalg.norm(normal)
    return float(np.linalg.norm(along)) <= slice_spacing(scan.affine, scan.slice_axis) / 2


def thin_voxel_count(scan: Observation, voxel_size: float) -> int:
    """How many voxels `learn_detail` of a scan would have."""
    divided = voxel_division(scan, voxel_size)
    if divided is None:
        return 0
    first, second, ratio = divided
    return math.prod(scan.data.shape) * ratio // (first * second)


def _guides(scan: Observation, others: Sequence[ScanState]) -> dict[ScanState, tuple[int, ...]]:
    """Who shows what lies within the slices, and along which axes of the planes that is learned.

    Of several the one with the shortest voxels. What slices show along one axis says
    what they would across, along the axis that remains in both.
    """
    in_plane = [axis for axis in range(3) if axis != scan.slice_axis]
    found: dict[ScanState, tuple[int, ...]] = {}
    for number, axis in enumerate(in_plane, start=1):
        usable = [other for other in others if can_guide(other.observation, scan, axis)]
        if usable:
            best = min(usable, key=lambda other: max(other.observation.grid.voxel_size))
            found[best] = (*found.get(best, ()), number)
    return found


def _shown(guide: ScanState, scan: Observation, planes: SlicePlanes) -> Tensor:
    """``(K * ratio, M, N)`` in units of its contrast, NaN where nothing was measured."""
    slices, *sides = planes.data.shape
    sides.insert(planes.slice_axis, slices * planes.ratio)
    thin = Grid((sides[0], sides[1], sides[2]), scan.world_pose @ planes.thin_affine)
    values, share = resample_scan(guide.observation, 0.0, thin, planes.data.device)
    values = values.div_(guide.noise.contrast).masked_fill_(share < _MEASURED, torch.nan)
    return values.movedim(planes.slice_axis, 0)


def _network(
    planes: SlicePlanes,
    axes: Sequence[int],
    shown: Tensor | None,
    effort: Effort,
    chance: torch.Generator,
) -> PlaneNetwork | None:
    """What planes averaged along these axes teach; None where that is too little."""
    as_slices = None if shown is None else planes.as_slices(shown)
    kept = _kept_slices(planes)

    def pairs(slices: Tensor, count: int) -> Pairs | None:
        parts = [
            part
            for axis in axes
            for part in planes.pairs(axis, as_slices, slices, count // len(axes), chance)
        ]
        return Pairs(*(torch.cat(part) for part in zip(*parts, strict=True))) if parts else None

    taught, held_out = pairs(~kept, effort.pairs), pairs(kept, effort.pairs // _KEPT_EVERY)
    if taught is None or held_out is None or len(taught.patches) < _FEWEST_PAIRS:
        return None
    if len(held_out.patches) < _FEWEST_PAIRS // _KEPT_EVERY:
        return None
    return train(taught, held_out, planes.noise_sd, effort, chance)


def _is_as_good(network: PlaneNetwork, others: Sequence[PlaneNetwork], margin: float) -> bool:
    """Whether a network explains about as much as others do, so that the mean of both is better."""
    usual = sum(other.explained for other in others) / max(len(others), 1)
    return network.explained > usual - margin


def _kept_slices(planes: SlicePlanes) -> Tensor:
    """Slices not to learn from, which tell how far off the network is, ``(K,)`` bool.

    Of those with some of the head the middle one is one.
    """
    with_head = planes.head.flatten(1).any(dim=1)
    place = with_head.cumsum(0) - 1
    return with_head & ((place - int(with_head.sum()) // 2) % _KEPT_EVERY == 0)


def _statement(networks: Sequence[PlaneNetwork], unit: float, shown: bool) -> DetailStatement:
    variance = float(np.mean([network.error_sd**2 for network in networks]))
    explained = float(np.mean([network.explained for network in networks]))
    return DetailStatement(math.sqrt(variance) * unit, explained, shown)


def _without_air(scan: Observation) -> Observation:
    """Only the box that something is known of."""
    data = np.where(np.asarray(scan.tau) > 0, scan.data, np.float32(np.nan))
    return crop_empty_border(replace(scan, data=data))
