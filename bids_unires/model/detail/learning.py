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
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...space.affines import slice_spacing
from ...space.grid import Grid
from ..intensity.noise import NoiseEstimate
from ..scanner.coverage import without_empty_border
from ..scanner.observation import Observation
from ..scanner.profile import SliceProfile
from ..scanner.resampling import resampled
from .network import Effort, Pairs, PlaneNetwork, train
from .planes import SlicePlanes, divided_by, oblique_patches, patches_at, slice_planes
from .term import Details, DetailStatement, LearnedDetail

logger = logging.getLogger("bids_unires")

_FEWEST_PAIRS = 5_000
_FEWEST_SLICES = 3
# Pairs from one slice overlap and are much alike: to tell how far off a network is, slices are kept
# from it as a whole.
_KEPT_EVERY = 8
# Share of its precision that counts where another contrast shows edges within the slices to the
# prior but not to the network.
TRUST_IF_SEEN = 0.03
# Where planes alone tell, three times the steps gain 0.2 to 0.4 dB on real heads, and half as wide
# again with a third more steps another 0.06 dB. With 300 in place of 1000, a
# fifth more of the errors stay, which is of no consequence to what counts little.
_EFFORT_ALONE = Effort(pairs=400_000, hidden=192, layers=3, steps=4000)
_EFFORT_BESIDE = Effort(pairs=250_000, hidden=96, layers=2, steps=1500)
_EFFORT_IF_SEEN = Effort(pairs=250_000, hidden=96, layers=2, steps=300)
# Of the detail, if other contrasts explain less, planes alone are asked, too.
_CLEAR = 0.8
# Beside a real PDw they explain 0.01 less of a real T1w to 0.01 more than with it, and the mean of
# both gains 0.2 dB. In simulated heads of 3 to 5 % noise they explain 0.02 to 0.06 less, and it
# loses as much.
_AS_GOOD = 0.015
# Of a share of the head that no other contrast shows, less is not worth learning for.
_MOST_UNSEEN = 0.01
# Of a thin voxel, at least this share has to have been measured by whatever shows it.
_MEASURED = 0.99
# Of planes through the slices, in degrees from the first of their axes to the second, in voxels.
# Eight, every other one with its patches turned round, gain 0.06 to 0.15 dB of real heads over two
# with patches both ways; four gain half of that.
_DIRECTIONS = tuple(180 / 8 * number for number in range(8))
_PATCHES_AT_ONCE = 4096
_SEED = 2016
_POINTS = SliceProfile("point", "point")


@dataclass(frozen=True, eq=False)
class Witness:
    """A scan of another contrast, which may show what lies within slices.

    Attributes
    ----------
    scan
        At its place beside the slices.
    noise
        Of that scan.
    """

    scan: Observation
    noise: NoiseEstimate


def learned_details(
    contrasts: Sequence[Sequence[Observation]],
    noise: Sequence[Sequence[NoiseEstimate]],
    voxel_size: float,
    wanted: Sequence[bool],
    device: torch.device,
) -> tuple[LearnedDetail | None, ...]:
    """`learned_detail` of each wanted contrast that has a single scan.

    Repeats are left as they are: they show each other what lies within their slices.

    Notes
    -----
    On the CPU one thread learns from each contrast: the matrices are too small to be shared,
    and the outcome does not depend on how many threads there are. Where planes alone tell,
    all of them help to look with what was learned. A GPU learns from one contrast after the other.
    """
    everything = [
        Witness(scan, estimate)
        for scans, estimates in zip(contrasts, noise, strict=True)
        for scan, estimate in zip(scans, estimates, strict=True)
    ]

    def learn(
        scans: Sequence[Observation], estimates: Sequence[NoiseEstimate], is_wanted: bool
    ) -> LearnedDetail | None:
        if not is_wanted or len(scans) > 1:
            return None
        others = [other for other in everything if other.scan is not scans[0]]
        detail = learned_detail(
            scans[0], estimates[0], voxel_size, others, device, helpers if on_cpu else None
        )
        return None if detail is None else replace(detail, scan=_without_air(detail.scan))

    threads, on_cpu = torch.get_num_threads(), device.type == "cpu"
    try:
        with (
            _single_threads(threads if on_cpu else 1) as learners,
            _single_threads(threads) as helpers,
        ):
            found = tuple(learners.map(learn, contrasts, noise, wanted))
    finally:
        # What a thread sets, threads that begin later inherit.
        torch.set_num_threads(threads)
    for number, detail in enumerate(found, start=1):
        if detail is not None and detail.statement is not None:
            share = 100 * detail.statement.explained
            logger.info(
                "contrast %d: within its planes%s, %.0f %% of the detail that slices as thick as "
                "its own take away could be found again",
                number,
                " and with another contrast" if detail.statement.shown else "",
                share,
            )
    return found


