"""Interpolate a scan with SimpleITK: ``python interpolate_simpleitk.py KIND SCAN GRID IMAGE``.

It runs in an environment that has SimpleITK alone, and imports nothing of this repository. GRID is
a JSON file with the ``shape`` and the ``affine`` (voxel index to world mm, RAS+) of the image.
"""

import json
import sys

import numpy as np
import SimpleITK as sitk  # noqa: N813

KINDS = {
    "nearest": sitk.sitkNearestNeighbor,
    "linear": sitk.sitkLinear,
    "bspline": sitk.sitkBSpline,
    "lanczos": sitk.sitkLanczosWindowedSinc,
}


def main() -> None:
    """Interpolate one scan."""
    kind, scan, grid, image = sys.argv[1:]
    with open(grid) as file:
        told = json.load(file)
    # The world of ITK is LPS+.
    affine = np.diag([-1, -1, 1, 1]) @ np.asarray(told["affine"])
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    resample = sitk.ResampleImageFilter()
    resample.SetSize([int(side) for side in told["shape"]])
    resample.SetOutputSpacing(sides.tolist())
    resample.SetOutputDirection((affine[:3, :3] / sides).ravel().tolist())
    resample.SetOutputOrigin(affine[:3, 3].tolist())
    resample.SetInterpolator(KINDS[kind])
    # Half of the outermost slices lies outside the centres of the scan's voxels.
    resample.SetUseNearestNeighborExtrapolator(True)
    sitk.WriteImage(resample.Execute(sitk.ReadImage(scan, sitk.sitkFloat32)), image)


if __name__ == "__main__":
    main()
