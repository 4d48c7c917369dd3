"""What lies within thick slices, as the detail in their planes suggests.

A head looks much the same across the slices of a scan as along them. The planes of a scan,
averaged along one of their axes as its slices are along theirs, show what thick slices make of
detail that is known; a small network learns from them how to find that detail again, and how
far off it is when it does (Jog, Carass & Prince 2016, "Self super-resolution for magnetic
resonance images"; Zhao et al. 2021, "SMORE: a self-supervised anti-aliasing and
super-resolution algorithm for MRI using deep learning"). It learns from one scan alone, anew for
every scan, and nothing from anybody else.

To the fit the outcome is one more scan of the contrast, with thin slices, believed as far as the
network was right where the truth was known. What was measured has the last word.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import Affine, Grid, scaling, slice_spacing, translation
from .interleave import even_and_odd
from .noise import NoiseEstimate
from .observation import Observation
from .placement import without_empty_border
from .plane_network import PlaneNetwork, train
from .profile import SliceProfile

logger = logging.getLogger("bids_unires")

# Voxels to each side of a patch's middle: across the slices, and along them.
_SLICES, _ALONG = 2, 4
_PAIRS = 250_000
_FEWEST_PAIRS = 5_000
_FEWEST_SLICES = 3
_LEAST_RATIO = 2
# In-plane voxels of more unlike sides say little of each other's axis.
_MOST_UNLIKE = 1.5
# Share of the way from air to head above which, or beside which, a voxel counts.
_HEAD = 0.25
# Neighbouring errors of the network are alike, so that together they tell less than each alone;
# and far less than what another scan of the contrast's slices measured within them.
TRUST, TRUST_IF_SEEN = 0.5, 0.03
# Steps of learning: a step costs 3 ms. With 300 in place of 1000, a fifth more of the errors stay,
# which is of no consequence to what counts little.
_STEPS, _STEPS_IF_SEEN = 1000, 300
# What was found before, and interpolated since, is believed within so many times the noise. With
# 3 and 4, images on a study's grid are 0.01 and 0.04 dB further from the truth.
_RECALLED_NOISE = 2.0
_SEED = 2016
_POINTS = SliceProfile("point", "point")


@dataclass(frozen=True)
class DetailStatement:
    """How good the detail within a scan's slices is, where it could be compared with the truth.

    Attributes
    ----------
    error_sd
        Root mean square of its errors within the scan's planes, in intensity.
    explained
        Share of the detail's variance that was found, at most 1.
    """

    error_sd: float
    explained: float


@dataclass(frozen=True, eq=False)
class LearnedDetail:
    """What a scan suggests of what lies within its slices.

    Attributes
    ----------
    scan
        The scan with thin slices, and a precision for each voxel; 0 in air.
    statement
        How good that is; None where nothing was learned and it only recalls an earlier fit.
    """

    scan: Observation
    statement: DetailStatement | None


Details = Sequence[LearnedDetail | None]
"""Of each contrast; None where there is none."""


def learned_details(
    contrasts: Sequence[Sequence[Observation]],
    noise: Sequence[Sequence[NoiseEstimate]],
    voxel_size: float,
    wanted: Sequence[bool],
    device: torch.device,
) -> tuple[LearnedDetail | None, ...]:
    """`learned_detail` of each wanted contrast that has a single scan.

    Repeats are left as they are: they show each other what lies within their slices. Where
    another contrast has its planes across the slices, which shows edges, detail counts less.

    Notes
    -----
    On the CPU every contrast has one thread to itself: the matrices are too small to be shared,
    and the outcome does not depend on how many threads there are.
    """
    everything = [scan for scans in contrasts for scan in scans]

    def learn(
        scans: Sequence[Observation], estimates: Sequence[NoiseEstimate], is_wanted: bool
    ) -> LearnedDetail | None:
        if not is_wanted or len(scans) > 1:
            return None
        others = (scan for scan in everything if scan is not scans[0])
        seen = any(sees_into(scan, scans[0]) for scan in others)
        trust = TRUST_IF_SEEN if seen else TRUST
        detail = learned_detail(scans[0], estimates[0], voxel_size, trust, device)
        return None if detail is None else replace(detail, scan=_without_air(detail.scan))

    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        found = tuple(pool.map(learn, contrasts, noise, wanted))
    # What a thread sets, threads that begin later inherit.
    torch.set_num_threads(threads)
    for number, detail in enumerate(found, start=1):
        if detail is not None and detail.statement is not None:
            share = 100 * detail.statement.explained
            logger.info(
                "contrast %d: within its planes, %.0f %% of the detail that slices as thick as its "
                "own take away could be found again",
                number,
                share,
            )
    return found


def beside(
    contrasts: Sequence[Sequence[Observation]], details: Details
) -> list[Sequence[Observation]]:
    """Scans of each contrast, and its detail as one more; ``details`` may be empty."""
    if not details:
        return list(contrasts)
    return [
        scans if detail is None else [*scans, detail.scan]
        for scans, detail in zip(contrasts, details, strict=True)
    ]


def learned_detail(
    scan: Observation,
    noise: NoiseEstimate,
    voxel_size: float,
    trust: float = TRUST,
    device: torch.device | None = None,
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
    trust
        Share of the precision that the network had in the planes which the outcome gets.
    device
        Where to learn; None for the CPU.

    Returns
    -------
    LearnedDetail or None
        None where there is nothing to learn: slices less than about twice as thick as their
        voxels are wide, or too little head.
    """
    planes = _planes(scan, noise, voxel_size, device or torch.device("cpu"))
    if planes is None or len(planes.data) < _FEWEST_SLICES:
        return None
    chance = torch.Generator().manual_seed(_SEED)
    pairs = list(_pairs(planes, chance))
    if sum(len(patches) for patches, _ in pairs) < _FEWEST_PAIRS:
        return None
    patches = torch.cat([patches for patches, _ in pairs])
    finer = torch.cat([finer for _, finer in pairs])
    steps = _STEPS if trust == TRUST else _STEPS_IF_SEEN
    network = train(patches, finer, planes.noise_sd, steps, chance)
    statement = DetailStatement(network.error_sd * planes.unit, network.explained)
    return LearnedDetail(_divided(scan, planes, network, trust), statement)


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
    axis = scan.slice_axis
    columns = (scan.world_pose @ scan.affine)[:3, :3]
    first, second = (columns[:, plane] for plane in range(3) if plane != axis)
    normal = np.cross(first, second)
    along = normal @ (other.world_pose @ other.affine)[:3, :3] / np.linalg.norm(normal)
    return float(np.linalg.norm(along)) <= slice_spacing(scan.affine, axis) / 2


