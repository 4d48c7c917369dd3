"""The solver's passes over images, except for the product with A'A.

In each iteration the solver moves an image within the plane of two directions: the preconditioned
gradient and the last step. These kernels compute the first direction, measure the curvature of
the quadratic bound along both, and take the step. Each kernel also computes the scalar products
that the solver needs.
"""

from __future__ import annotations

from typing import NamedTuple

import warp as wp
from torch import Tensor

from . import runtime
from .lines import NEIGHBOURS, sum_over_lines

wp.set_module_options({"enable_backward": False})

_DIRECTION = """
    const int down_x = x > 0 ? plane : 0, down_y = y > 0 ? line : 0;
    const float less_x = down_x ? kx : 0.0f, less_y = down_y ? ky : 0.0f;
    const float more_x = up_x ? kx : 0.0f, more_y = up_y ? ky : 0.0f;
    const float* __restrict__ v = image.data + at;
    const float* __restrict__ w = weights.data + at;
    const float* __restrict__ g = gradient.data + at;
    const float* __restrict__ n = scale.data + at;
    const float* __restrict__ t = last_step.data + at;
    float* __restrict__ out = direction.data + at;
    float* __restrict__ steepness = slope.data + at;
    float along_last = 0.0f;
    auto voxel = [&](int z, int down_z, float less_z, int up_z, float more_z) {
        const float wx = less_x * w[z - down_x];
        const float wy = less_y * w[z - down_y];
        const float wz = less_z * w[z - down_z];
        const float dx = v[z + up_x] - v[z];
        const float dy = v[z + up_y] - v[z];
        const float dz = v[z + up_z] - v[z];
        const float rise = g[z] + wx * (v[z] - v[z - down_x]) + wy * (v[z] - v[z - down_y])
                          + wz * (v[z] - v[z - down_z])
                          - w[z] * (more_x * dx + more_y * dy + more_z * dz);
        const float diagonal = n[z] + wx + wy + wz + w[z] * (more_x + more_y + more_z);
        // A voxel that no scan measured and that has no neighbour stays as it is.
        out[z] = diagonal > 0.0f ? -rise / diagonal : 0.0f;
        steepness[z] = rise;
        along_last += rise * t[z];
    };
    if (begin == 0) voxel(0, 0, 0.0f, line > 1 ? 1 : 0, line > 1 ? kz : 0.0f);
    const int first = begin > 1 ? begin : 1;
    for (int z = first; z < (end < last ? end : last); ++z) voxel(z, 1, kz, 1, kz);
    if (end == line && last > 0) voxel(last, 1, kz, 0, 0.0f);
    sums.data[at_sums] = along_last;
"""

_CURVATURE = """
    const float* __restrict__ w = weights.data + at;
    const float* __restrict__ s = direction.data + at;
    const float* __restrict__ t = last_step.data + at;
    const float* __restrict__ n = last_normal.data + at;
    float both = 0.0f, mixed = 0.0f, old = 0.0f;
    auto voxel = [&](int z, int up_z) {
        const float sx = s[z + up_x] - s[z], tx = t[z + up_x] - t[z];
        const float sy = s[z + up_y] - s[z], ty = t[z + up_y] - t[z];
        const float sz = s[z + up_z] - s[z], tz = t[z + up_z] - t[z];
        both += w[z] * (kx * sx * sx + ky * sy * sy + kz * sz * sz);
        mixed += w[z] * (kx * sx * tx + ky * sy * ty + kz * sz * tz) + s[z] * n[z];
        old += w[z] * (kx * tx * tx + ky * ty * ty + kz * tz * tz) + t[z] * n[z];
    };
    for (int z = begin; z < (end < last ? end : last); ++z) voxel(z, 1);
    if (end == line) voxel(last, 0);
    sums.data[at_sums] = both;
    sums.data[at_sums + 1] = mixed;
    sums.data[at_sums + 2] = old;
"""

