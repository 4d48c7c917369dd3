"""Reports about a head that is made of ellipsoids, without running anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bids_unires.acquisition import acquisition_from_sidecar
from bids_unires.config import ModelSettings, SpaceSettings
from bids_unires.geometry import Grid, translation
from bids_unires.model import NoiseEstimate, Progress, SliceProfile
from bids_unires.model.residuals import describe
from bids_unires.report import (
    FitHistory,
    ParticipantReport,
    ReportedContrast,
    ReportedScan,
    ScanFit,
)
from bids_unires.volume import Volume

GRID = Grid((30, 36, 32), translation([-58, -70, -62]) @ np.diag([4.0, 4.0, 4.0, 1.0]))

ReportMaker = Callable[..., ParticipantReport]


def ellipsoids(grid: Grid, noise_sd: float = 0.0, seed: int = 0) -> np.ndarray:
    """A head with two ventricles, brighter on the left, on some grid."""
    index = np.moveaxis(np.indices(grid.shape), 0, -1)
    points = index @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    image = np.zeros(grid.shape)
    for centre, radii, value in (
        ((0, 0, 0), (44, 60, 50), 90.0),
        ((0, 0, 4), (36, 52, 40), 150.0),
        ((-14, 6, 6), (7, 22, 12), 200.0),
        ((14, 6, 6), (7, 22, 12), 40.0),
    ):
        image[np.linalg.norm((points - np.array(centre)) / np.array(radii), axis=-1) < 1] = value
    noise = np.random.default_rng(seed).normal(scale=noise_sd, size=(2, *grid.shape))
    return np.hypot(image + noise[0], noise[1]).astype(np.float32)


def thick_scan(shift: float = 0.0, seed: int = 0) -> Volume:
    grid = Grid((30, 36, 11), translation([-58 + shift, -70, -60]) @ np.diag([4.0, 4.0, 12.0, 1]))
    return Volume(ellipsoids(grid, 4.0, seed), grid.affine)


def fit_of(scan: Volume) -> ScanFit:
    residual = np.random.default_rng(1).normal(size=scan.data.shape).astype(np.float32)
    head = scan.data > 60
    return ScanFit(
        NoiseEstimate(4.0, 5.0, 130.0, "rice-mixture"),
        SliceProfile("dirac", "rect", gap=0.2, axis=2),
        interleave=0.0,
        scale=4.0,
        residual=describe(residual, head),
        residual_map=Volume(np.where(head, residual, np.float32(np.nan)), scan.affine),
    )


@pytest.fixture
def head_grid() -> Grid:
    return GRID


@pytest.fixture
def head_image() -> np.ndarray:
    return ellipsoids(GRID)


@pytest.fixture
def make_report(tmp_path: Path) -> ReportMaker:
    """Two contrasts, the first with a repeat; files belong into ``tmp_path / "out"``."""

    def make(
        *, label: str = "sub-01", dataset: str = "Heads", name: str = "T1w", fitted: bool = True
    ) -> ParticipantReport:
        folder = tmp_path / "out" / "sub-01" / "anat"
        contrasts = []
        for number, (contrast, repeats) in enumerate(((name, 2), ("FLAIR", 1))):
            scans = []
            for repeat in range(repeats):
                volume = thick_scan(float(repeat), seed=10 * number + repeat)
                sidecar = {"MRAcquisitionType": "2D", "SliceThickness": 9.6}
                scans.append(
                    ReportedScan(
                        f"sub-01_run-{repeat + 1}_{contrast}.nii.gz",
                        volume,
                        translation([-repeat, 0, 0]),
                        acquisition_from_sidecar(sidecar, volume.affine),
                        folder / f"sub-01_run-{repeat + 1}_from-{contrast}_xfm.txt",
                        fit_of(volume) if fitted else None,
                    )
                )
            path = folder / f"sub-01_desc-sr_{contrast}.nii.gz"
            image = ellipsoids(GRID)
            lam = 0.02 if fitted else None
            contrasts.append(ReportedContrast(contrast, image, path, tuple(scans), lam))
        states = tuple(Progress(0.1 * k, 2 * k, 1e6 * (1 + 0.5**k)) for k in range(12))
        return ParticipantReport(
            label=label,
            dataset=dataset,
            grid=GRID,
            contrasts=tuple(contrasts),
            model=ModelSettings(method="super-resolution" if fitted else "linear"),
            space=SpaceSettings(),
            history=FitHistory(states, 11, converged=True) if fitted else None,
            device="cpu",
            seconds=12.3,
            peak_memory=2**30,
            warnings=("a word of warning",),
        )

    return make
