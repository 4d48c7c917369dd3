"""Trilinear interpolation of one sample and its transpose, on any device."""

from __future__ import annotations

import warp as wp

from .sampling import RIM

matrix34 = wp.types.matrix(shape=(3, 4), dtype=wp.float64)

# A rim wider than rounding errors, so that these do not decide whether a sample counts.
_RIM = wp.constant(wp.float32(RIM))


@wp.func
def sample_base(matrix: matrix34, first: int, second: int) -> wp.vec3:
    """Position of intermediate voxel ``(first, second, 0)``, in target voxels."""
    a = wp.float64(first)
    b = wp.float64(second)
    return wp.vec3(
        wp.float32(matrix[0, 0] * a + matrix[0, 1] * b + matrix[0, 3]),
        wp.float32(matrix[1, 0] * a + matrix[1, 1] * b + matrix[1, 3]),
        wp.float32(matrix[2, 0] * a + matrix[2, 1] * b + matrix[2, 3]),
    )


@wp.func
def sample_step(matrix: matrix34) -> wp.vec3:
    """Step from one intermediate voxel to the next along the last axis, in target voxels."""
    return wp.vec3(wp.float32(matrix[0, 2]), wp.float32(matrix[1, 2]), wp.float32(matrix[2, 2]))


@wp.func
def counts(at: float, side: int) -> bool:
    """Whether a coordinate lies within the image or its rim, in voxels."""
    return at >= -_RIM and at <= wp.float32(side - 1) + _RIM


@wp.func
def is_inside(at: wp.vec3, shape: wp.vec3i) -> bool:
    """Whether a sample lies within the image or its rim; other samples are 0."""
    return counts(at[0], shape[0]) and counts(at[1], shape[1]) and counts(at[2], shape[2])


@wp.func
def pull_sample(image: wp.array(dtype=wp.float32), shape: wp.vec3i, at: wp.vec3) -> float:
    """Value at ``at`` (target voxels); neighbours outside the image count as 0."""
    value = float(0.0)
    if is_inside(at, shape):
        x0 = int(wp.floor(at[0]))
        y0 = int(wp.floor(at[1]))
        z0 = int(wp.floor(at[2]))
        for x in range(x0, x0 + 2):
            for y in range(y0, y0 + 2):
                for z in range(z0, z0 + 2):
                    if x >= 0 and y >= 0 and z >= 0:
                        if x < shape[0] and y < shape[1] and z < shape[2]:
                            weight = hat(at, x, y, z)
                            value += weight * image[(x * shape[1] + y) * shape[2] + z]
    return value


@wp.func
def push_sample(image: wp.array(dtype=wp.float32), shape: wp.vec3i, at: wp.vec3, value: float):
    """Add ``value`` to the neighbours of ``at``: transpose of :func:`pull_sample`.

    Two threads must not write to the same voxel.
    """
    if is_inside(at, shape):
        x0 = int(wp.floor(at[0]))
        y0 = int(wp.floor(at[1]))
        z0 = int(wp.floor(at[2]))
        for x in range(x0, x0 + 2):
            for y in range(y0, y0 + 2):
                for z in range(z0, z0 + 2):
                    if x >= 0 and y >= 0 and z >= 0:
                        if x < shape[0] and y < shape[1] and z < shape[2]:
                            voxel = (x * shape[1] + y) * shape[2] + z
                            image[voxel] = image[voxel] + hat(at, x, y, z) * value


@wp.func
def hat(at: wp.vec3, x: int, y: int, z: int) -> float:
    """Weight of voxel ``(x, y, z)`` in the interpolation at ``at``; 0 if one voxel away or more."""
    wx = wp.max(0.0, 1.0 - wp.abs(at[0] - wp.float32(x)))
    wy = wp.max(0.0, 1.0 - wp.abs(at[1] - wp.float32(y)))
    wz = wp.max(0.0, 1.0 - wp.abs(at[2] - wp.float32(z)))
    return wx * wy * wz