def recalled(
    image: NDArray[np.float32],
    grid: Grid,
    noise: Sequence[NoiseEstimate],
    statement: DetailStatement | None,
) -> LearnedDetail:
    """What an earlier fit made of the scans of a contrast, in the place of their detail.

    Parameters
    ----------
    image
        ``(X, Y, Z)``: that fit's image, interpolated on ``grid``.
    grid
        Where the image lies.
    noise
        Of each scan.
    statement
        How good the detail is that the image was made with; None if it was made without.
    """
    variance = np.mean([own.noise_sd**2 for own in noise])
    precision = float(1 / (_RECALLED_NOISE**2 * variance))
    scan = Observation(image, grid.affine, precision, _POINTS, zero_is_missing=False)
    return LearnedDetail(scan, statement)


def thin_voxel_count(scan: Observation, voxel_size: float) -> int:
    """How many voxels `learned_detail` of a scan would have."""
    divided = _division(scan, voxel_size)
    if divided is None:
        return 0
    first, second, ratio = divided
    return math.prod(scan.data.shape) * ratio // (first * second)


@dataclass(frozen=True, eq=False)
class _Planes:
    """A scan, slices first, with voxels in the plane of about the wanted size.

    Parameters
    ----------
    unit
        Contrast of the head in the units of the scan. All that follows is in units of it.
    data
        ``(K, M, N)``, NaN where nothing was measured.
    head
        ``(K, M, N)`` bool, with what is next to it in the plane.
    known
        ``(K, M, N)`` float: 1 where it was measured, less where a slice is doubted.
    averaged
        How many voxels of the scan were averaged along each of the two in-plane axes.
    ratio
        How many of these voxels are as long as the slices are apart.
    slice_profile
        ``(ratio + 2 * reach,)``: how much each voxel adds to a slice around its place.
    reach
        Voxels of a slice beyond its own share of the spacing, to each side.
    noise_sd
        Of ``data``.
    """

    unit: float
    data: Tensor
    head: Tensor
    known: Tensor
    averaged: tuple[int, int]
    ratio: int
    slice_profile: Tensor
    reach: int
    noise_sd: float


