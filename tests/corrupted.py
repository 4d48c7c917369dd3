"""Simulated examinations with slices that went wrong.

Every kind of damage is done to single slices of a clean scan: the signal is lost (scaled by 0.3),
the head lies 3 mm away while the slice is taken, or a spike in its k-space puts stripes over it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bids_unires.demo.phantom import Anatomy, build_anatomy, load_icbm152
from bids_unires.demo.scanner import Motion, Plane, add_rician_noise, scan_grid, thick_slices
from bids_unires.demo.score import psnr, resample
from bids_unires.demo.study import PARTICIPANTS, PROTOCOLS
from bids_unires.model import Reconstruction
from bids_unires.space.affines import Affine, scaling, translation
from bids_unires.space.grid import Grid
from bids_unires.space.volume import Volume

Damage = Literal["scaled", "shifted", "spiked"]
DAMAGES: tuple[Damage, ...] = get_args(Damage)
SCALE = 0.3
SHIFT_MM = 3.0
STRIPES = 0.3
"""Amplitude of the stripes of a spike, over the mean of the head."""

# No scan lies on the truth's own voxels, which would spare it any interpolation.
MOTIONS = (
    Motion((0.4, 0.3, 0.2), (4.0, -3.0, 5.0)),
    Motion((2.3, -1.4, 3.1), (3.0, -2.0, 4.0)),
    Motion((-1.7, 2.6, 1.2), (-4.0, 3.0, 2.0)),
)
PLANES: tuple[Plane, ...] = ("sagittal", "transverse", "coronal")

Kind = Literal["one stack", "three stacks", "three contrasts"]
_STACKS: Mapping[Kind, tuple[tuple[tuple[int, int], ...], ...]] = {
    "one stack": (((0, 0),),),
    "three stacks": (((0, 0), (0, 1), (0, 2)),),
    "three contrasts": (((0, 0),), ((1, 1),), ((2, 2),)),
}
"""For each contrast its scans, as (number of the contrast, number of plane and pose)."""


@dataclass(frozen=True, eq=False)
class Examination:
    """Scans of one head, what is wrong with them, and what they ought to show.

    Parameters
    ----------
    scans
        For each contrast its scans.
    poses
        ``(4, 4)`` of each scan: world of the scan to world of the truth, mm.
    damage
        Of each scan, what was done to which slice.
    truths
        One image of each contrast.
    head
        1 where the truth shows the head.
    """

    scans: tuple[tuple[Volume, ...], ...]
    poses: tuple[tuple[Affine, ...], ...]
    damage: tuple[tuple[Mapping[int, Damage], ...], ...]
    truths: tuple[Volume, ...]
    head: Volume

    def damaged(self, damages: Sequence[Damage], seed: int, share: float = 0.05) -> Examination:
        """The same with that share of the slices of every scan damaged."""
        rng = np.random.default_rng(seed)
        made = [[corrupted(scan, damages, rng, share) for scan in own] for own in self.scans]
        return replace(
            self,
            scans=tuple(tuple(scan for scan, _ in own) for own in made),
            damage=tuple(tuple(done for _, done in own) for own in made),
        )

    def without_damage(self) -> Examination:
        """What an oracle would leave: the damaged slices are missing."""
        scans = []
        for own, done in zip(self.scans, self.damage, strict=True):
            copies = [Volume(scan.data.copy(), scan.affine) for scan in own]
            for copy, damage in zip(copies, done, strict=True):
                copy.data[..., list(damage)] = np.nan
            scans.append(tuple(copies))
        return replace(self, scans=tuple(scans))

    def quality(self, result: Reconstruction) -> list[float]:
        """PSNR (dB) of each image inside the head."""
        to_truth = self.poses[0][0] @ np.linalg.inv(result.poses[0][0])
        inside = resample(self.head, result.grid, to_truth, order=0, mode="constant") > 0.5
        inside &= result.coverage
        return [
            psnr(image, resample(expected, result.grid, to_truth, order=3), inside)
            for image, expected in zip(result.images, self.truths, strict=True)
        ]


def examine(kind: Kind, noise: float, seed: int, side_mm: float = 1.0) -> Examination:
    """Simulate clean scans: one T1w stack, three orthogonal ones, or T1w, T2w and FLAIR."""
    stacks = _STACKS[kind]
    head = Volume(_anatomy().head.astype(np.float32), _anatomy().grid.affine)
    return Examination(
        tuple(tuple(stack(c, n, noise, seed, side_mm) for c, n in own) for own in stacks),
        tuple(tuple(MOTIONS[n].scanner_to_head for _, n in own) for own in stacks),
        tuple(tuple({} for _ in own) for own in stacks),
        tuple(truth(own[0][0], side_mm) for own in stacks),
        head,
    )


@functools.cache
def _anatomy() -> Anatomy:
    return build_anatomy(load_icbm152(), PARTICIPANTS[0])


@functools.cache
def truth(contrast: int, side_mm: float = 1.0) -> Volume:
    """A contrast of the demonstration's first head; coarser voxels are means of its own."""
    anatomy = _anatomy()
    protocol = PROTOCOLS[contrast]
    image = anatomy.image(protocol.intensities, protocol.texture_gain)
    step = round(side_mm)
    return _coarser(Volume(image.astype(np.float32), anatomy.grid.affine), step)


