"""Learned detail within thick slices.

A head looks much the same across the slices of a scan as along them. Averaged along one of their
axes, the planes of a scan show what thick slices make of known detail. A small network learns from
them to predict that detail, and how large its error is (Jog, Carass & Prince 2016, "Self
super-resolution for magnetic resonance images"; Zhao et al. 2021, "SMORE: a self-supervised
anti-aliasing and super-resolution algorithm for MRI using deep learning"). It is trained on this
one scan alone, anew for every scan. Its predictions from planes through the slices in several
directions are averaged.

Another contrast may resolve the slices, with its own planes across them; it shows the detail in
other intensities. Along the planes of the scan it does so, too, where the detail of the scan is
known. Such a contrast guides a network, which learns how the two contrasts relate in this head.

The fit uses the result, `LearnedDetail`, as one more scan of the contrast with thin slices. Its
precision follows from the error of the network where the truth is known. Measured intensities
outweigh it.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...space.affines import slice_spacing
from ...space.grid import Grid
from ..intensity.scan_state import ScanState
from ..scanner.coverage import crop_empty_border
from ..scanner.observation import Observation
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
# Every so many slices one is held out as a whole to estimate errors: pairs from one slice overlap.
_HELD_OUT_EVERY = 8
# Factor on the precision of detail where another contrast resolves the slices, so that it guides
# the prior, but cannot guide the network.
TRUST_IF_RESOLVED = 0.03
# An unguided network is trained only if at least this share of the head has no guided prediction.
_MOST_NOT_PREDICTED = 0.01
# Share of a thin voxel that a guide has to have measured.
_MEASURED = 0.99
_SEED = 2016
# Share of the time of learning that a network is trained.
_TRAINING = 0.4

ShareListener = Callable[[float], None]
"""Called with the share of some work that is done, from 0 to 1."""


def learn_details(
    scans: Sequence[ScanState],
    everything: Sequence[ScanState],
    voxel_size: float,
    device: torch.device,
    parameters: LearningParameters = DEFAULTS,
    on_progress: ShareListener | None = None,
) -> list[LearnedDetail | None]:
    """`learn_detail` of each of several scans.

    Parameters
    ----------
    scans
        The scans to learn detail of.
    everything
        All scans of the head, these included. Those of other contrasts may guide.
    voxel_size
        Voxel size of the wanted images in mm.
    device
        Device to learn on.
    parameters
        Parameters of learning.
    on_progress
        Called with the share of the work that is done, from 0 to 1, by the threads that learn.

    Notes
    -----
    On the CPU, one thread learns from each scan: the matrices are too small to be shared between
    threads, and the result does not depend on the number of threads. All threads help to predict
    without a guide. A GPU learns from one scan after the other.
    """

    def learn(number: int, scan: ScanState) -> LearnedDetail | None:
        began = time.perf_counter()
        others = [other for other in everything if other.observation is not scan.observation]
        steps = shares.of(number - 1)
        detail = learn_detail(scan, voxel_size, others, device, helpers, parameters, steps)
        steps(1.0)
        if detail is None:
            return None
        seconds = time.perf_counter() - began
        logger.info(
            "scan %d of %d: detail within its slices learned in %.0f s", number, len(scans), seconds
        )
        return replace(detail, scan=_without_air(detail.scan))

    thick = sum(thin_voxel_count(scan.observation, voxel_size) > 0 for scan in scans)
    if thick:
        logger.info(
            "learning detail within the slices of %d scan%s", thick, "s" if thick > 1 else ""
        )
    shares = _Shares(len(scans), on_progress if thick else None)
    with learning_threads(device) as (learners, helpers):
        return list(learners.map(learn, itertools.count(1), scans))


class _Shares:
    """Adds up what is done of several scans.

    Parameters
    ----------
    count
        Number of scans.
    on_progress
        Called with the mean share, at the beginning and whenever one of them grows.
    """

    def __init__(self, count: int, on_progress: ShareListener | None) -> None:
        self._shares = [0.0] * count
        self._on_progress = on_progress
        self._lock = threading.Lock()
        if on_progress is not None:
            on_progress(0.0)

    def of(self, number: int) -> ShareListener:
        """What to call with the share that is done of a scan."""

        def listen(share: float) -> None:
            if self._on_progress is None:
                return
            with self._lock:
                self._shares[number] = share
                self._on_progress(sum(self._shares) / len(self._shares))

        return listen


@contextmanager
def learning_threads(device: torch.device) -> Iterator[tuple[Executor, Executor | None]]:
    """Threads for several scans on a device, and threads that help all of them to predict.

    On the CPU there are as many of each as torch has, and each of them alone computes what it
    does: the matrices are too small to be shared. On a GPU one scan follows the other, without
    helpers.
    """
    count, on_cpu = torch.get_num_threads(), device.type == "cpu"
    try:
        with (
            _single_threads(count if on_cpu else 1) as for_scans,
            _single_threads(count) as helpers,
        ):
            yield for_scans, helpers if on_cpu else None
    finally:
        # Threads that start later inherit the number that another thread has set.
        torch.set_num_threads(count)


def _single_threads(count: int) -> ThreadPoolExecutor:
    """So many threads, in each of which torch uses no others."""
    return ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))


def learn_detail(
    state: ScanState,
    voxel_size: float,
    others: Sequence[ScanState] = (),
    device: torch.device | None = None,
    helpers: Executor | None = None,
    parameters: LearningParameters = DEFAULTS,
    on_progress: ShareListener | None = None,
) -> LearnedDetail | None:
    """Divide the slices of a scan into thin ones, with detail learned from its own planes.

    Parameters
    ----------
    state
        A scan of thick slices; its profile holds their thickness and gap.
    voxel_size
        Voxel size of the wanted images in mm. Smaller in-plane voxels are averaged first.
    others
        Scans of other contrasts.
    device
        Device to learn on; None for the CPU.
    helpers
        Threads to predict with; None for the calling thread alone.
    parameters
        Parameters of learning.
    on_progress
        Called with the share of the work that is done.

    Returns
    -------
    LearnedDetail or None
        None if there is nothing to learn: slices less than about twice as thick as their voxels
        are wide, or too little head.
    """
    scan = state.observation
    planes = slice_planes(scan, state.noise, voxel_size, device or torch.device("cpu"))
    if planes is None or len(planes.data) < _FEWEST_SLICES:
        return None
    guides = _guides(scan, others)
    resolved = any(resolves_slices_of(other.observation, scan) for other in others)
    without_guide = resolved and not guides
    random = torch.Generator().manual_seed(_SEED)
    thin = ThinSlices(planes, parameters)
    networks = []
    for guide, axes in guides.items():
        view = _guide_on_thin_voxels(guide, scan, planes)
        network = _network(planes, axes, view, parameters.guided, random)
        if network is not None:
            networks.append(network)
            thin.add_guided(network, axes, view, thin.head)
    guided = tuple(networks)
    suffices = bool(guided) and (
        min(network.explained for network in guided) > parameters.guide_suffices
    )
    left = thin.not_predicted() if suffices else thin.head
    if float(left.sum()) > _MOST_NOT_PREDICTED * float(thin.head.sum()):
        effort = parameters.if_resolved if without_guide else parameters.unguided
        training, predicting = _in_turn(on_progress)
        network = _network(planes, (1, 2), None, effort, random, training)
        if network is not None:
            contributes = _is_as_good(network, guided, parameters.unguided_margin)
            where = left if contributes else thin.not_predicted()
            thin.add_unguided(network, where, helpers, predicting)
            networks += [network] if where.any() else []
    if not networks:
        return None
    learned = _Learned(state, voxel_size, thin, TRUST_IF_RESOLVED if without_guide else 1.0)
    statement = _statement(networks, planes.unit, bool(guided))
    return LearnedDetail(thin.scan(scan, learned.trust), statement, learned.of_changed)


@dataclass(frozen=True, eq=False)
class _Learned:
    """What was learned from a scan, to divide the slices of the same scan after a change."""

    state: ScanState
    voxel_size: float
    thin: ThinSlices
    trust: float

    def of_changed(self, change: NDArray[np.float32], helpers: Executor | None) -> Observation:
        """Thin slices of the scan with ``change`` ``(X, Y, Z)`` added to its intensities."""
        scan = self.state.observation
        device = self.thin.planes.data.device
        changed = replace(scan, data=scan.data + change)
        planes = slice_planes(changed, self.state.noise, self.voxel_size, device)
        # Whether there are planes depends on the sizes of voxels alone.
        assert planes is not None
        return self.thin.of_changed(planes, helpers).scan(scan, self.trust)


def _in_turn(
    on_progress: ShareListener | None,
) -> tuple[ShareListener | None, ShareListener | None]:
    """What takes the share of training that is done, and then that of predicting."""
    if on_progress is None:
        return None, None
    return (
        lambda share: on_progress(_TRAINING * share),
        lambda share: on_progress(_TRAINING + (1 - _TRAINING) * share),
    )


def resolves_slices_of(other: Observation, scan: Observation) -> bool:
    """Whether a scan resolves the slices of another.

    Across these slices, its voxels are at most half as long as the slice spacing.

    Parameters
    ----------
    other
        The scan that may resolve the slices, at its pose.
    scan
        The scan of thick slices, at its pose.

    Examples
    --------
    >>> data = np.ones((2, 2, 2), dtype=np.float32)
    >>> axial = Observation(data, np.diag([1.0, 1.0, 4.0, 1.0]))
    >>> coronal = Observation(data, np.diag([1.0, 4.0, 1.0, 1.0]))
    >>> resolves_slices_of(coronal, axial), resolves_slices_of(axial, axial)
    (True, False)
    """
    return _is_fine(other, scan, scan.slice_axis)


def can_guide(other: Observation, scan: Observation, axis: int) -> bool:
    """Whether a scan can guide a network that learns along an in-plane axis of another.

    It has to resolve the slices, and detail of the same size along that axis.

    Parameters
    ----------
    other, scan
        As for `resolves_slices_of`.
    axis
        In-plane axis (0, 1 or 2) of ``scan``.

    Examples
    --------
    >>> data = np.ones((2, 2, 2), dtype=np.float32)
    >>> axial = Observation(data, np.diag([1.0, 1.0, 4.0, 1.0]))
    >>> coronal = Observation(data, np.diag([1.0, 4.0, 1.0, 1.0]))
    >>> can_guide(coronal, axial, 0), can_guide(coronal, axial, 1)
    (True, False)
    """
    return resolves_slices_of(other, scan) and _is_fine(other, scan, axis)


def _is_fine(other: Observation, scan: Observation, axis: int) -> bool:
    """Whether voxels along an axis of a scan are at most half as long as its slice spacing."""
    columns = (scan.world_pose @ scan.affine)[:3, :3]
    first, second = (columns[:, plane] for plane in range(3) if plane != axis)
    normal = np.cross(first, second)
    along = normal @ (other.world_pose @ other.affine)[:3, :3] / np.linalg.norm(normal)
    return float(np.linalg.norm(along)) <= slice_spacing(scan.affine, scan.slice_axis) / 2


def thin_voxel_count(scan: Observation, voxel_size: float) -> int:
    """Number of voxels that the detail of a scan would have (`learn_detail`)."""
    divided = voxel_division(scan, voxel_size)
    if divided is None:
        return 0
    first, second, ratio = divided
    return math.prod(scan.data.shape) * ratio // (first * second)


def _guides(scan: Observation, others: Sequence[ScanState]) -> dict[ScanState, tuple[int, ...]]:
    """Scans that can guide, and the axes of the planes (1 or 2) that a network learns along.

    If several can, the one with the smallest voxels does.
    """
    in_plane = [axis for axis in range(3) if axis != scan.slice_axis]
    guides: dict[ScanState, tuple[int, ...]] = {}
    for number, axis in enumerate(in_plane, start=1):
        usable = [other for other in others if can_guide(other.observation, scan, axis)]
        if usable:
            best = min(usable, key=lambda other: max(other.observation.grid.voxel_size))
            guides[best] = (*guides.get(best, ()), number)
    return guides


def _guide_on_thin_voxels(guide: ScanState, scan: Observation, planes: SlicePlanes) -> Tensor:
    """A guide in units of its contrast, ``(K * ratio, M, N)``; NaN where nothing was measured."""
    slices, *sides = planes.data.shape
    sides.insert(planes.slice_axis, slices * planes.ratio)
    thin = Grid((sides[0], sides[1], sides[2]), scan.world_pose @ planes.thin_affine)
    values, share = resample_scan(guide.observation, 0.0, thin, planes.data.device)
    values = values.div_(guide.noise.contrast).masked_fill_(share < _MEASURED, torch.nan)
    return values.movedim(planes.slice_axis, 0)


def _network(
    planes: SlicePlanes,
    axes: Sequence[int],
    guide: Tensor | None,
    effort: Effort,
    random: torch.Generator,
    on_progress: ShareListener | None = None,
) -> PlaneNetwork | None:
    """A network trained on planes averaged along these axes; None if there are too few pairs."""
    thick_guide = None if guide is None else planes.as_slices(guide)
    held_out_slices = _held_out_slices(planes)

    def pairs(slices: Tensor, count: int) -> Pairs | None:
        parts = [
            part
            for axis in axes
            for part in planes.pairs(axis, thick_guide, slices, count // len(axes), random)
        ]
        return Pairs.joined(parts) if parts else None

    training = pairs(~held_out_slices, effort.pairs)
    held_out = pairs(held_out_slices, effort.pairs // _HELD_OUT_EVERY)
    if training is None or held_out is None or len(training.patches) < _FEWEST_PAIRS:
        return None
    if len(held_out.patches) < _FEWEST_PAIRS // _HELD_OUT_EVERY:
        return None
    return train(training, held_out, planes.noise_sd, effort, random, on_progress)


def _is_as_good(network: PlaneNetwork, others: Sequence[PlaneNetwork], margin: float) -> bool:
    """Whether a network explains as much as others do on average, within a margin."""
    mean = sum(other.explained for other in others) / max(len(others), 1)
    return network.explained > mean - margin


def _held_out_slices(planes: SlicePlanes) -> Tensor:
    """Slices to estimate errors from, ``(K,)`` bool; the middle one of the head is one of them."""
    with_head = planes.head.flatten(1).any(dim=1)
    place = with_head.cumsum(0) - 1
    return with_head & ((place - int(with_head.sum()) // 2) % _HELD_OUT_EVERY == 0)


def _statement(networks: Sequence[PlaneNetwork], unit: float, shown: bool) -> DetailStatement:
    variance = float(np.mean([network.error_sd**2 for network in networks]))
    explained = float(np.mean([network.explained for network in networks]))
    return DetailStatement(math.sqrt(variance) * unit, explained, shown)


def _without_air(scan: Observation) -> Observation:
    """The scan cropped to the box outside which its precision is 0."""
    data = np.where(np.asarray(scan.tau) > 0, scan.data, np.float32(np.nan))
    return crop_empty_border(replace(scan, data=data))