def _division(scan: Observation, voxel_size: float) -> tuple[int, int, int] | None:
    """How many voxels to average along each in-plane axis, and how many slices to make of one."""
    sizes = scan.grid.voxel_size
    sides = [float(sizes[other]) for other in range(3) if other != scan.slice_axis]
    first, second = (max(1, round(voxel_size / side)) for side in sides)
    sides = [sides[0] * first, sides[1] * second]
    ratio = round(slice_spacing(scan.affine, scan.slice_axis) / math.sqrt(sides[0] * sides[1]))
    if ratio < _LEAST_RATIO or max(sides) > _MOST_UNLIKE * min(sides):
        return None
    return first, second, ratio


def _planes(
    scan: Observation, noise: NoiseEstimate, voxel_size: float, device: torch.device
) -> _Planes | None:
    division = _division(scan, voxel_size)
    if division is None:
        return None
    first, second, ratio = division
    missing = scan.missing
    # What was not measured is not known to be dark; a mask's zeros are what the scan shows.
    data = np.where(np.isfinite(scan.data), scan.data, np.float32(np.nan))
    slices = np.moveaxis(data, scan.slice_axis, 0)
    factors = even_and_odd(scan.interleave, len(slices)).astype(np.float32)
    planes = _averaged(slices / (noise.contrast * factors[:, None, None]), first, second).to(device)
    known = np.moveaxis(~missing * scan.slice_factor, scan.slice_axis, 0)
    head = planes > noise.background_mean / noise.contrast + _HEAD
    profile, reach = _slice_profile(scan.profile, ratio)
    return _Planes(
        noise.contrast,
        planes,
        torch.nn.functional.max_pool2d(head.float()[:, None], 5, 1, 2)[:, 0] > 0,
        _averaged(known, first, second).to(device),
        (first, second),
        ratio,
        profile.to(device),
        reach,
        noise.noise_sd / (noise.contrast * math.sqrt(first * second)),
    )


def _averaged(slices: NDArray[np.floating], first: int, second: int) -> Tensor:
    """Means over blocks of so many voxels of each slice; what is over at the end is left out."""
    planes = torch.from_numpy(np.ascontiguousarray(slices, dtype=np.float32))
    return torch.nn.functional.avg_pool2d(planes[:, None], (first, second))[:, 0]


def _slice_profile(profile: SliceProfile, ratio: int) -> tuple[Tensor, int]:
    """How much of a slice each of the voxels around its place makes up, and its reach."""
    width = ratio * (1 - profile.gap) / profile.every
    reach = max(0, math.ceil((width - ratio) / 2))
    faces = np.arange(-reach, ratio + reach + 1) - ratio / 2
    overlap = np.minimum(faces[1:], width / 2) - np.maximum(faces[:-1], -width / 2)
    shares = np.clip(overlap, 0, None)
    return torch.from_numpy((shares / shares.sum()).astype(np.float32)), reach


