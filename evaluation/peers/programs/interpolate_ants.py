"""Interpolate a scan with ANTs: ``python interpolate_ants.py KIND SCAN GRID IMAGE``.

It runs in an environment that has antspyx, and imports nothing of this repository. GRID is a JSON
file with the ``shape`` and the ``affine`` (voxel index to world mm, RAS+) of the image.
"""

import json
import sys

import ants
import numpy as np


def main() -> None:
    """Interpolate one scan."""
    kind, scan, grid, image = sys.argv[1:]
    with open(grid) as file:
        told = json.load(file)
    # The world of ITK is LPS+.
    affine = np.diag([-1, -1, 1, 1]) @ np.asarray(told["affine"])
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    target = ants.from_numpy(
        np.zeros(told["shape"], dtype=np.float32),
        origin=affine[:3, 3].tolist(),
        spacing=sides.tolist(),
        direction=affine[:3, :3] / sides,
    )
    made = ants.resample_image_to_target(ants.image_read(scan), target, interp_type=kind)
    ants.image_write(made, image)


if __name__ == "__main__":
    main()
