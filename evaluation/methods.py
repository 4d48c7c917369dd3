"""Methods that make one image of each contrast from its scans, all with known poses."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bids_unires.config import ModelSettings, RegScale
from bids_unires.demo.score import resample
from bids_unires.model import super_resolve
from bids_unires.model.scanner.profile import SliceProfile, profile_for_voxels
from bids_unires.space.volume import Volume
from evaluation.cases import Examination

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

SETTINGS = ModelSettings(voxel_size=(1.0, 1.0, 1.0), unified_rigid=False)


@dataclass(frozen=True, eq=False)
class Made:
    """Images of all contrasts, ``(X, Y, Z)`` float32 each, and the wall time in s."""

    images: tuple[Image, ...]
    seconds: float


def interpolated(examination: Examination, order: int) -> Made:
    """Mean of the scans of each contrast, interpolated with a B-spline of degree ``order``."""
    began = time.perf_counter()
    grid = examination.truths[0].grid
    images = []
    for scans, poses in zip(examination.scans, examination.poses, strict=True):
        own = [
            resample(scan, grid, np.linalg.inv(pose), order)
            for scan, pose in zip(scans, poses, strict=True)
        ]
        images.append(np.mean(own, axis=0, dtype=np.float32))
    return Made(tuple(images), time.perf_counter() - began)


def fitted(
    examination: Examination,
    profile: Callable[[Volume, float], SliceProfile],
    reg_scale: RegScale,
    *,
    learned_detail: bool = True,
) -> Made:
    """Fit the model; ``profile`` gives the slice profile from a scan and its slice gap."""
    began = time.perf_counter()
    grid = examination.truths[0].grid
    result = super_resolve(
        examination.scans,
        replace(SETTINGS, reg_scale=reg_scale, learned_detail=learned_detail),
        "cpu",
        profiles=[
            [profile(scan, gap) for scan, gap in zip(scans, gaps, strict=True)]
            for scans, gaps in zip(examination.scans, examination.gaps, strict=True)
        ],
        poses=examination.poses,
        grid=grid,
    )
    return Made(tuple(result.images), time.perf_counter() - began)


def plain_profile(scan: Volume, gap: float) -> SliceProfile:
    """Slices without gaps, and point samples of the trilinear interpolation in plane."""
    profile = profile_for_voxels(scan.grid, SETTINGS.voxel_size)
    return replace(profile, in_plane="dirac")


def default_profile(scan: Volume, gap: float) -> SliceProfile:
    """The slice profile that the program uses by default."""
    return profile_for_voxels(scan.grid, SETTINGS.voxel_size, gap=gap)


Method = Callable[[Examination], Made]
FIXED_STRENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0)
PLAIN_STRENGTH = 4.0

METHODS: Mapping[str, Method] = {
    "nearest": lambda examination: interpolated(examination, 0),
    "linear": lambda examination: interpolated(examination, 1),
    "cubic": lambda examination: interpolated(examination, 3),
    "plain model": lambda examination: fitted(
        examination, plain_profile, PLAIN_STRENGTH, learned_detail=False
    ),
    "without detail": lambda examination: fitted(
        examination, default_profile, SETTINGS.reg_scale, learned_detail=False
    ),
    "defaults": lambda examination: fitted(examination, default_profile, SETTINGS.reg_scale),
}
"""Methods to compare: interpolation, the model of the articles, and the defaults of the program."""

STRENGTHS: Mapping[str, Method] = {
    **{
        f"{scale:g}": lambda examination, scale=scale: fitted(examination, default_profile, scale)
        for scale in FIXED_STRENGTHS
    },
    "auto": METHODS["defaults"],
}
"""The default model at fixed strengths of the prior, and at the strength chosen from the scans."""


def measured(examination: Examination) -> Mask:
    """Voxels of the head that lie inside every stack of every contrast, bool ``(X, Y, Z)``."""
    grid = examination.truths[0].grid
    inside = examination.head.copy()
    for scans, poses in zip(examination.scans, examination.poses, strict=True):
        for scan, pose in zip(scans, poses, strict=True):
            ones = Volume(np.ones_like(scan.data), scan.affine)
            inside &= resample(ones, grid, np.linalg.inv(pose), 1, mode="constant") > 0.99
    return inside