def _pairs(planes: _Planes, chance: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Patches of planes that were averaged along one of their axes, and what was there before."""
    each = _PAIRS // (2 * planes.ratio)
    for axis in (1, 2):
        lines = planes.data.movedim(axis, 0)
        head = planes.head.movedim(axis, 0)
        for offset in range(planes.ratio):
            found = _pairs_from(lines[offset:], head[offset:], planes, each, chance)
            if found is not None:
                yield found


def _pairs_from(
    lines: Tensor, head: Tensor, planes: _Planes, each: int, chance: torch.Generator
) -> tuple[Tensor, Tensor] | None:
    """Average blocks of ``lines`` ``(L, K, Q)`` along their first axis as slices are."""
    ratio, reach = planes.ratio, planes.reach
    blocks = (len(lines) - 2 * reach) // ratio
    if blocks <= 2 * _SLICES:
        return None
    lines = lines[: blocks * ratio + 2 * reach]
    thick = lines.unfold(0, ratio + 2 * reach, ratio) @ planes.slice_profile
    # An average has less noise than a slice.
    lacking = 1 - float(planes.slice_profile.square().sum())
    noise = torch.randn(thick.shape, generator=chance).to(thick.device)
    thick = (thick + planes.noise_sd * math.sqrt(lacking) * noise).movedim(1, 2)
    within = slice(reach, reach + blocks * ratio)
    finer = lines[within].reshape(blocks, ratio, *lines.shape[1:]).movedim(1, 3).movedim(1, 2)
    candidates = (
        head[within].reshape(blocks, ratio, *head.shape[1:]).any(dim=1).movedim(1, 2).nonzero()
    )
    if len(candidates) == 0:
        return None
    chosen = torch.randint(len(candidates), (each,), generator=chance)
    picked = candidates[chosen.to(candidates.device)]
    patches, wanted = _patches(thick, *picked.T), finer[*picked.T]
    complete = patches.isfinite().all(dim=2).all(dim=1) & wanted.isfinite().all(dim=1)
    patches, wanted = patches[complete], wanted[complete]
    # Heads have no direction along the axis that was averaged, nor along the other one.
    half = len(patches) // 2
    patches[:half], wanted[:half] = patches[:half].flip(1), wanted[:half].flip(1)
    patches[::2] = patches[::2].flip(2)
    return patches.flatten(1), wanted


def _patches(thick: Tensor, blocks: Tensor, along: Tensor, across: Tensor) -> Tensor:
    """``(N, 2 * _SLICES + 1, 2 * _ALONG + 1)`` around places in ``thick`` ``(K, M, Q)``."""
    rows = blocks[:, None] + torch.arange(-_SLICES, _SLICES + 1, device=thick.device)
    columns = along[:, None] + torch.arange(-_ALONG, _ALONG + 1, device=thick.device)
    rows, columns = rows.clamp_(0, thick.shape[0] - 1), columns.clamp_(0, thick.shape[1] - 1)
    return thick[rows[:, :, None], columns[:, None, :], across[:, None, None]]


def _divided(
    scan: Observation, planes: _Planes, network: PlaneNetwork, trust: float
) -> Observation:
    """The scan's slices divided: in both planes across them, and the mean of the two."""
    slices, rows, columns = planes.data.shape
    data = planes.data[:, None].repeat(1, planes.ratio, 1, 1)
    precision = torch.zeros_like(data)
    turned = planes.data.movedim(2, 1)
    # What the outermost slices hold depends on what lies beyond them, which was not seen.
    for k in range(1, slices - 1):
        row, column = planes.head[k].nonzero().T
        here = torch.full_like(row, k)
        found, variance = network.predict(_patches(planes.data, here, row, column).flatten(1))
        other, its_variance = network.predict(_patches(turned, here, column, row).flatten(1))
        mean = (found + other).T / 2
        data[k][:, row, column] = mean
        trusted = 2 * trust / (variance + its_variance).T
        precision[k][:, row, column] = torch.where(mean.isfinite(), trusted, 0)
    data *= planes.unit
    precision *= planes.known[:, None] / planes.unit**2
    axis = scan.slice_axis
    fine = _thin_affine(scan, planes)
    shape = (slices * planes.ratio, rows, columns)
    return Observation(
        np.ascontiguousarray(np.moveaxis(data.reshape(shape).cpu().numpy(), 0, axis)),
        fine,
        np.ascontiguousarray(np.moveaxis(precision.reshape(shape).cpu().numpy(), 0, axis)),
        replace(_POINTS, axis=axis),
        scan.pose,
        zero_is_missing=False,
    )


def _without_air(scan: Observation) -> Observation:
    """Only the box that something is known of."""
    data = np.where(np.asarray(scan.tau) > 0, scan.data, np.float32(np.nan))
    return without_empty_border(replace(scan, data=data))


def _thin_affine(scan: Observation, planes: _Planes) -> Affine:
    """Affine of the divided slices of averaged voxels; the box's first faces stay in place."""
    steps = np.empty(3)
    steps[scan.slice_axis] = 1 / planes.ratio
    steps[[axis for axis in range(3) if axis != scan.slice_axis]] = planes.averaged
    return np.asarray(scan.affine @ translation((steps - 1) / 2) @ scaling(steps))