def stack(contrast: int, number: int, noise: float, seed: int, side_mm: float = 1.0) -> Volume:
    """One clean scan of 4 mm slices in the plane and pose of that number."""
    protocol = PROTOCOLS[contrast]
    head = truth(contrast, side_mm)
    fine = scan_grid(head.grid, PLANES[number], protocol.slice_spacing)
    step = round(side_mm)
    x, y, z = fine.shape
    coarser = translation([(step - 1) / 2, (step - 1) / 2, 0]) @ scaling([step, step, 1])
    grid = Grid((x // step, y // step, z), fine.affine @ coarser)
    pose = MOTIONS[number].scanner_to_head
    clean = thick_slices(head, grid, protocol.slice_thickness, pose)
    rng = np.random.default_rng([seed, contrast, number])
    return Volume(add_rician_noise(clean, noise * float(head.data.max()), rng), grid.affine)


def slices_with_head(scan: Volume, threshold: float) -> NDArray[np.intp]:
    """Slices (along the third axis) a tenth of which or more shows the head."""
    share = (scan.data > threshold).mean(axis=(0, 1))
    return np.flatnonzero(share > 0.1)


def corrupted(
    scan: Volume, damages: Sequence[Damage], rng: np.random.Generator, share: float = 0.05
) -> tuple[Volume, dict[int, Damage]]:
    """A scan with that share of its slices damaged, rounded up, and which ones how.

    Kinds take turns; slices are drawn among those that show the head, all but the outermost two.
    """
    threshold = 0.3 * float(np.quantile(scan.data, 0.98))
    head_mean = float(scan.data[scan.data > threshold].mean())
    candidates = slices_with_head(scan, threshold)[1:-1]
    count = int(np.ceil(share * scan.data.shape[2]))
    chosen = rng.choice(candidates, count, replace=False).tolist()
    data = scan.data.copy()
    done: dict[int, Damage] = {}
    for turn, k in enumerate(chosen):
        kind = damages[turn % len(damages)]
        data[..., k] = _damaged(data[..., k], kind, scan.affine, head_mean, rng)
        done[k] = kind
    return Volume(data, scan.affine), dict(sorted(done.items()))


def _damaged(
    image: NDArray[np.float32],
    kind: Damage,
    affine: Affine,
    head_mean: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    if kind == "scaled":
        return np.asarray(SCALE * image, dtype=np.float32)
    if kind == "shifted":
        angle = rng.uniform(0, 2 * np.pi)
        sides = np.linalg.norm(affine[:3, :2], axis=0)
        offset = SHIFT_MM * np.array([np.cos(angle), np.sin(angle)]) / sides
        return np.abs(ndimage.shift(image, offset, order=3, mode="nearest"))
    frequency = rng.uniform(0.05, 0.45, 2) * rng.choice([-1, 1], 2)
    u, v = np.indices(image.shape)
    stripes = np.cos(2 * np.pi * (frequency[0] * u + frequency[1] * v + rng.uniform()))
    return np.abs(image + np.float32(STRIPES * head_mean) * stripes.astype(np.float32))


def _coarser(volume: Volume, step: int) -> Volume:
    """Means over cubes of ``step`` voxels a side."""
    if step == 1:
        return volume
    sides = [side // step for side in volume.data.shape]
    cut = volume.data[tuple(slice(0, side * step) for side in sides)]
    x, y, z = sides
    data = cut.reshape(x, step, y, step, z, step).mean(axis=(1, 3, 5), dtype=np.float32)
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.full(3, (step - 1) / 2)
    affine[:3, :3] *= step
    return Volume(data, affine)
