"""Derivatives of the data term of a scan by its rigid pose.

One source for CPU and CUDA. A thread handles a row of scan voxels and writes its contribution to
the Gauss-Newton system to an element of its own. These sums are added in a fixed order, so that
results do not depend on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import warp as wp
from numpy.typing import NDArray
from torch import Tensor

from . import runtime
from .sampling import Sampling
from .trilinear import is_inside, matrix34, sample_base, sample_step

wp.set_module_options({"enable_backward": False})

_vector6 = wp.types.vector(length=6, dtype=wp.float32)
_vector6d = wp.types.vector(length=6, dtype=wp.float64)
_matrix66d = wp.types.matrix(shape=(6, 6), dtype=wp.float64)
# Number of sums: 36 of the Hessian, row by row, 6 of the gradient, and the cost.
_SUMS = 43


@dataclass(frozen=True, eq=False)
class MotionDerivatives:
    """Gauss-Newton approximation of the data term of one scan, as a function of its motion.

    A motion moves a point r of the scan in the world by ``u + w x (r - centre)``. The parameters
    are ``(u, w)`` in mm and rad.

    Attributes
    ----------
    cost
        ``sum(P (A y - x)^2) / 2``.
    gradient
        Gradient of the cost, ``(6,)``.
    hessian
        ``J' P J``, ``(6, 6)``; J is the derivative of ``A y``.
    """

    cost: float
    gradient: NDArray[np.float64]
    hessian: NDArray[np.float64]


@wp.func
def voxel_or_zero(
    image: wp.array(dtype=wp.float32), shape: wp.vec3i, x: int, y: int, z: int
) -> float:
    """Value of a voxel; 0 outside the image."""
    value = float(0.0)
    if x >= 0 and y >= 0 and z >= 0 and x < shape[0] and y < shape[1] and z < shape[2]:
        value = image[(x * shape[1] + y) * shape[2] + z]
    return value


@wp.func
def value_and_slope(image: wp.array(dtype=wp.float32), shape: wp.vec3i, at: wp.vec3) -> wp.vec4:
    """Trilinear value at ``at`` (voxels), and its derivatives along the three axes (per voxel)."""
    x = int(wp.floor(at[0]))
    y = int(wp.floor(at[1]))
    z = int(wp.floor(at[2]))
    fx = at[0] - wp.float32(x)
    fy = at[1] - wp.float32(y)
    fz = at[2] - wp.float32(z)
    v000 = voxel_or_zero(image, shape, x, y, z)
    v001 = voxel_or_zero(image, shape, x, y, z + 1)
    v010 = voxel_or_zero(image, shape, x, y + 1, z)
    v011 = voxel_or_zero(image, shape, x, y + 1, z + 1)
    v100 = voxel_or_zero(image, shape, x + 1, y, z)
    v101 = voxel_or_zero(image, shape, x + 1, y, z + 1)
    v110 = voxel_or_zero(image, shape, x + 1, y + 1, z)
    v111 = voxel_or_zero(image, shape, x + 1, y + 1, z + 1)
    z00 = v000 + fz * (v001 - v000)
    z01 = v010 + fz * (v011 - v010)
    z10 = v100 + fz * (v101 - v100)
    z11 = v110 + fz * (v111 - v110)
    near = z00 + fy * (z01 - z00)
    far = z10 + fy * (z11 - z10)
    slope_y = (1.0 - fx) * (z01 - z00) + fx * (z11 - z10)
    slope_z = (1.0 - fx) * ((1.0 - fy) * (v001 - v000) + fy * (v011 - v010)) + fx * (
        (1.0 - fy) * (v101 - v100) + fy * (v111 - v110)
    )
    return wp.vec4(near + fx * (far - near), far - near, slope_y, slope_z)


@wp.kernel
def motion_rows(
    first: int,
    stride: int,
    image: wp.array(dtype=wp.float32),
    image_shape: wp.vec3i,
    matrix: matrix34,
    to_world: matrix34,
    slope_to_world: wp.mat33,
    ratio: wp.vec3i,
    weights_x: wp.array(dtype=wp.float32),
    weights_y: wp.array(dtype=wp.float32),
    weights_z: wp.array(dtype=wp.float32),
    precision: wp.array3d(dtype=wp.float32),
    scan: wp.array3d(dtype=wp.float32),
    sums: wp.array2d(dtype=wp.float64),
):
    """Hessian, gradient and twice the cost of every ``stride``-th row ``(x, y, :)`` of the scan.

    ``matrix`` maps intermediate voxels to voxels of the image. ``to_world`` maps them to world mm
    relative to the centre of the motion. ``slope_to_world`` converts derivatives along the axes
    of the image (per voxel) into those along the axes of the world (per mm).
    """
    place = first + wp.tid()
    row = place * stride
    x = row // scan.shape[1]
    y = row % scan.shape[1]
    step = sample_step(matrix)
    world_step = sample_step(to_world)
    hessian = _matrix66d()
    gradient = _vector6d()
    cost = wp.float64(0.0)
    for z in range(scan.shape[2]):
        weight = precision[x, y, z]
        if weight > 0.0:
            predicted = float(0.0)
            slopes = _vector6()
            for tap_x in range(weights_x.shape[0]):
                for tap_y in range(weights_y.shape[0]):
                    u = x * ratio[0] + tap_x
                    v = y * ratio[1] + tap_y
                    base = sample_base(matrix, u, v)
                    world_base = sample_base(to_world, u, v)
                    share = weights_x[tap_x] * weights_y[tap_y]
                    for tap_z in range(weights_z.shape[0]):
                        i = wp.float32(z * ratio[2] + tap_z)
                        at = base + i * step
                        if is_inside(at, image_shape):
                            here = (
                                share * weights_z[tap_z] * value_and_slope(image, image_shape, at)
                            )
                            predicted += here[0]
                            slope = slope_to_world * wp.vec3(here[1], here[2], here[3])
                            turned = wp.cross(world_base + i * world_step, slope)
                            slopes += _vector6(
                                slope[0], slope[1], slope[2], turned[0], turned[1], turned[2]
                            )
            residual = predicted - scan[x, y, z]
            doubled = _vector6d()
            for k in range(6):
                doubled[k] = wp.float64(slopes[k])
            weighted = wp.float64(weight) * doubled
            hessian += wp.outer(weighted, doubled)
            gradient += wp.float64(residual) * weighted
            cost += wp.float64(weight) * wp.float64(residual) * wp.float64(residual)
    for k in range(6):
        for j in range(6):
            sums[place, 6 * k + j] = hessian[k, j]
        sums[place, 36 + k] = gradient[k]
    sums[place, 42] = cost


def motion_derivatives(
    sampling: Sampling,
    to_world: NDArray[np.float64],
    image_axes: NDArray[np.float64],
    image: Tensor,
    scan: Tensor,
    precision: Tensor,
    *,
    voxels: int | None = None,
) -> MotionDerivatives:
    """Cost of one scan, and its derivatives by a rigid motion of the scan.

    Parameters
    ----------
    sampling
        Geometry and slice profile of the scan at its present pose.
    to_world
        ``(3, 4)`` float64, intermediate voxel -> world mm relative to the centre of the motion.
    image_axes
        ``(3, 3)`` float64, linear part of the affine of the image.
    image
        The wanted image, target shape, float32.
    scan, precision
        Measured intensities and their weights, source shape, float32; voxels of weight 0 are
        ignored.
    voxels
        Approximate number of scan voxels to use, in rows spread evenly over the scan; None for
        all. The sums over these voxels are scaled up to the whole scan.
    """
    stride = _row_stride(scan.shape, voxels)
    all_rows = scan.shape[0] * scan.shape[1]
    rows = -(-all_rows // stride)
    sums = torch.zeros((rows, _SUMS), dtype=torch.float64, device=image.device)
    device = runtime.device_of(image.device)
    weights = [
        runtime.as_array(torch.as_tensor(w, dtype=torch.float32, device=image.device))
        for w in sampling.weights
    ]
    inputs = [
        runtime.flat(image),
        wp.vec3i(*sampling.target_shape),
        matrix34(*sampling.matrix.ravel().tolist()),
        matrix34(*to_world.ravel().tolist()),
        wp.mat33(*np.linalg.inv(image_axes).T.ravel().tolist()),
        wp.vec3i(*sampling.ratio),
        *weights,
        runtime.as_array(precision),
        runtime.as_array(scan),
        runtime.as_array(sums),
    ]
    runtime.load(motion_rows.module.name, str(device))

    def launch(first: int, count: int) -> None:
        wp.launch(motion_rows, count, inputs=[first, stride, *inputs], device=device)

    if image.device.type == "cpu":
        runtime.split_among_threads(rows, launch)
    else:
        launch(0, rows)
    total = sums.sum(dim=0).cpu().numpy() * (all_rows / rows)
    return MotionDerivatives(0.5 * float(total[42]), total[36:42], total[:36].reshape(6, 6))


def _row_stride(shape: Sequence[int], voxels: int | None) -> int:
    """Distance between the rows used.

    It has no common factor with the number of rows in a plane, so that the rows spread evenly.
    """
    if voxels is None:
        return 1
    stride = max(1, math.prod(shape) // voxels)
    while math.gcd(stride, shape[1]) > 1:
        stride += 1
    return stride
