"""Differences between neighbouring voxels: edge weights and the weighted Laplacian.

One source for CPU and CUDA. A thread handles a stretch of voxels along memory: a whole
line on the CPU, where the compiler vectorises it, and a few voxels on the GPU.

Every voxel has three forward differences, ``neighbour - voxel`` along x, y and z; the
neighbour beyond the last voxel is 0. ``factor`` holds ``(lambda / voxel size)^2`` per axis.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import warp as wp
from torch import Tensor

from . import runtime

runtime.start()

wp.set_module_options({"enable_backward": False})

_GPU_STRETCH = 8

# `up_x` is 0 where a line has no neighbour above it along x; then `more_x` is 0 as well.
_LINE = """
    #pragma clang fp contract(fast)
    #pragma clang fp reassociate(on)
    const int line = shape.c[2], plane = shape.c[1] * line, last = line - 1;
    const int at = x * plane + y * line;
    const int end = begin + count < line ? begin + count : line;
    const int up_x = x + 1 < shape.c[0] ? plane : 0, up_y = y + 1 < shape.c[1] ? line : 0;
    const float more_x = up_x ? 1.0f : 0.0f, more_y = up_y ? 1.0f : 0.0f;
    const float kx = factor.c[0], ky = factor.c[1], kz = factor.c[2];
"""

_SQUARES = """
    const float* __restrict__ v = image.data + offset + at;
    float* __restrict__ sum = squares.data + at;
    auto voxel = [&](int z, int up_z, float more_z) {
        const float dx = more_x * v[z + up_x] - v[z];
        const float dy = more_y * v[z + up_y] - v[z];
        const float dz = more_z * v[z + up_z] - v[z];
        sum[z] += kx * dx * dx + ky * dy * dy + kz * dz * dz;
    };
    for (int z = begin; z < (end < last ? end : last); ++z) voxel(z, 1, 1.0f);
    if (end == line) voxel(last, 0, 0.0f);
"""

_LAPLACIAN = """
    const int down_x = x > 0 ? plane : 0, down_y = y > 0 ? line : 0;
    const float less_x = down_x ? kx : 0.0f, less_y = down_y ? ky : 0.0f;
    const float* __restrict__ v = image.data + at;
    const float* __restrict__ w = weights.data + at;
    float* __restrict__ out = product.data + at;
    float form = 0.0f;
    auto voxel = [&](int z, int down_z, float less_z, int up_z, float more_z) {
        const float dx = more_x * v[z + up_x] - v[z];
        const float dy = more_y * v[z + up_y] - v[z];
        const float dz = more_z * v[z + up_z] - v[z];
        out[z] += less_x * w[z - down_x] * (v[z] - v[z - down_x])
                + less_y * w[z - down_y] * (v[z] - v[z - down_y])
                + less_z * w[z - down_z] * (v[z] - v[z - down_z])
                - w[z] * (kx * dx + ky * dy + kz * dz);
        form += w[z] * (kx * dx * dx + ky * dy * dy + kz * dz * dz);
    };
    if (begin == 0) voxel(0, 0, 0.0f, line > 1 ? 1 : 0, line > 1 ? 1.0f : 0.0f);
    const int first = begin > 1 ? begin : 1;
    for (int z = first; z < (end < last ? end : last); ++z) voxel(z, 1, kz, 1, 1.0f);
    if (end == line && last > 0) voxel(last, 1, kz, 0, 0.0f);
    return (double)form;
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


@wp.func_native(_LINE + _SQUARES)
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


@wp.func_native(_LINE + _LAPLACIAN)
def add_laplacian(
    image: wp.array(dtype=wp.float32),
    weights: wp.array(dtype=wp.float32),
    shape: wp.vec3i,
    x: int,
    y: int,
    begin: int,
    count: int,
    factor: wp.vec3,
    product: wp.array(dtype=wp.float32),
) -> wp.float64:
    """Add ``D' W D image`` to a stretch of ``product``; returns its part of the quadratic form."""
    ...


@wp.func_native(_MAGNITUDE)
def invert_magnitude(
    values: wp.array(dtype=wp.float32), first: int, count: int, smoothing: float
) -> wp.float64:
    """Replace squares by ``1 / sqrt(square + smoothing^2)``; returns the sum of their roots."""
    ...


