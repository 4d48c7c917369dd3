"""A head of ellipsoids that is scanned at several visits, with lesions that come and grow."""

from __future__ import annotations

import numpy as np

from bids_unires.registration import VisitScan
from bids_unires.space.affines import Affine, apply_affine, scaling, translation
from bids_unires.space.rigid import rigid_matrix
from bids_unires.space.volume import Volume

SIZES = (2.5, 2.5, 5.0)
SHAPE = (72, 80, 34)
TURNED = rigid_matrix([3.0, -4.0, 2.0, 0.05, -0.08, 0.06])
Ball = tuple[tuple[float, float, float], tuple[float, float, float], float]
HEAD: tuple[Ball, ...] = (
    ((0, 0, 0), (66, 82, 68), 80.0),
    ((0, -4, 4), (56, 72, 57), 140.0),
    ((-20, 10, 6), (10, 30, 16), 50.0),
    ((18, -14, 12), (9, 24, 18), 190.0),
    ((8, 36, -26), (26, 20, 16), 170.0),
    ((0, 78, -24), (10, 12, 16), 100.0),
    ((4, -26, -56), (26, 28, 18), 110.0),
)
LESION: Ball = ((30, 20, 20), (16, 14, 15), 400.0)


def scan(
    pose: Affine,
    seed: int,
    balls: tuple[Ball, ...] = HEAD,
    gain: float = 1.0,
    contrast: str = "FLAIR",
    start: Affine | None = None,
) -> VisitScan:
    """Scan a head of ellipsoids that lies at ``pose`` (world mm of the head -> of the scanner)."""
    affine = translation([-(n - 1) * s / 2 for n, s in zip(SHAPE, SIZES, strict=True)])
    affine = affine @ scaling(SIZES)
    into_head = np.linalg.inv(pose)
    indices = np.moveaxis(np.indices(SHAPE), 0, -1).astype(np.float64)
    image = np.zeros(SHAPE)
    for depth in (-0.4, -0.2, 0.0, 0.2, 0.4):
        at = apply_affine(into_head @ affine @ translation([0, 0, depth]), indices)
        layer = np.zeros(SHAPE)
        for centre, radii, value in balls:
            away = np.linalg.norm((at - centre) / np.array(radii), axis=-1)
            # Borders as wide as a voxel, so that they move smoothly with the head.
            inside = np.clip(0.5 - (away - 1) * min(radii) / 2.5, 0, 1)
            layer += inside * (value - layer)
        image += layer / 5
    noise = np.random.default_rng(seed).normal(scale=2.0, size=(2, *SHAPE))
    data = gain * np.hypot(image + noise[0], noise[1])
    return VisitScan(contrast, Volume(data, affine), np.eye(4) if start is None else start)
