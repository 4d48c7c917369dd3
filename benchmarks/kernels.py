"""Times of single passes over an image, compared with torch's interpolation and a plain copy."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.clock import copy_seconds, grid_sample_seconds, seconds
from benchmarks.stacks import head_grid, stack, tensors
from bids_unires.kernels import descent, edges, pyramid
from bids_unires.model import ForwardOperator

FACTOR = (1e-4, 1e-4, 1e-4)
# Least number of arrays of the size of the image that a kernel reads and writes; used to compare
# its bandwidth with that of a copy.
ARRAYS = {"edge weights": 3, "direction": 7, "curvature": 4, "step": 10, "halve": 1, "double": 4}


def measure(device: torch.device) -> Iterator[dict[str, float | str]]:
    """Time every kernel at 1 mm.

    Times are in s and in units of one interpolation; for some kernels the bandwidth is given, as
    a fraction of that of a copy.
    """
    grid = head_grid(1.0)
    sample = grid_sample_seconds(grid.shape, device)
    copy = copy_seconds(grid.shape, device)
    yield {"kernel": "grid_sample (torch)", "seconds": sample}
    yield {"kernel": "copy (torch)", "seconds": copy}
    image = torch.rand(grid.shape, device=device)
    for axis, name in enumerate(("sagittal", "coronal", "axial")):
        scan = stack(grid, axis, seed=axis)
        operator = ForwardOperator(grid, scan.grid, pose=scan.pose)
        data, precision = tensors(scan, device)
        term, product = operator.data_term(data, precision), torch.zeros_like(image)
        tasks = {
            f"A'A, {name}": lambda t=term, p=product: t.add_normal(image, p),
            f"A, {name}": lambda o=operator: o.forward(image),
            f"A', {name}": lambda o=operator, d=data: o.adjoint(d),
        }
        for kernel, task in tasks.items():
            taken = seconds(task, device)
            yield {"kernel": kernel, "seconds": taken, "grid_samples": taken / sample}
    for kernel, task in _line_tasks(image).items():
        taken = seconds(task, device)
        share = ARRAYS[kernel] / 2 * copy / taken
        yield {
            "kernel": kernel,
            "seconds": taken,
            "grid_samples": taken / sample,
            "bandwidth_share": share,
        }


def _line_tasks(image: torch.Tensor) -> dict[str, object]:
    weights, scale = torch.rand_like(image), torch.rand_like(image) + 1
    gradient, last, normal, slope, direction = (torch.zeros_like(image) for _ in range(5))
    factors = torch.tensor([FACTOR], device=image.device)
    coarse = pyramid.halve(image)
    return {
        "edge weights": lambda: edges.edge_weights(image[None], factors, 0.1, weights),
        "direction": lambda: descent.preconditioned_direction(
            image, weights, gradient, scale, last, FACTOR, slope, direction
        ),
        "curvature": lambda: descent.curvature(weights, direction, last, normal, FACTOR),
        "step": lambda: descent.step(0.1, 0.1, direction, slope, last, normal, gradient, image),
        "halve": lambda: pyramid.halve(image),
        "double": lambda: pyramid.add_doubled(coarse, direction, slope),
    }
