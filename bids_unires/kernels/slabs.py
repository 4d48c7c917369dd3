"""The forward operator on the CPU: slabs of the intermediate grid, row by row.

The intermediate grid is cut along its first axis into slabs, numbered 0, 1, 2, ... Two even slabs
never change the same voxel of the wanted image, and neither do two odd slabs. So all even slabs
can be added in parallel, and then all odd slabs. Every voxel receives its contributions in a fixed
order, whatever the number of threads, so that results are bitwise the same.
"""

from __future__ import annotations

import warp as wp

from .rows import (
    add_scaled_row,
    clear_row,
    correlate_row,
    pull_row,
    push_row,
    spread_row,
    weigh_residual_row,
)
from .trilinear import matrix34, pull_sample, push_sample, sample_base, sample_step

wp.set_module_options({"enable_backward": False})

# How many rows ahead of their use voxels of the image are prefetched into the cache.
_ROWS_AHEAD = wp.constant(2)


@wp.struct
class Lattice:
    """Positions of the intermediate samples in the wanted image.

    The axes of ``shape`` and of the columns of ``matrix`` are (slab, row, sample).
    """

    image_shape: wp.vec3i
    shape: wp.vec3i
    matrix: matrix34


@wp.func
def overlap(base: float, step: float, low: float, high: float, span: wp.vec2) -> wp.vec2:
    """Part of the interval ``span`` of i where ``low <= base + i * step <= high``.

    ``(1, 0)``, or another pair with the end before the beginning, if there is none.
    """
    result = span
    if low > high:
        result = wp.vec2(1.0, 0.0)
    elif wp.abs(step) < 1.0e-6:
        if base < low or base > high:
            result = wp.vec2(1.0, 0.0)
    else:
        first = (low - base) / step
        last = (high - base) / step
        result = wp.vec2(wp.max(span[0], wp.min(first, last)), wp.min(span[1], wp.max(first, last)))
    return result


@wp.func
def span_within(
    base: wp.vec3, step: wp.vec3, shape: wp.vec3i, count: int, outward: float
) -> wp.vec2:
    """Interval of samples, as real numbers, between the outermost voxel centres of the image.

    These limits are moved ``outward`` by so many voxels.
    """
    span = wp.vec2(0.0, wp.float32(count - 1))
    for axis in range(3):
        span = overlap(
            base[axis], step[axis], -outward, wp.float32(shape[axis] - 1) + outward, span
        )
    return span


@wp.func
def rows_ahead(lattice: Lattice) -> int:
    """Offset in memory from the voxel of a sample to that ``_ROWS_AHEAD`` rows later."""
    rows = wp.float64(_ROWS_AHEAD)
    x = int(wp.round(rows * lattice.matrix[0, 1]))
    y = int(wp.round(rows * lattice.matrix[1, 1]))
    z = int(wp.round(rows * lattice.matrix[2, 1]))
    return (x * lattice.image_shape[1] + y) * lattice.image_shape[2] + z


@wp.func
def row_limits(lattice: Lattice, base: wp.vec3, step: wp.vec3) -> wp.vec4i:
    """Limits ``(begin, first, last, end)`` of the samples of a row.

    Samples ``begin .. end`` are near the image. Of these, samples ``first .. last`` have all
    eight neighbours. ``end`` and ``last`` are excluded.
    """
    count = lattice.shape[2]
    near = span_within(base, step, lattice.image_shape, count, 0.1)
    begin = int(wp.floor(near[0]))
    end = wp.min(count, int(wp.ceil(near[1])) + 1)
    # A distance of a thousandth of a voxel from the border is larger than any rounding error.
    whole = span_within(base, step, lattice.image_shape, count, -1.0e-3)
    first = wp.max(begin, int(wp.ceil(whole[0])))
    last = wp.min(end, int(wp.floor(whole[1])) + 1)
    if near[1] < near[0]:
        begin = 0
        end = 0
    if whole[1] < whole[0] or last <= first:
        first = end
        last = end
    return wp.vec4i(begin, first, last, end)