def _single_threads(count: int) -> ThreadPoolExecutor:
    """Threads that leave no work of theirs to others."""
    return ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))


def learned_detail(
    scan: Observation,
    noise: NoiseEstimate,
    voxel_size: float,
    others: Sequence[Witness] = (),
    device: torch.device | None = None,
    helpers: Executor | None = None,
) -> LearnedDetail | None:
    """A scan with its slices divided into thin ones, as its own planes suggest.

    Parameters
    ----------
    scan
        A scan of thick slices; its profile says how thick, and with what gap.
    noise
        Of that scan.
    voxel_size
        Of the wanted images in mm. Smaller voxels in the plane are averaged first.
    others
        Scans of other contrasts.
    device
        Where to learn; None for the CPU.
    helpers
        Threads to look at patches with; None to look alone.

    Returns
    -------
    LearnedDetail or None
        None where there is nothing to learn: slices less than about twice as thick as their
        voxels are wide, or too little head.
    """
    planes = slice_planes(scan, noise, voxel_size, device or torch.device("cpu"))
    if planes is None or len(planes.data) < _FEWEST_SLICES:
        return None
    witnesses = _witnesses(scan, others)
    seen = any(sees_into(other.scan, scan) for other in others)
    trust = TRUST_IF_SEEN if seen and not witnesses else 1.0
    chance = torch.Generator().manual_seed(_SEED)
    finding = _Finding(planes, helpers)
    networks = []
    for witness, axes in witnesses.items():
        shown = _shown(witness, scan, planes)
        network = _network(planes, axes, shown, _EFFORT_BESIDE, chance)
        if network is not None:
            networks.append(network)
            finding.look_beside(network, axes, shown, finding.head)
    is_shown = bool(networks)
    is_clear = bool(networks) and min(network.explained for network in networks) > _CLEAR
    unsure = finding.unseen() if is_clear else finding.head
    if float(unsure.sum()) > _MOST_UNSEEN * float(finding.head.sum()):
        effort = _EFFORT_IF_SEEN if seen and not witnesses else _EFFORT_ALONE
        network = _network(planes, (1, 2), None, effort, chance)
        if network is not None:
            where = unsure if _is_as_good(network, networks) else finding.unseen()
            finding.look_around(network, where)
            networks += [network] if where.any() else []
    if not networks:
        return None
    statement = _statement(networks, planes.unit, is_shown)
    return LearnedDetail(finding.scan(scan, trust), statement)


def placed_beside(
    details: Details,
    before: Sequence[Sequence[Observation]],
    after: Sequence[Sequence[Observation]],
) -> Details:
    """Details that have moved as the only scan of their contrast has."""
    if not details:
        return ()
    found: list[LearnedDetail | None] = []
    for detail, (first, *repeats), (now, *_) in zip(details, before, after, strict=True):
        if detail is None or repeats:
            found.append(detail)
            continue
        moved = now.world_pose @ np.linalg.inv(first.world_pose) @ detail.scan.world_pose
        found.append(replace(detail, scan=replace(detail.scan, pose=moved)))
    return tuple(found)


