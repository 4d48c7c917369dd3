"""Write and read transforms in the text format of ITK."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ..space.affines import Affine
from .writing import write_text


def write_transform(path: Path, pose: ArrayLike) -> Path:
    """Write the rigid pose of one scan so that ITK resamples the scan with it.

    ITK maps points of the reference (the image that defines the output grid) to points of the
    moving image (the scan), both in LPS. The file therefore holds the inverse of ``pose``:
    ``antsApplyTransforms -i scan -r output -t path`` resamples the scan to the grid of the
    output. Numbers have six significant digits, which for a head is below a micrometre.

    Parameters
    ----------
    path
        The file; its name ends in ``.txt``.
    pose
        ``(4, 4)``, world of the scan to world of the output, both RAS in mm.

    Raises
    ------
    ValueError
        If ``pose`` is not a finite, invertible ``(4, 4)`` matrix.
    """
    from nitransforms.io.itk import ITKLinearTransform

    matrix = np.asarray(pose, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise ValueError(f"a pose is a finite 4x4 matrix, got {matrix.tolist()}")
    reference_to_moving = np.linalg.inv(matrix)
    return write_text(path, ITKLinearTransform.from_ras(reference_to_moving).to_string())


def read_transform(path: Path) -> Affine:
    """Read the pose in a file that `write_transform` wrote.

    Returns
    -------
    ndarray
        ``(4, 4)``, world of the scan to world of the output, both RAS in mm.
    """
    from nitransforms.io.itk import ITKLinearTransform

    reference_to_moving = ITKLinearTransform.from_filename(path).to_ras()
    return np.linalg.inv(np.asarray(reference_to_moving, dtype=np.float64))