@wp.func
def pull_line(
    image: wp.array(dtype=wp.float32),
    lattice: Lattice,
    slab: int,
    row: int,
    samples: wp.array(dtype=wp.float32),
    start: int,
):
    """Interpolate one row of intermediate samples."""
    line = lattice.image_shape[2]
    plane = lattice.image_shape[1] * line
    base = sample_base(lattice.matrix, slab, row)
    step = sample_step(lattice.matrix)
    limits = row_limits(lattice, base, step)
    clear_row(samples, start, lattice.shape[2])
    for i in range(limits[0], limits[1]):
        samples[start + i] = pull_sample(image, lattice.image_shape, base + wp.float32(i) * step)
    ahead = rows_ahead(lattice)
    pull_row(image, plane, line, samples, start, limits[1], limits[2], base, step, ahead)
    for i in range(limits[2], limits[3]):
        samples[start + i] = pull_sample(image, lattice.image_shape, base + wp.float32(i) * step)


@wp.func
def push_line(
    image: wp.array(dtype=wp.float32),
    lattice: Lattice,
    slab: int,
    row: int,
    samples: wp.array(dtype=wp.float32),
    start: int,
):
    """Transpose of :func:`pull_line`."""
    line = lattice.image_shape[2]
    plane = lattice.image_shape[1] * line
    base = sample_base(lattice.matrix, slab, row)
    step = sample_step(lattice.matrix)
    limits = row_limits(lattice, base, step)
    for i in range(limits[0], limits[1]):
        push_sample(image, lattice.image_shape, base + wp.float32(i) * step, samples[start + i])
    ahead = rows_ahead(lattice)
    push_row(image, plane, line, samples, start, limits[1], limits[2], base, step, ahead)
    for i in range(limits[2], limits[3]):
        push_sample(image, lattice.image_shape, base + wp.float32(i) * step, samples[start + i])


@wp.func
def slab_edge(slab: int, count: int, side: int) -> int:
    """First index of a slab, if ``side`` indices are cut into ``count`` slabs."""
    return (slab * side) // count


@wp.kernel
def pull_slabs(
    image: wp.array(dtype=wp.float32),
    lattice: Lattice,
    slabs: int,
    first_slab: int,
    slab_stride: int,
    samples: wp.array(dtype=wp.float32),
):
    """Interpolate all samples of every ``slab_stride``-th slab; ``samples`` is (slab, row, i)."""
    slab = first_slab + wp.tid() * slab_stride
    rows = lattice.shape[1]
    for u in range(
        slab_edge(slab, slabs, lattice.shape[0]), slab_edge(slab + 1, slabs, lattice.shape[0])
    ):
        for row in range(rows):
            pull_line(image, lattice, u, row, samples, (u * rows + row) * lattice.shape[2])


@wp.kernel
def push_slabs(
    image: wp.array(dtype=wp.float32),
    lattice: Lattice,
    slabs: int,
    first_slab: int,
    slab_stride: int,
    samples: wp.array(dtype=wp.float32),
):
    """Transpose of :func:`pull_slabs`: adds to ``image``."""
    slab = first_slab + wp.tid() * slab_stride
    rows = lattice.shape[1]
    for u in range(
        slab_edge(slab, slabs, lattice.shape[0]), slab_edge(slab + 1, slabs, lattice.shape[0])
    ):
        for row in range(rows):
            push_line(image, lattice, u, row, samples, (u * rows + row) * lattice.shape[2])


@wp.kernel
def gradient_across_rows(
    image: wp.array(dtype=wp.float32),
    lattice: Lattice,
    slabs: int,
    first_slab: int,
    slab_stride: int,
    weights: wp.array(dtype=wp.float32),
    ratio: int,
    precision: wp.array(dtype=wp.float32),
    scan: wp.array(dtype=wp.float32),
    measured: int,
    samples: wp.array(dtype=wp.float32),
    predicted: wp.array(dtype=wp.float32),
    gradient: wp.array(dtype=wp.float32),
    cost: wp.array(dtype=wp.float64),
):
    """Add ``A' P (A image - scan)`` to ``gradient``; the slice profile lies along the row axis.

    The axes of ``precision`` and ``scan`` are (slab, slice, i). ``scan`` counts as 0 unless
    ``measured`` is 1. ``samples`` (row, i) and ``predicted`` (slice, i) are temporary memory of
    one worker. ``cost[slab]`` receives ``sum(P (A image - scan)^2)``.
    """
    slab = first_slab + wp.tid() * slab_stride
    rows = lattice.shape[1]
    width = lattice.shape[2]
    taps = weights.shape[0]
    slices = (rows - taps) // ratio + 1
    total = wp.float64(0.0)
    for u in range(
        slab_edge(slab, slabs, lattice.shape[0]), slab_edge(slab + 1, slabs, lattice.shape[0])
    ):
        for row in range(rows):
            # No slice covers the rows between slices that are far apart.
            if row % ratio < taps:
                pull_line(image, lattice, u, row, samples, row * width)
        for k in range(slices):
            clear_row(predicted, k * width, width)
            for tap in range(taps):
                source = (k * ratio + tap) * width
                add_scaled_row(predicted, k * width, samples, source, width, weights[tap])
            at = (u * slices + k) * width
            total += weigh_residual_row(predicted, k * width, precision, scan, at, width, measured)
        clear_row(samples, 0, rows * width)
        for k in range(slices):
            for tap in range(taps):
                target = (k * ratio + tap) * width
                add_scaled_row(samples, target, predicted, k * width, width, weights[tap])
        for row in range(rows):
            if row % ratio < taps:
                push_line(gradient, lattice, u, row, samples, row * width)
    cost[slab] = total


