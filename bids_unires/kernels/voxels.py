"""The forward operator with one thread per voxel: for the GPU, and tested on the CPU.

The transpose gathers instead of scattering: every voxel of the wanted image collects the few
samples to which it contributes. This needs no atomic addition. Sums have a fixed order, so that
results are bitwise the same from run to run.
"""

from __future__ import annotations

import warp as wp

from .trilinear import hat, is_inside, matrix34, pull_sample, sample_base, sample_step

wp.set_module_options({"enable_backward": False})

matrix33 = wp.types.matrix(shape=(3, 3), dtype=wp.float64)


@wp.kernel
def pull_voxels(
    image: wp.array(dtype=wp.float32),
    image_shape: wp.vec3i,
    matrix: matrix34,
    samples: wp.array3d(dtype=wp.float32),
):
    """Interpolate ``image`` at every intermediate voxel."""
    u, row, i = wp.tid()
    at = sample_base(matrix, u, row) + wp.float32(i) * sample_step(matrix)
    samples[u, row, i] = pull_sample(image, image_shape, at)


@wp.func
def reach(centre: wp.float64, extent: wp.float64, side: int) -> wp.vec2i:
    """First index, and last index plus one, within ``extent`` of ``centre``."""
    first = wp.max(0, int(wp.ceil(centre - extent)))
    last = wp.min(side, int(wp.floor(centre + extent)) + 1)
    return wp.vec2i(first, last)


@wp.kernel
def push_voxels(
    samples: wp.array3d(dtype=wp.float32),
    matrix: matrix34,
    inverse: matrix33,
    image: wp.array3d(dtype=wp.float32),
):
    """Add to every voxel of ``image`` the samples to which it contributes.

    This is the transpose of :func:`pull_voxels`. ``inverse`` is the inverse of the linear part of
    ``matrix``.
    """
    x, y, z = wp.tid()
    shape = wp.vec3i(image.shape[0], image.shape[1], image.shape[2])
    offset = wp.vec3d(
        wp.float64(x) - matrix[0, 3], wp.float64(y) - matrix[1, 3], wp.float64(z) - matrix[2, 3]
    )
    centre = inverse * offset
    # Extent of one image voxel in each direction, on the intermediate grid. The added thousandth
    # of a voxel keeps samples whose weight is almost 0 in spite of rounding errors.
    extent = wp.vec3d(wp.float64(0.001), wp.float64(0.001), wp.float64(0.001))
    for axis in range(3):
        for other in range(3):
            extent[axis] = extent[axis] + wp.abs(inverse[axis, other])
    us = reach(centre[0], extent[0], samples.shape[0])
    rows = reach(centre[1], extent[1], samples.shape[1])
    columns = reach(centre[2], extent[2], samples.shape[2])
    step = sample_step(matrix)
    total = float(0.0)
    for u in range(us[0], us[1]):
        for row in range(rows[0], rows[1]):
            base = sample_base(matrix, u, row)
            for i in range(columns[0], columns[1]):
                at = base + wp.float32(i) * step
                if is_inside(at, shape):
                    total += hat(at, x, y, z) * samples[u, row, i]
    image[x, y, z] = image[x, y, z] + total


@wp.kernel
def correlate_voxels(
    fine: wp.array3d(dtype=wp.float32),
    weights: wp.array(dtype=wp.float32),
    ratio: int,
    coarse: wp.array3d(dtype=wp.float32),
):
    """Weighted sums along the middle axis, with a stride of ``ratio`` voxels."""
    before, k, after = wp.tid()
    total = float(0.0)
    for tap in range(weights.shape[0]):
        total += weights[tap] * fine[before, k * ratio + tap, after]
    coarse[before, k, after] = total


@wp.kernel
def spread_voxels(
    coarse: wp.array3d(dtype=wp.float32),
    weights: wp.array(dtype=wp.float32),
    ratio: int,
    fine: wp.array3d(dtype=wp.float32),
):
    """Transpose of :func:`correlate_voxels`."""
    before, k, after = wp.tid()
    last = wp.min(k // ratio, coarse.shape[1] - 1)
    first = wp.max(0, (k - weights.shape[0] + ratio) // ratio)
    total = float(0.0)
    for slice in range(first, last + 1):
        total += weights[k - slice * ratio] * coarse[before, slice, after]
    fine[before, k, after] = total
