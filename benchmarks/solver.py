"""Times of the solver on the problem of the reference implementation, and how its cost grows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import nibabel as nib
import numpy as np
import torch

from benchmarks.clock import grid_sample_seconds
from benchmarks.stacks import head_grid, stack
from bids_unires.model import Observation, Progress, solve
from bids_unires.space.grid import Grid
from tests.paths import DATA

CASE = DATA / "jtv2mm"
THRESHOLDS = (485_000, 481_000, 480_500)
GROWTH_ITERATIONS = 10
LAM = 0.005


def reference_problem(device: torch.device) -> tuple[list[dict[str, float]], list[Progress]]:
    """Solve the reference problem; return the cost of each objective and the history.

    The cost of reaching an objective is the time in s, the number of products with A'A, and the
    time in units of one interpolation.
    """
    case = json.loads((CASE / "case.json").read_text("utf-8"))
    contrasts = []
    for contrast, tau in enumerate(case["tau"]):
        image = nib.load(CASE / f"contrast-{contrast}.nii.gz")
        data = image.get_fdata(dtype=np.float32)
        contrasts.append([Observation(data, image.affine, tau)])
    grid = Grid(tuple(case["target_shape"]), np.array(case["target_affine"]))
    sample = grid_sample_seconds(grid.shape, device)
    solve(contrasts, grid, case["lam"], max_iter=2, device=str(device))
    history = solve(
        contrasts, grid, case["lam"], tolerance=1e-6, max_iter=200, device=str(device)
    ).history
    rows = []
    for threshold in THRESHOLDS:
        reached = next((state for state in history if state.objective <= threshold), None)
        if reached is not None:
            rows.append(
                {
                    "objective": threshold,
                    "seconds": reached.seconds,
                    "products": reached.products,
                    "grid_samples": reached.seconds / sample,
                }
            )
    end = history[-1]
    rows.append(
        {
            "objective": end.objective,
            "seconds": end.seconds,
            "products": end.products,
            "grid_samples": end.seconds / sample,
        }
    )
    return rows, list(history)


def growth(device: torch.device) -> Iterator[dict[str, float]]:
    """Time of one iteration, for different voxel sizes and numbers of contrasts and repeats.

    Times are in s for the iteration, and in ns per voxel.
    """
    cases = [(size, 1, 1) for size in (2.0, 1.5, 1.0, 0.7)]
    cases += [(2.0, contrasts, 1) for contrasts in (2, 3)] + [(2.0, 1, n) for n in (2, 3)]
    for voxel_mm, contrasts, repeats in cases:
        grid = head_grid(voxel_mm)
        scans = [
            [stack(grid, (c + n) % 3, seed=10 * c + n) for n in range(repeats)]
            for c in range(contrasts)
        ]
        history = solve(
            scans, grid, [LAM] * contrasts, tolerance=1e-9, max_iter=GROWTH_ITERATIONS,
            device=str(device),
        ).history  # fmt: skip
        # Not counted: the first iteration, which includes preparations that are made once.
        spent = (history[-1].seconds - history[1].seconds) / (GROWTH_ITERATIONS - 1)
        yield {
            "voxel_mm": voxel_mm,
            "contrasts": contrasts,
            "repeats": repeats,
            "iteration_seconds": spent,
            "nanoseconds_per_voxel": 1e9 * spent / math.prod(grid.shape),
        }


def three_contrasts(device: torch.device) -> dict[str, float]:
    """Solve for three contrasts of 181 x 217 x 181 voxels at 1 mm, to the default tolerance."""
    grid = head_grid(1.0)
    scans = [[stack(grid, axis, seed=axis)] for axis in range(3)]
    history = solve(scans, grid, [LAM / math.sqrt(3)] * 3, device=str(device)).history
    return {
        "seconds": history[-1].seconds,
        "iterations": len(history) - 1,
        "products": history[-1].products,
    }
