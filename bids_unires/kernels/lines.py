"""Kernels that go through an image line by line: one source for CPU and CUDA.

A line is the voxels that follow each other in memory, ``(x, y, :)``. A thread handles a
stretch of one: all of it on the CPU, where the compiler vectorises the loop, and a few
voxels on the GPU. What a stretch adds up to goes to a place of its own, and those sums are
added in one order, so that results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import warp as wp
from torch import Tensor

from . import runtime

_GPU_STRETCH = 2

# For functions of `shape`, `x`, `y`, `begin`, `count` and `factor`, the square of what
# differences along each axis are multiplied with. `up_x` leads to the neighbour above along
# x; where there is none it is 0, and so is `more_x`: that neighbour counts as 0.
NEIGHBOURS = """
    #pragma clang fp contract(fast)
    #pragma clang fp reassociate(on)
    const int line = shape.c[2], plane = shape.c[1] * line, last = line - 1;
    const int at = x * plane + y * line;
    const int end = begin + count < line ? begin + count : line;
    const int up_x = x + 1 < shape.c[0] ? plane : 0, up_y = y + 1 < shape.c[1] ? line : 0;
    const float more_x = up_x ? 1.0f : 0.0f, more_y = up_y ? 1.0f : 0.0f;
    const float kx = factor.c[0], ky = factor.c[1], kz = factor.c[2];
"""


def sum_over_lines(
    kernel: wp.Kernel, like: Tensor, inputs: Sequence[object], sums: int
) -> tuple[float, ...]:
    """Launch a kernel over all lines of an image and add up what the stretches found.

    Parameters
    ----------
    kernel
        Takes the shape, the length of a stretch and the first line, then ``inputs``, then
        an array (line, stretch, sum) of float64. Its threads are (line, stretch).
    like
        An image ``(X, Y, Z)`` of the shape and on the device to work on.
    inputs
        What the kernel takes.
    sums
        How many sums each stretch yields; the array has one place at least.
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
    """How many voxels of a line of ``length`` one thread handles."""
    return length if device.type == "cpu" else min(length, _GPU_STRETCH)
