"""Compensation of the blur of trilinear interpolation, to second order.

Between voxels, trilinear interpolation is a local average. At a distance of f voxels from the
previous voxel along one axis, it blurs like a kernel of variance ``f (1 - f)`` (in voxels
squared). To second order this adds ``f (1 - f) / 2`` times the second difference. Subtracting the
mean of this term from the image before interpolation gives samples that are unblurred on average
(the deconvolution by series of Blu, Thevenaz & Unser 2004, "Linear interpolation revitalized",
section II).
"""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor

from . import runtime
from .lines import NEIGHBOURS, sum_over_lines

wp.set_module_options({"enable_backward": False})

Coefficients = tuple[float, float, float]

_SHARPEN = """
    const float* __restrict__ v = image.data + at;
    float* __restrict__ out = target.data + at;
    const int down_x = x > 0 ? plane : 0, down_y = y > 0 ? line : 0;
    auto voxel = [&](int z, int up_z, int down_z) {
        const float here = v[z];
        return here + kx * (2.0f * here - v[z + up_x] - v[z - down_x])
                    + ky * (2.0f * here - v[z + up_y] - v[z - down_y])
                    + kz * (2.0f * here - v[z + up_z] - v[z - down_z]);
    };
    const int first = begin > 1 ? begin : 1;
    const int stop = end < last ? end : last;
    if (added) {
        if (begin == 0) out[0] += voxel(0, last > 0 ? 1 : 0, 0);
        for (int z = first; z < stop; ++z) out[z] += voxel(z, 1, 1);
        if (end == line && last > 0) out[last] += voxel(last, 0, 1);
    } else {
        if (begin == 0) out[0] = voxel(0, last > 0 ? 1 : 0, 0);
        for (int z = first; z < stop; ++z) out[z] = voxel(z, 1, 1);
        if (end == line && last > 0) out[last] = voxel(last, 0, 1);
    }
"""


@wp.func_native(NEIGHBOURS + _SHARPEN)
def sharpen_stretch(
    image: wp.array(dtype=wp.float32),
    shape: wp.vec3i,
    x: int,
    y: int,
    begin: int,
    count: int,
    factor: wp.vec3,
    added: int,
    target: wp.array(dtype=wp.float32),
):
    """Write a stretch of line ``(x, y)`` of the sharpened image to ``target``, or add it there."""
    ...


@wp.kernel
def sharpen_lines(
    shape: wp.vec3i,
    stretch: int,
    first_line: int,
    image: wp.array(dtype=wp.float32),
    factor: wp.vec3,
    added: int,
    target: wp.array(dtype=wp.float32),
    sums: wp.array3d(dtype=wp.float64),
):
    """Sharpen all lines of an image."""
    tid, part = wp.tid()
    line = first_line + tid
    x = line // shape[1]
    y = line % shape[1]
    begin = part * stretch
    count = wp.min(stretch, shape[2] - begin)
    sharpen_stretch(image, shape, x, y, begin, count, factor, added, target)


def sharpen(image: Tensor, coefficients: Coefficients, target: Tensor) -> None:
    """``target = K image`` with ``K = 1 - sum_d c_d`` second differences along axis d.

    K is symmetric. Outside the image, the values at its border continue.

    Parameters
    ----------
    image
        ``(X, Y, Z)``; float32 is handled by compiled kernels, other types by torch.
    coefficients
        c, one for each axis, without unit.
    target
        ``(X, Y, Z)`` of the same type; must not share memory with ``image``.
    """
    if image.dtype == torch.float32:
        _launch(image, coefficients, 0, target)
    else:
        target.copy_(_sharpened(image, coefficients))


def add_sharpened(image: Tensor, coefficients: Coefficients, target: Tensor) -> None:
    """``target += K image``; see :func:`sharpen`.

    Parameters
    ----------
    image, coefficients, target
        As for :func:`sharpen`; images are ``(X, Y, Z)``.
    """
    if image.dtype == torch.float32:
        _launch(image, coefficients, 1, target)
    else:
        target.add_(_sharpened(image, coefficients))


def _launch(image: Tensor, coefficients: Coefficients, added: int, target: Tensor) -> None:
    arrays = [runtime.flat(image), wp.vec3(*coefficients), added, runtime.flat(target)]
    sum_over_lines(sharpen_lines, image, arrays, 0)


def _sharpened(image: Tensor, coefficients: Coefficients) -> Tensor:
    result = image.clone()
    for axis, coefficient in enumerate(coefficients):
        steps = coefficient * torch.diff(image, dim=axis)
        side = image.shape[axis]
        result.narrow(axis, 0, side - 1).sub_(steps)
        result.narrow(axis, 1, side - 1).add_(steps)
    return result
