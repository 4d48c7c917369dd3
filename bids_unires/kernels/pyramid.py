"""Halving and doubling the resolution of images, for the preconditioner with several levels."""

from __future__ import annotations

import warp as wp
from torch import Tensor

from . import runtime
from .lines import sum_over_lines

wp.set_module_options({"enable_backward": False})

_HALVE = """
    #pragma clang fp reassociate(on)
    const int line = fine_shape.c[2], plane = fine_shape.c[1] * line;
    const bool more_x = 2 * x + 1 < fine_shape.c[0], more_y = 2 * y + 1 < fine_shape.c[1];
    const float kx = more_x ? 1.0f : 0.0f, ky = more_y ? 1.0f : 0.0f;
    const float* __restrict__ v = fine.data + 2 * x * plane + 2 * y * line;
    const int up_x = more_x ? plane : 0, up_y = more_y ? line : 0;
    float* __restrict__ out = coarse.data + (x * shape.c[1] + y) * shape.c[2];
    auto column = [&](int z) {
        return v[z] + ky * v[z + up_y] + kx * (v[z + up_x] + ky * v[z + up_x + up_y]);
    };
    const int end = begin + count < shape.c[2] ? begin + count : shape.c[2];
    const int whole = end < line / 2 ? end : line / 2;
    for (int z = begin; z < whole; ++z) out[z] = column(2 * z) + column(2 * z + 1);
    if (whole < end) out[whole] = column(line - 1);
"""

_DOUBLE = """
    #pragma clang fp contract(fast)
    const int line = coarse_shape.c[2], plane = coarse_shape.c[1] * line;
    auto beside = [](int i, int side) {
        const int other = i / 2 + (i % 2 ? 1 : -1);
        return other < 0 ? 0 : (other < side ? other : side - 1);
    };
    const int near_x = x / 2 * plane, far_x = beside(x, coarse_shape.c[0]) * plane;
    const int near_y = y / 2 * line, far_y = beside(y, coarse_shape.c[1]) * line;
    const float* __restrict__ v = coarse.data;
    auto column = [&](int k) {
        const int z = k < 0 ? 0 : (k < line ? k : line - 1);
        return 0.5625f * v[near_x + near_y + z] + 0.0625f * v[far_x + far_y + z]
             + 0.1875f * (v[near_x + far_y + z] + v[far_x + near_y + z]);
    };
    const int at = (x * shape.c[1] + y) * shape.c[2];
    const int end = begin + count < shape.c[2] ? begin + count : shape.c[2];
    float* __restrict__ out = fine.data + at;
    const float* __restrict__ g = slope.data + at;
    float sum = 0.0f;
    int k = begin / 2;
    float below = column(k - 1), here = column(k), above = column(k + 1);
    for (int z = begin; z < end; ++z) {
        out[z] += 0.75f * here + 0.25f * (z % 2 ? above : below);
        sum += g[z] * out[z];
        if (z % 2) {
            ++k;
            below = here;
            here = above;
            above = column(k + 1);
        }
    }
    return (double)sum;
"""


@wp.func_native(_HALVE)
def halve_line(
    shape: wp.vec3i,
    x: int,
    y: int,
    begin: int,
    count: int,
    fine_shape: wp.vec3i,
    fine: wp.array(dtype=wp.float32),
    coarse: wp.array(dtype=wp.float32),
):
    """Sums of 2 x 2 x 2 voxels for a stretch of line ``(x, y)`` of the coarse image."""
    ...


@wp.func_native(_DOUBLE)
def double_line(
    shape: wp.vec3i,
    x: int,
    y: int,
    begin: int,
    count: int,
    coarse_shape: wp.vec3i,
    coarse: wp.array(dtype=wp.float32),
    slope: wp.array(dtype=wp.float32),
    fine: wp.array(dtype=wp.float32),
) -> wp.float64:
    """Add the interpolated coarse image to a stretch of line ``(x, y)`` of the fine one."""
    ...


@wp.kernel
def halve_lines(
    shape: wp.vec3i,
    stretch: int,
    first_line: int,
    fine_shape: wp.vec3i,
    fine: wp.array(dtype=wp.float32),
    coarse: wp.array(dtype=wp.float32),
    sums: wp.array3d(dtype=wp.float64),
):
    """See :func:`halve`."""
    tid, part = wp.tid()
    line = first_line + tid
    x = line // shape[1]
    y = line % shape[1]
    halve_line(shape, x, y, part * stretch, stretch, fine_shape, fine, coarse)


@wp.kernel
def double_lines(
    shape: wp.vec3i,
    stretch: int,
    first_line: int,
    coarse_shape: wp.vec3i,
    coarse: wp.array(dtype=wp.float32),
    slope: wp.array(dtype=wp.float32),
    fine: wp.array(dtype=wp.float32),
    sums: wp.array3d(dtype=wp.float64),
):
    """See :func:`add_doubled`."""
    tid, part = wp.tid()
    line = first_line + tid
    x = line // shape[1]
    y = line % shape[1]
    sums[line, part, 0] = double_line(
        shape, x, y, part * stretch, stretch, coarse_shape, coarse, slope, fine
    )


def halve(fine: Tensor) -> Tensor:
    """Add up blocks of 2 x 2 x 2 voxels; the sides are halved and rounded up.

    Parameters
    ----------
    fine
        ``(X, Y, Z)`` float32.

    Returns
    -------
    Tensor
        Sums, float32; a block at the border of an odd side holds fewer voxels.

    Examples
    --------
    >>> import torch
    >>> halve(torch.ones(3, 2, 2)).flatten().tolist()
    [8.0, 4.0]
    """
    coarse = fine.new_empty([(side + 1) // 2 for side in fine.shape])
    inputs = [wp.vec3i(*fine.shape), runtime.flat(fine), runtime.flat(coarse)]
    sum_over_lines(halve_lines, coarse, inputs, 0)
    return coarse


def add_doubled(coarse: Tensor, fine: Tensor, slope: Tensor) -> float:
    """Add a coarse image, interpolated trilinearly between block centres, to a fine one.

    Parameters
    ----------
    coarse
        float32, with half the sides of ``fine``, rounded up.
    fine
        ``(X, Y, Z)`` float32, changed in place.
    slope
        ``(X, Y, Z)`` float32, not changed.

    Returns
    -------
    float
        Scalar product of ``slope`` with the new ``fine``.
    """
    tensors = (coarse, slope, fine)
    inputs = [wp.vec3i(*coarse.shape), *(runtime.flat(tensor) for tensor in tensors)]
    (product,) = sum_over_lines(double_lines, fine, inputs, 1)
    return product


def halvings(fine: Tensor, levels: int) -> list[Tensor]:
    """The image ``(X, Y, Z)`` halved once, twice, ... ``levels`` times, in this order."""
    pyramid = [halve(fine)]
    for _ in range(levels - 1):
        pyramid.append(halve(pyramid[-1]))
    return pyramid
