"""Timing that other work on the machine disturbs as little as possible."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def seconds(task: Callable[[], object], device: torch.device, runs: int = 7) -> float:
    """Median wall time of a call in s, after one call to warm up."""
    times = []
    for _ in range(runs + 1):
        _wait_for(device)
        began = time.perf_counter()
        task()
        _wait_for(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def grid_sample_seconds(shape: tuple[int, int, int], device: torch.device) -> float:
    """Time of one trilinear interpolation of a volume of this shape by torch, in s."""
    image = torch.rand(1, 1, *shape, device=device)
    identity = torch.eye(3, 4, device=device)[None]
    points = torch.nn.functional.affine_grid(identity, (1, 1, *shape), align_corners=True)
    sample = torch.nn.functional.grid_sample
    return seconds(lambda: sample(image, points, align_corners=True), device)


def copy_seconds(shape: tuple[int, int, int], device: torch.device) -> float:
    """Time of one copy of a volume of this shape, in s."""
    source, target = torch.rand(shape, device=device), torch.empty(shape, device=device)
    return seconds(lambda: target.copy_(source), device)
