"""The reference's problem of three contrasts with orthogonal thick slices."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from bids_unires.model import ForwardOperator, Observation, SliceProfile
from bids_unires.space.grid import Grid
from tests.paths import DATA

FOLDER = DATA / "jtv2mm"


@dataclass(frozen=True)
class ReferenceProblem:
    """Scans of one head with everything the objective takes as given."""

    contrasts: list[list[Observation]]
    grid: Grid
    lam: list[float]
    expected: dict[str, Any]


@pytest.fixture(scope="session")
def reference_problem() -> ReferenceProblem:
    case = json.loads((FOLDER / "case.json").read_text())
    contrasts = []
    for number, tau in enumerate(case["tau"]):
        image = nib.load(FOLDER / f"contrast-{number}.nii.gz")
        data = np.asarray(image.dataobj, dtype=np.float32)
        contrasts.append([Observation(data, image.affine, tau)])
    grid = Grid(tuple(case["target_shape"]), np.array(case["target_affine"]))
    return ReferenceProblem(contrasts, grid, case["lam"], case)


@pytest.fixture(scope="session")
def sine_field(reference_problem: ReferenceProblem) -> torch.Tensor:
    """The images at which the reference's objective is known besides the start."""
    i, j, k = np.ogrid[tuple(slice(side) for side in reference_problem.grid.shape)]
    images = [
        100 * (c + 1) * (1 + np.sin(0.11 * i + 0.3 * c) * np.cos(0.07 * j) * np.sin(0.05 * k + 0.5))
        for c in range(len(reference_problem.contrasts))
    ]
    return torch.tensor(np.stack(images), dtype=torch.float32)


@pytest.fixture(scope="session")
def trilinear_start(reference_problem: ReferenceProblem) -> torch.Tensor:
    """The images the reference starts from: point samples of the scans, 0 beyond their centres."""
    points = SliceProfile("dirac", "dirac")
    return torch.stack(
        [
            ForwardOperator(scan.grid, reference_problem.grid, profile=points).forward(
                torch.as_tensor(scan.data)
            )
            for (scan,) in reference_problem.contrasts
        ]
    )