def sees_into(other: Observation, scan: Observation) -> bool:
    """Whether a scan's voxels are at most half as long across another's slices as those lie apart.

    Examples
    --------
    >>> data = np.ones((2, 2, 2), dtype=np.float32)
    >>> axial = Observation(data, np.diag([1.0, 1.0, 4.0, 1.0]))
    >>> coronal = Observation(data, np.diag([1.0, 4.0, 1.0, 1.0]))
    >>> sees_into(coronal, axial), sees_into(axial, axial)
    (True, False)
    """
    return _is_fine(other, scan, scan.slice_axis)


def shows_like(other: Observation, scan: Observation, axis: int) -> bool:
    """Whether one may learn along an in-plane axis of a scan what another shows of its slices.

    It has to show as much across the slices as along that axis of theirs.

    Examples
    --------
    >>> data = np.ones((2, 2, 2), dtype=np.float32)
    >>> axial = Observation(data, np.diag([1.0, 1.0, 4.0, 1.0]))
    >>> coronal = Observation(data, np.diag([1.0, 4.0, 1.0, 1.0]))
    >>> shows_like(coronal, axial, 0), shows_like(coronal, axial, 1)
    (True, False)
    """
    return sees_into(other, scan) and _is_fine(other, scan, axis)


def _is_fine(other: Observation, scan: Observation, axis: int) -> bool:
    """Whether voxels are at most half as long across an axis of a scan as its slices lie apart."""
    columns = (scan.world_pose @ scan.affine)[:3, :3]
    first, second = (columns[:, plane] for plane in range(3) if plane != axis)
    normal = np.cross(first, second)
    along = normal @ (other.world_pose @ other.affine)[:3, :3] / np.linalg.norm(normal)
    return float(np.linalg.norm(along)) <= slice_spacing(scan.affine, scan.slice_axis) / 2


def thin_voxel_count(scan: Observation, voxel_size: float) -> int:
    """How many voxels `learned_detail` of a scan would have."""
    divided = divided_by(scan, voxel_size)
    if divided is None:
        return 0
    first, second, ratio = divided
    return math.prod(scan.data.shape) * ratio // (first * second)


def _witnesses(scan: Observation, others: Sequence[Witness]) -> dict[Witness, tuple[int, ...]]:
    """Who shows what lies within the slices, and along which axes of the planes that is learned.

    Of several the one with the shortest voxels. What slices show along one axis says
    what they would across, along the axis that remains in both.
    """
    in_plane = [axis for axis in range(3) if axis != scan.slice_axis]
    found: dict[Witness, tuple[int, ...]] = {}
    for number, axis in enumerate(in_plane, start=1):
        usable = [other for other in others if shows_like(other.scan, scan, axis)]
        if usable:
            best = min(usable, key=lambda other: max(other.scan.grid.voxel_size))
            found[best] = (*found.get(best, ()), number)
    return found


def _shown(witness: Witness, scan: Observation, planes: SlicePlanes) -> Tensor:
    """``(K * ratio, M, N)`` in units of its contrast, NaN where nothing was measured."""
    slices, *sides = planes.data.shape
    sides.insert(planes.slice_axis, slices * planes.ratio)
    thin = Grid((sides[0], sides[1], sides[2]), scan.world_pose @ planes.thin_affine)
    values, share = resampled(witness.scan, 0.0, thin, planes.data.device)
    values = values.div_(witness.noise.contrast).masked_fill_(share < _MEASURED, torch.nan)
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


def _is_as_good(network: PlaneNetwork, others: Sequence[PlaneNetwork]) -> bool:
    """Whether a network explains about as much as others do, so that the mean of both is better."""
    usual = sum(other.explained for other in others) / max(len(others), 1)
    return network.explained > usual - _AS_GOOD


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
    return without_empty_border(replace(scan, data=data))


def _share() -> float:
    """For how much one direction counts; however many there are, they count as two planes."""
    return 2 / len(_DIRECTIONS)


