"""Kernels that process an image line by line: one source for CPU and CUDA.

A line is the voxels ``(x, y, :)``, which are contiguous in memory. A thread handles a stretch of a
line: the whole line on the CPU, where the compiler vectorises the loop, and a few voxels on the
GPU. Each stretch writes its sums to an element of its own. These are added in a fixed order, so
that results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import warp as wp
from torch import Tensor

from . import runtime

_GPU_STRETCH = 2

# Beginning of functions with the arguments `shape`, `x`, `y`, `begin`, `count` and `factor`.
# `factor` is the squared weight of the differences along each axis. `up_x` is the offset to the
# next voxel along x, and 0 after the last voxel, where no difference is counted.
NEIGHBOURS = """
    #pragma clang fp contract(fast)
    #pragma clang fp reassociate(on)
    const int line = shape.c[2], plane = shape.c[1] * line, last = line - 1;
    const int at = x * plane + y * line;
    const int end = begin + count < line ? begin + count : line;
    const int up_x = x + 1 < shape.c[0] ? plane : 0, up_y = y + 1 < shape.c[1] ? line : 0;
    const float kx = factor.c[0], ky = factor.c[1], kz = factor.c[2];
"""


def sum_over_lines(
    kernel: wp.Kernel, like: Tensor, inputs: Sequence[object], sums: int
) -> tuple[float, ...]:
    """Launch a kernel over all lines of an image, and add up the sums of all stretches.

    Parameters
    ----------
    kernel
        Its arguments are the shape, the length of a stretch, the first line, ``inputs``, and an
        array of float64 with the axes (line, stretch, sum). Its threads are (line, stretch).
    like
        An image ``(X, Y, Z)`` with the shape and on the device of the computation.
    inputs
        Arguments of the kernel besides these.
    sums
        Number of sums of each stretch; the array holds at least one.

    Returns
    -------
    tuple of float
        Each sum, added over all stretches.
    """
    lines, length = like.shape[0] * like.shape[1], like.shape[2]
    stretch = stretch_length(length, like.device)
    parts = -(-length // stretch)
    found = torch.empty((lines, parts, max(sums, 1)), dtype=torch.float64, device=like.device)
    found_array = runtime.as_array(found)
    device = runtime.device_of(like.device)
    runtime.load(kernel.module.name, str(device))

    def launch(first: int, count: int) -> None:
        arguments = [wp.vec3i(*like.shape), stretch, first, *inputs, found_array]
        wp.launch(kernel, (count, parts), inputs=arguments, device=device)

    if like.device.type == "cpu":
        runtime.split_among_threads(lines, launch)
    else:
        launch(0, lines)
    return tuple(found.sum(dim=(0, 1)).tolist()) if sums else ()


def stretch_length(length: int, device: torch.device) -> int:
    """Number of voxels that one thread handles, of a line of ``length`` voxels."""
    return length if device.type == "cpu" else min(length, _GPU_STRETCH)