_STEP = """
    #pragma clang fp contract(fast)
    #pragma clang fp reassociate(on)
    const float* __restrict__ s = direction.data + first;
    const float* __restrict__ n = normal.data + first;
    float* __restrict__ t = last_step.data + first;
    float* __restrict__ m = last_normal.data + first;
    float* __restrict__ g = gradient.data + first;
    float* __restrict__ v = image.data + first;
    float fall = 0.0f;
    for (int z = 0; z < count; ++z) {
        const float step = a * s[z] + b * t[z];
        const float change = a * n[z] + b * m[z];
        fall += step * (g[z] + 0.5f * change);
        t[z] = step;
        m[z] = change;
        g[z] += change;
        v[z] += step;
    }
    sums.data[at_sums] = fall;
"""


@wp.func_native(NEIGHBOURS + _DIRECTION)
def write_direction(
    shape: wp.vec3i,
    x: int,
    y: int,
    begin: int,
    count: int,
    image: wp.array(dtype=wp.float32),
    weights: wp.array(dtype=wp.float32),
    gradient: wp.array(dtype=wp.float32),
    scale: wp.array(dtype=wp.float32),
    last_step: wp.array(dtype=wp.float32),
    factor: wp.vec3,
    slope: wp.array(dtype=wp.float32),
    direction: wp.array(dtype=wp.float32),
    sums: wp.array3d(dtype=wp.float64),
    at_sums: int,
):
    """Gradient and preconditioned direction for a stretch of line ``(x, y)``."""
    ...


@wp.func_native(NEIGHBOURS + _CURVATURE)
def measure_curvature(
    shape: wp.vec3i,
    x: int,
    y: int,
    begin: int,
    count: int,
    weights: wp.array(dtype=wp.float32),
    direction: wp.array(dtype=wp.float32),
    last_step: wp.array(dtype=wp.float32),
    last_normal: wp.array(dtype=wp.float32),
    factor: wp.vec3,
    sums: wp.array3d(dtype=wp.float64),
    at_sums: int,
):
    """Quadratic forms of two directions for a stretch of line ``(x, y)``."""
    ...


@wp.func_native(_STEP)
def take_step(
    first: int,
    count: int,
    a: float,
    b: float,
    direction: wp.array(dtype=wp.float32),
    normal: wp.array(dtype=wp.float32),
    last_step: wp.array(dtype=wp.float32),
    last_normal: wp.array(dtype=wp.float32),
    gradient: wp.array(dtype=wp.float32),
    image: wp.array(dtype=wp.float32),
    sums: wp.array3d(dtype=wp.float64),
    at_sums: int,
):
    """Move a stretch of the image, and update the last step and the gradient."""
    ...


@wp.kernel
def direction_lines(
    shape: wp.vec3i,
    stretch: int,
    first_line: int,
    image: wp.array(dtype=wp.float32),
    weights: wp.array(dtype=wp.float32),
    gradient: wp.array(dtype=wp.float32),
    scale: wp.array(dtype=wp.float32),
    last_step: wp.array(dtype=wp.float32),
    factor: wp.vec3,
    slope: wp.array(dtype=wp.float32),
    direction: wp.array(dtype=wp.float32),
    sums: wp.array3d(dtype=wp.float64),
):
    """See :func:`preconditioned_direction`."""
    tid, part = wp.tid()
    line = first_line + tid
    x = line // shape[1]
    y = line % shape[1]
    at_sums = line * sums.shape[1] + part
    write_direction(
        shape, x, y, part * stretch, stretch, image, weights, gradient, scale, last_step, factor,
        slope, direction, sums, at_sums,
    )  # fmt: skip


@wp.kernel
def curvature_lines(
    shape: wp.vec3i,
    stretch: int,
    first_line: int,
    weights: wp.array(dtype=wp.float32),
    direction: wp.array(dtype=wp.float32),
    last_step: wp.array(dtype=wp.float32),
    last_normal: wp.array(dtype=wp.float32),
    factor: wp.vec3,
    sums: wp.array3d(dtype=wp.float64),
):
    """See :func:`curvature`."""
    tid, part = wp.tid()
    line = first_line + tid
    x = line // shape[1]
    y = line % shape[1]
    at_sums = (line * sums.shape[1] + part) * 3
    measure_curvature(
        shape, x, y, part * stretch, stretch, weights, direction, last_step, last_normal, factor,
        sums, at_sums,
    )  # fmt: skip