class _Finding:
    """Thin voxels as they are found: sums of what each plane through them says.

    Parameters
    ----------
    planes
        Whose slices are divided.
    helpers
        Threads to look with; None to look alone.
    """

    def __init__(self, planes: SlicePlanes, helpers: Executor | None) -> None:
        self._helpers = helpers
        slices, rows, columns = planes.data.shape
        self._planes = planes
        self._values = planes.data.new_zeros((slices, planes.ratio, rows, columns))
        self._precision = torch.zeros_like(self._values)
        self._planes_through = planes.data.new_zeros((slices, rows, columns))
        self.head = planes.head.clone()
        # What the outermost slices hold depends on what lies beyond them, which was not seen.
        self.head[[0, -1]] = False

    def unseen(self) -> Tensor:
        """Voxels of the head of which nothing was found yet, ``(K, M, N)`` bool."""
        return self.head & (self._planes_through == 0)

    def look_beside(
        self, network: PlaneNetwork, axes: Sequence[int], shown: Tensor, where: Tensor
    ) -> None:
        """What a network says of the voxels in ``where`` ``(K, M, N)`` beside another contrast.

        It has learned along ``axes``, and looks along the axis that remains beside each.
        """
        planes = self._planes
        for axis in axes:
            along = 3 - axis
            thick, views = planes.data.movedim(along, 1), shown.movedim(along, 1)
            for k, voxels in enumerate(where):
                places = voxels.nonzero().T
                first, second = places if along == 1 else places.flip(0)
                here = torch.full_like(first, k)
                patches = patches_at(thick, here, first, second, beside=True)
                seen = planes.views_at(views, here * planes.ratio, first, second)
                self._add(k, places, network.predict(patches, seen), 1.0)

    def look_around(self, network: PlaneNetwork, where: Tensor) -> None:
        """What a network says of the voxels in ``where`` ``(K, M, N)`` from planes alone."""
        for number, degrees in enumerate(_DIRECTIONS):
            way = number % len(network.ways)
            for k, first, second, patches in oblique_patches(self._planes.data, degrees, where):
                found = self._predicted(network, patches, way)
                self._add(k, torch.stack([first, second]), found, _share())

    def _predicted(self, network: PlaneNetwork, patches: Tensor, way: int) -> tuple[Tensor, Tensor]:
        def predict(some: Tensor) -> tuple[Tensor, Tensor]:
            return network.predict(some, some.new_empty((len(some), 0, 0)), way)

        if self._helpers is None:
            return predict(patches)
        # Not in as many parts as there are threads: what comes out must not depend on these.
        parts = self._helpers.map(predict, torch.split(patches, _PATCHES_AT_ONCE))
        values, variances = zip(*parts, strict=True)
        return torch.cat(values), torch.cat(variances)

    def _add(self, k: int, places: Tensor, told: tuple[Tensor, Tensor], share: float) -> None:
        """What a plane says ``(N, ratio)`` of voxels ``(2, N)`` of a slice, and its share."""
        first, second = places
        found, variance = told
        is_found = found.isfinite().all(dim=1, keepdim=True)
        weight = torch.where(is_found, share / variance, 0)
        self._values[k][:, first, second] += (weight * found.nan_to_num()).T
        self._precision[k][:, first, second] += weight.T
        self._planes_through[k][first, second] += share * is_found[:, 0]

    def scan(self, scan: Observation, trust: float) -> Observation:
        """The scan with its slices divided, and the precision that planes have on average."""
        planes = self._planes
        data = self._values / self._precision.clamp_min(torch.finfo(torch.float32).tiny)
        # Where any plane told anything, at least one did.
        counted = planes.known / (self._planes_through.clamp_min(_share()) * planes.unit**2)
        precision = trust * self._precision * counted[:, None]
        return Observation(
            self._as_acquired(data * planes.unit),
            planes.thin_affine,
            self._as_acquired(precision),
            replace(_POINTS, axis=planes.slice_axis),
            scan.pose,
            zero_is_missing=False,
        )

    def _as_acquired(self, thin: Tensor) -> NDArray[np.float32]:
        slices = thin.flatten(0, 1).cpu().numpy()
        return np.ascontiguousarray(np.moveaxis(slices, 0, self._planes.slice_axis))