@wp.kernel
def edge_weight_lines(
    shape: wp.vec3i,
    stretch: int,
    first_line: int,
    images: wp.array(dtype=wp.float32),
    factors: wp.array(dtype=wp.vec3),
    smoothing: float,
    weights: wp.array(dtype=wp.float32),
    sums: wp.array2d(dtype=wp.float64),
):
    """Edge weights shared by all contrasts, and sums of the roots without smoothing."""
    tid, part = wp.tid()
    line = first_line + tid
    x = line // shape[1]
    y = line % shape[1]
    begin = part * stretch
    count = wp.min(stretch, shape[2] - begin)
    first = line * shape[2] + begin
    for z in range(count):
        weights[first + z] = 0.0
    voxels = shape[0] * shape[1] * shape[2]
    for contrast in range(factors.shape[0]):
        offset = contrast * voxels
        factor = factors[contrast]
        add_squared_differences(images, offset, shape, x, y, begin, count, factor, weights)
    sums[line, part] = invert_magnitude(weights, first, count, smoothing)


@wp.kernel
def laplacian_lines(
    shape: wp.vec3i,
    stretch: int,
    first_line: int,
    image: wp.array(dtype=wp.float32),
    weights: wp.array(dtype=wp.float32),
    factor: wp.vec3,
    product: wp.array(dtype=wp.float32),
    sums: wp.array2d(dtype=wp.float64),
):
    """Add ``lambda^2 D' W D image`` to ``product``; ``sums`` adds up to the quadratic form."""
    tid, part = wp.tid()
    line = first_line + tid
    x = line // shape[1]
    y = line % shape[1]
    sums[line, part] = add_laplacian(
        image, weights, shape, x, y, part * stretch, stretch, factor, product
    )


def edge_weights(
    images: Tensor, factors: Tensor, smoothing: float, weights: Tensor
) -> float:
    """Weights of the quadratic bound of joint total variation.

    Parameters
    ----------
    images
        ``(C, X, Y, Z)`` float32.
    factors
        ``(C, 3)``, ``(lambda_c / voxel size)^2`` along each axis.
    smoothing
        Added in quadrature below the root; above 0 it keeps the weights finite.
    weights
        ``(X, Y, Z)``, receives ``1 / sqrt(sum_c lambda_c^2 |D y_c|^2 + smoothing^2)``.

    Returns
    -------
    float
        Joint total variation: the sum over voxels of ``sqrt(sum_c lambda_c^2 |D y_c|^2)``.
    """
    factor_array = wp.from_torch(factors.contiguous(), dtype=wp.vec3)
    arrays = [runtime.flat(images), factor_array, smoothing, runtime.flat(weights)]
    return _over_lines(edge_weight_lines, weights, arrays)


def add_weighted_laplacian(
    image: Tensor, weights: Tensor, factor: tuple[float, float, float], product: Tensor
) -> float:
    """Add ``lambda^2 D' W D image`` to ``product`` in place.

    Parameters
    ----------
    image, weights, product
        ``(X, Y, Z)`` float32.
    factor
        ``(lambda / voxel size)^2`` along each axis.

    Returns
    -------
    float
        The quadratic form ``lambda^2 sum(W |D image|^2)``.
    """
    arrays = [runtime.flat(image), runtime.flat(weights), wp.vec3(*factor), runtime.flat(product)]
    return _over_lines(laplacian_lines, image, arrays)


def _over_lines(kernel: wp.Kernel, like: Tensor, arrays: list[object]) -> float:
    """Launch over all lines along memory and add up what each stretch returns."""
    lines, length = like.shape[0] * like.shape[1], like.shape[2]
    shape = wp.vec3i(*like.shape)
    on_cpu = like.device.type == "cpu"
    stretch = length if on_cpu else _GPU_STRETCH
    parts = -(-length // stretch)
    sums = torch.empty((lines, parts), dtype=torch.float64, device=like.device)
    sums_array = wp.from_torch(sums)
    device = wp.device_from_torch(like.device)
    wp.load_module(__name__, device=device)

    def launch(first: int, count: int) -> None:
        inputs = [shape, stretch, first, *arrays, sums_array]
        wp.launch(kernel, (count, parts), inputs=inputs, device=device)

    if on_cpu:
        _split(lines, launch)
    else:
        launch(0, lines)
    return float(sums.sum())


def _split(total: int, launch: Callable[[int, int], None]) -> None:
    """Hand out ``total`` lines in equal shares, one for every thread."""
    threads = runtime.thread_count()
    edges = [total * part // threads for part in range(threads + 1)]
    runtime.in_threads(lambda k: launch(edges[k], edges[k + 1] - edges[k]), range(threads))