@wp.kernel
def gradient_along_rows(
    image: wp.array(dtype=wp.float32),
    lattice: Lattice,
    slabs: int,
    first_slab: int,
    slab_stride: int,
    weights: wp.array(dtype=wp.float32),
    ratio: int,
    precision: wp.array(dtype=wp.float32),
    scan: wp.array(dtype=wp.float32),
    measured: int,
    samples: wp.array(dtype=wp.float32),
    predicted: wp.array(dtype=wp.float32),
    gradient: wp.array(dtype=wp.float32),
    cost: wp.array(dtype=wp.float64),
):
    """As :func:`gradient_across_rows`, with the slice profile along the rows.

    The axes of ``precision`` and ``scan`` are (slab, row, slice). ``samples`` (i) and
    ``predicted`` (slice) are temporary memory of one worker.
    """
    slab = first_slab + wp.tid() * slab_stride
    rows = lattice.shape[1]
    slices = (lattice.shape[2] - weights.shape[0]) // ratio + 1
    total = wp.float64(0.0)
    for u in range(
        slab_edge(slab, slabs, lattice.shape[0]), slab_edge(slab + 1, slabs, lattice.shape[0])
    ):
        for row in range(rows):
            pull_line(image, lattice, u, row, samples, 0)
            correlate_row(samples, 0, weights, ratio, predicted, 0, slices)
            at = (u * rows + row) * slices
            total += weigh_residual_row(predicted, 0, precision, scan, at, slices, measured)
            spread_row(predicted, 0, weights, ratio, samples, 0, slices)
            push_line(gradient, lattice, u, row, samples, 0)
    cost[slab] = total


@wp.kernel
def gradient_across_slabs(
    image: wp.array(dtype=wp.float32),
    lattice: Lattice,
    slabs: int,
    first_slab: int,
    slab_stride: int,
    weights: wp.array(dtype=wp.float32),
    ratio: int,
    precision: wp.array(dtype=wp.float32),
    scan: wp.array(dtype=wp.float32),
    measured: int,
    samples: wp.array(dtype=wp.float32),
    predicted: wp.array(dtype=wp.float32),
    gradient: wp.array(dtype=wp.float32),
    cost: wp.array(dtype=wp.float64),
):
    """As :func:`gradient_across_rows`, with the slice profile across the slabs.

    The axes of ``precision`` and ``scan`` are (slice, row, i). ``samples`` (i) and ``predicted``
    (i) are temporary memory of one worker.
    """
    slab = first_slab + wp.tid() * slab_stride
    rows = lattice.shape[1]
    width = lattice.shape[2]
    taps = weights.shape[0]
    slices = (lattice.shape[0] - taps) // ratio + 1
    total = wp.float64(0.0)
    for k in range(slab_edge(slab, slabs, slices), slab_edge(slab + 1, slabs, slices)):
        for row in range(rows):
            clear_row(predicted, 0, width)
            for tap in range(taps):
                pull_line(image, lattice, k * ratio + tap, row, samples, 0)
                add_scaled_row(predicted, 0, samples, 0, width, weights[tap])
            at = (k * rows + row) * width
            total += weigh_residual_row(predicted, 0, precision, scan, at, width, measured)
            for tap in range(taps):
                clear_row(samples, 0, width)
                add_scaled_row(samples, 0, predicted, 0, width, weights[tap])
                push_line(gradient, lattice, k * ratio + tap, row, samples, 0)
    cost[slab] = total
