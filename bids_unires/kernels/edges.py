"""Edge weights: the quadratic bound of joint total variation at given images.

Every voxel has three forward differences, ``neighbour - voxel`` along x, y and z. The last voxel
of a line has no neighbour, and its difference is 0. ``factor`` is ``(lambda / voxel size)^2`` along
each axis.
"""

from __future__ import annotations

import warp as wp
from torch import Tensor

from . import runtime
from .lines import NEIGHBOURS, sum_over_lines

wp.set_module_options({"enable_backward": False})


_SQUARES = """
    const float* __restrict__ v = image.data + offset + at;
    float* __restrict__ sum = squares.data + at;
    auto voxel = [&](int z, int up_z) {
        const float dx = v[z + up_x] - v[z];
        const float dy = v[z + up_y] - v[z];
        const float dz = v[z + up_z] - v[z];
        sum[z] += kx * dx * dx + ky * dy * dy + kz * dz * dz;
    };
    for (int z = begin; z < (end < last ? end : last); ++z) voxel(z, 1);
    if (end == line) voxel(last, 0);
"""

_MAGNITUDE = """
    #pragma clang fp reassociate(on)
    float* __restrict__ value = values.data + first;
    float sum = 0.0f;
    for (int z = 0; z < count; ++z) {
        sum += sqrtf(value[z]);
        value[z] = 1.0f / sqrtf(value[z] + smoothing * smoothing);
    }
    return (double)sum;
"""


@wp.func_native(NEIGHBOURS + _SQUARES)
def add_squared_differences(
    image: wp.array(dtype=wp.float32),
    offset: int,
    shape: wp.vec3i,
    x: int,
    y: int,
    begin: int,
    count: int,
    factor: wp.vec3,
    squares: wp.array(dtype=wp.float32),
):
    """Add ``sum_d factor_d difference_d^2`` to a stretch of line ``(x, y)`` of ``squares``."""
    ...


@wp.func_native(_MAGNITUDE)
def invert_magnitude(
    values: wp.array(dtype=wp.float32), first: int, count: int, smoothing: float
) -> wp.float64:
    """Replace squares by ``1 / sqrt(square + smoothing^2)``; return ``sum(sqrt(square))``."""
    ...


@wp.kernel
def edge_weight_lines(
    shape: wp.vec3i,
    stretch: int,
    first_line: int,
    images: wp.array(dtype=wp.float32),
    factors: wp.array(dtype=wp.vec3),
    guided: bool,
    guide: wp.array(dtype=wp.float32),
    smoothing: float,
    weights: wp.array(dtype=wp.float32),
    sums: wp.array3d(dtype=wp.float64),
):
    """See :func:`edge_weights`; ``sums`` receives the total variation of each stretch."""
    tid, part = wp.tid()
    line = first_line + tid
    x = line // shape[1]
    y = line % shape[1]
    begin = part * stretch
    count = wp.min(stretch, shape[2] - begin)
    first = line * shape[2] + begin
    for z in range(count):
        if guided:
            weights[first + z] = guide[first + z]
        else:
            weights[first + z] = 0.0
    voxels = shape[0] * shape[1] * shape[2]
    for contrast in range(factors.shape[0]):
        offset = contrast * voxels
        factor = factors[contrast]
        add_squared_differences(images, offset, shape, x, y, begin, count, factor, weights)
    sums[line, part, 0] = invert_magnitude(weights, first, count, smoothing)


def edge_weights(
    images: Tensor,
    factors: Tensor,
    smoothing: float,
    weights: Tensor,
    guide: Tensor | None = None,
) -> float:
    """Weights of the quadratic bound of joint total variation.

    Parameters
    ----------
    images
        ``(C, X, Y, Z)`` float32.
    factors
        ``(C, 3)``, ``(lambda_c / voxel size)^2`` along each axis.
    smoothing
        Its square is added below the root; a value above 0 keeps the weights finite. Without
        unit, like ``lambda |D y|``.
    weights
        ``(X, Y, Z)`` float32, receives
        ``1 / sqrt(g + sum_c lambda_c^2 |D y_c|^2 + smoothing^2)``.
    guide
        g, ``(X, Y, Z)`` float32: squared differences of other images; None without such images.

    Returns
    -------
    float
        Joint total variation: the sum over voxels of ``sqrt(g + sum_c lambda_c^2 |D y_c|^2)``.
    """
    factor_array = runtime.as_array(factors.contiguous(), dtype=wp.vec3)
    guided = guide is not None
    squares = runtime.flat(weights if guide is None else guide)
    arrays = [factor_array, guided, squares, smoothing, runtime.flat(weights)]
    (value,) = sum_over_lines(edge_weight_lines, weights, [runtime.flat(images), *arrays], 1)
    return value
