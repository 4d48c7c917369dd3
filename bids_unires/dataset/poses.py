"""Where results say that their scans lie, and how far two such statements are apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..space.affines import Affine, apply_affine
from ..space.grid import Grid, centre_of, corners

# Fits of the same scans on other voxels find poses that differ by a fraction of a voxel.
_VOXELS, _AT_LEAST_MM = 0.5, 0.5


def scan_poses(metadata: Mapping[str, Any]) -> dict[str, Affine]:
    """Poses of scans in the sidecar of a result, by the URI of the scan.

    Returns
    -------
    dict
        ``(4, 4)``, world mm of the scan (of CT whose origin was reset: of the shifted scan) ->
        of the result. Whatever is no pose is left out.
    """
    unires = metadata.get("UniRes")
    scans = unires.get("Scans") if isinstance(unires, dict) else None
    poses = {}
    for scan in scans if isinstance(scans, list) else ():
        try:
            source, pose = scan["Source"], np.asarray(scan["Pose"], dtype=np.float64)
            # An inverse is what everybody needs of it.
            np.linalg.inv(pose)
        except (KeyError, TypeError, ValueError, np.linalg.LinAlgError):
            continue
        if isinstance(source, str) and pose.shape == (4, 4) and np.isfinite(pose).all():
            poses[source] = pose
    return poses


def is_one_place(first: Affine, second: Affine, grid: Grid) -> bool:
    """Whether two poses of a scan agree, up to what fits differ by.

    They are compared half-way from the centre of a grid to its corners, about where a head ends.

    Parameters
    ----------
    first, second
        ``(4, 4)``, world mm of the scan -> of the result.
    grid
        Of the result that ``first`` belongs to.
    """
    centre = centre_of(grid)
    points = (apply_affine(grid.affine, corners(grid.shape)) + centre) / 2
    moved = apply_affine(second @ np.linalg.inv(first), points)
    limit = max(_AT_LEAST_MM, _VOXELS * float(max(grid.voxel_size)))
    return bool(np.linalg.norm(moved - points, axis=-1).max() <= limit)