@wp.kernel
def step_lines(
    shape: wp.vec3i,
    stretch: int,
    first_line: int,
    a: float,
    b: float,
    direction: wp.array(dtype=wp.float32),
    normal: wp.array(dtype=wp.float32),
    last_step: wp.array(dtype=wp.float32),
    last_normal: wp.array(dtype=wp.float32),
    gradient: wp.array(dtype=wp.float32),
    image: wp.array(dtype=wp.float32),
    sums: wp.array3d(dtype=wp.float64),
):
    """See :func:`step`."""
    tid, part = wp.tid()
    line = first_line + tid
    begin = part * stretch
    count = wp.min(stretch, shape[2] - begin)
    at_sums = line * sums.shape[1] + part
    take_step(
        line * shape[2] + begin, count, a, b, direction, normal, last_step, last_normal, gradient,
        image, sums, at_sums,
    )  # fmt: skip


class Curvatures(NamedTuple):
    """Quadratic forms of two directions, from the curvature of the quadratic bound.

    ``mixed`` and ``last_step`` contain the parts of the prior and of the data term.
    ``direction`` contains only that of the prior; the product with A'A gives the part of the data
    term.
    """

    direction: float
    mixed: float
    last_step: float


def preconditioned_direction(
    image: Tensor,
    weights: Tensor,
    gradient: Tensor,
    scale: Tensor,
    last_step: Tensor,
    factor: tuple[float, float, float],
    slope: Tensor,
    direction: Tensor,
) -> float:
    """Fill ``slope`` with the gradient g and ``direction`` with ``-g / diagonal``.

    Parameters
    ----------
    image, weights, gradient, scale, last_step, slope, direction
        ``(X, Y, Z)`` float32. ``gradient`` is that of the data term; adding
        ``lambda^2 D' W D image`` gives g. ``diagonal`` is that of ``lambda^2 D' W D``, plus
        ``scale``, which approximates the diagonal of the data term.
    factor
        ``(lambda / voxel size)^2`` along each axis.

    Returns
    -------
    float
        Scalar product of g with ``last_step``.
    """
    arrays = [runtime.flat(t) for t in (image, weights, gradient, scale, last_step)]
    inputs = [*arrays, wp.vec3(*factor), runtime.flat(slope), runtime.flat(direction)]
    return sum_over_lines(direction_lines, image, inputs, 1)[0]


def curvature(
    weights: Tensor,
    direction: Tensor,
    last_step: Tensor,
    last_normal: Tensor,
    factor: tuple[float, float, float],
) -> Curvatures:
    """Quadratic forms of the quadratic bound of the objective along two directions.

    Parameters
    ----------
    weights, direction, last_step, last_normal
        ``(X, Y, Z)`` float32; ``last_normal`` is the normal operator of the data term applied to
        ``last_step``.
    factor
        ``(lambda / voxel size)^2`` along each axis.
    """
    arrays = [runtime.flat(t) for t in (weights, direction, last_step, last_normal)]
    return Curvatures(*sum_over_lines(curvature_lines, weights, [*arrays, wp.vec3(*factor)], 3))


def step(
    a: float,
    b: float,
    direction: Tensor,
    normal: Tensor,
    last_step: Tensor,
    last_normal: Tensor,
    gradient: Tensor,
    image: Tensor,
) -> float:
    """Move ``image`` by ``a * direction + b * last_step``, in place.

    Parameters
    ----------
    a, b
        Step lengths along the two directions, without unit.
    direction, normal
        ``(X, Y, Z)`` float32: the new direction, and the normal operator applied to it.
    last_step, last_normal
        ``(X, Y, Z)`` float32: the last step, and the normal operator applied to it; replaced by
        those of this step.
    gradient
        ``(X, Y, Z)`` float32: gradient of the data term; updated for the new image.
    image
        ``(X, Y, Z)`` float32: the image to move.

    Returns
    -------
    float
        Change of the data term; negative if it decreased.
    """
    tensors = (direction, normal, last_step, last_normal, gradient, image)
    arrays = [runtime.flat(t) for t in tensors]
    return sum_over_lines(step_lines, image, [a, b, *arrays], 1)[0]
