"""Values of a quintic B-spline at the voxels of another grid.

Unser, Aldroubi & Eden 1993, "B-spline signal processing: part I, theory".
"""

from __future__ import annotations

import numpy as np
import warp as wp
from numpy.typing import NDArray
from torch import Tensor

from . import runtime
from .lines import sum_over_lines
from .trilinear import matrix34, sample_base, sample_step

wp.set_module_options({"enable_backward": False})

# Half a voxel beyond the outermost centres ends what a volume tells of.
_FACE = wp.constant(wp.float32(0.5))

vector6 = wp.types.vector(length=6, dtype=wp.float32)


@wp.func
def weight(distance: float) -> float:
    """Of a coefficient at a distance, in voxels."""
    if distance < 1.0:
        square = distance * distance
        return 0.55 - square * (0.5 - square * (0.25 - distance / 12.0))
    rest = 3.0 - distance
    fifth = rest * rest * rest * rest * rest / 120.0
    if distance < 2.0:
        rest = 2.0 - distance
        fifth -= rest * rest * rest * rest * rest / 20.0
    return wp.max(fifth, 0.0)


@wp.func
def weights_of_six(beyond: float) -> vector6:
    """Of the coefficients around a place so many voxels beyond the third of them."""
    weights = vector6()
    for i in range(6):
        weights[i] = weight(wp.abs(beyond + 2.0 - wp.float32(i)))
    return weights


@wp.func
def mirrored(index: int, side: int) -> int:
    """The coefficient that stands for one beyond the ends."""
    if index >= 0 and index < side:
        return index
    period = 2 * wp.max(side - 1, 1)
    folded = wp.abs(index) % period
    return wp.min(wp.min(folded, period - folded), side - 1)


@wp.func
def within_faces(at: wp.vec3, shape: wp.vec3i) -> bool:
    """Whether a place lies within the voxels of a volume."""
    inside = bool(True)
    for axis in range(3):
        inside = inside and at[axis] >= -_FACE
        inside = inside and at[axis] <= wp.float32(shape[axis]) - _FACE
    return inside


@wp.func
def spline_at(coefficients: wp.array(dtype=wp.float32), shape: wp.vec3i, at: wp.vec3) -> float:
    """Value of the spline at ``at``, in voxels."""
    x0 = int(wp.floor(at[0]))
    y0 = int(wp.floor(at[1]))
    z0 = int(wp.floor(at[2]))
    wx = weights_of_six(at[0] - wp.float32(x0))
    wy = weights_of_six(at[1] - wp.float32(y0))
    wz = weights_of_six(at[2] - wp.float32(z0))
    value = float(0.0)
    for i in range(6):
        plane = mirrored(x0 + i - 2, shape[0]) * shape[1]
        for j in range(6):
            line = (plane + mirrored(y0 + j - 2, shape[1])) * shape[2]
            along = float(0.0)
            for k in range(6):
                along += wz[k] * coefficients[line + mirrored(z0 + k - 2, shape[2])]
            value += wx[i] * wy[j] * along
    return value


@wp.kernel
def spline_lines(
    shape: wp.vec3i,
    stretch: int,
    first_line: int,
    coefficients: wp.array(dtype=wp.float32),
    source_shape: wp.vec3i,
    matrix: matrix34,
    values: wp.array(dtype=wp.float32),
    sums: wp.array3d(dtype=wp.float64),
):
    """The spline at the voxels of lines of another grid."""
    tid, part = wp.tid()
    line = first_line + tid
    base = sample_base(matrix, line // shape[1], line % shape[1])
    step = sample_step(matrix)
    begin = part * stretch
    for z in range(begin, wp.min(begin + stretch, shape[2])):
        at = base + wp.float32(z) * step
        value = float(0.0)
        if within_faces(at, source_shape):
            value = spline_at(coefficients, source_shape, at)
        values[line * shape[2] + z] = value


def sample_spline(coefficients: Tensor, matrix: NDArray[np.float64], values: Tensor) -> None:
    """Values of a quintic spline at the voxels of another grid; 0 beyond its voxels' faces.

    Parameters
    ----------
    coefficients
        ``(X, Y, Z)`` float32, those beyond the ends mirrored.
    matrix
        ``(3, 4)``, voxel index of ``values`` -> of ``coefficients``.
    values
        ``(U, V, W)`` float32, on the same device; receives them.
    """
    inputs = [
        runtime.flat(coefficients),
        wp.vec3i(*coefficients.shape),
        matrix34(matrix),
        runtime.flat(values),
    ]
    sum_over_lines(spline_lines, values, inputs, 0)
