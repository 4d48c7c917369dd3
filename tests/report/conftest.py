"""Reports about a head that is made of ellipsoids, without running anything."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bids_unires.config import ModelSettings, SpaceSettings
from bids_unires.dataset.acquisition import acquisition_from_sidecar
from bids_unires.dataset.writing import write_image, write_mask
from bids_unires.model import NoiseEstimate, Progress, SliceProfile
from bids_unires.model.assess.residuals import describe_residuals
from bids_unires.model.detail.term import DetailStatement
from bids_unires.pipeline.group.table import QUALITY_COLUMNS, data_dictionary
from bids_unires.records.study import GridSettingsRecord
from bids_unires.report import (
    FitHistory,
    GroupReport,
    MeanPicture,
    MemberPicture,
    ParticipantReport,
    Reach,
    ReportedContrast,
    ReportedScan,
    ScanFit,
    SharedGrid,
    find_outliers,
)
from bids_unires.space.affines import translation
from bids_unires.space.grid import Grid
from bids_unires.space.volume import Volume

GRID = Grid((30, 36, 32), translation([-58, -70, -62]) @ np.diag([4.0, 4.0, 4.0, 1.0]))

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

ReportMaker = Callable[..., ParticipantReport]
CohortMaker = Callable[..., GroupReport]
Visitor = Callable[[Path, str], tuple[dict[str, Any], str]]

# Runs within the page: what a reader would do, and what the reader would then see.
PROBE = """
<script>
const errors = [];
addEventListener("error", (event) => errors.push(event.message || event.target.src), true);
addEventListener("unhandledrejection", (event) => errors.push(String(event.reason)));
addEventListener("securitypolicyviolation", (event) => errors.push(event.blockedURI));
</script>
"""


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
        residual=describe_residuals(residual, head),
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
    """Give a function like `report_of` whose files belong into ``tmp_path / "out"``."""
    return partial(report_of, tmp_path / "out")


def report_of(
    out: Path,
    *,
    label: str = "sub-01",
    dataset: str = "Heads",
    name: str = "T1w",
    fitted: bool = True,
) -> ParticipantReport:
    """Two contrasts, the first with a repeat."""
    folder = out / "sub-01" / "anat"
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
        detail = (
            DetailStatement(3.21, 0.834, used_other_contrast=True)
            if fitted and repeats == 1
            else None
        )
        contrasts.append(ReportedContrast(contrast, image, path, tuple(scans), lam, detail=detail))
    states = tuple(Progress(0.1 * k, 2 * k, 1e6 * (1 + 0.5**k)) for k in range(12))
    return ParticipantReport(
        label=label,
        dataset=dataset,
        grid=GRID,
        contrasts=tuple(contrasts),
        model=ModelSettings(method="super-resolution" if fitted else "linear"),
        space=SpaceSettings(),
        history=FitHistory(states, 11, converged=True, tolerance=1e-4) if fitted else None,
        device="cpu",
        seconds=12.3,
        peak_memory=2**30,
        warnings=("a word of warning",),
    )


@pytest.fixture
def make_cohort(tmp_path: Path) -> CohortMaker:
    """Two contrasts of some participants, their files in ``tmp_path / "out"``.

    The last participant has no FLAIR; one is very noisy.
    """

    def make(*, count: int = 6, dataset: str = "Heads", reason: str = "it has none") -> GroupReport:
        out = tmp_path / "out"
        grid_path = out / "space-study_res-4mm_desc-grid_mask.nii.gz"
        write_mask(grid_path, np.ones(GRID.shape), GRID.affine)
        members, rows, images = [], [], {"T1w": [], "FLAIR": []}
        for number in range(1, count + 1):
            label = f"sub-{number}"
            image = ellipsoids(GRID, 3.0, number)
            path = out / label / "anat" / f"{label}_space-study_res-4mm_desc-sr_T1w.nii.gz"
            mask = path.with_name(f"{label}_space-study_res-4mm_desc-brain_mask.nii.gz")
            write_image(path, image, GRID.affine)
            write_mask(mask, image > 110, GRID.affine)
            members.append(MemberPicture(label, "T1w", path, mask, "brain"))
            for contrast in images:
                row: dict[str, Any] = {"participant_id": label, "contrast": contrast}
                if contrast == "FLAIR" and number == count:
                    rows.append({**row, "status": "missing", "reason": reason})
                    continue
                images[contrast].append(image)
                noise = 40.0 if number == 3 else 3.0 + 0.1 * number
                row |= {"status": "done", "mode": "refit", "scans": number, "noise_sd": noise}
                row |= {"residual_mean": -0.25 + 0.1 * number, "residual_far_share": 0.001 * number}
                rows.append({**row, "sharpness": 0.1, "image": path.relative_to(out).as_posix()})
        means = []
        for contrast, found in images.items():
            if not found:
                continue
            path = out / f"space-study_res-4mm_desc-mean_{contrast}.nii.gz"
            write_image(path, np.mean(found, axis=0), GRID.affine)
            means.append(MeanPicture(contrast, path, len(found)))
        (out / "sub-1.html").write_text("<title>sub-1</title>")
        return GroupReport(
            dataset=dataset,
            shared=shared_grid(grid_path, tuple(member.label for member in members)),
            means=tuple(means),
            members=tuple(members),
            columns=data_dictionary(),
            rows=rows,
            outliers=find_outliers(rows, QUALITY_COLUMNS),
            settings={"reg_scale": (4.0,), "tolerance": (1e-4, 1e-3)},
            devices={"cpu": 2 * count - 1},
            versions={"1.2.3": 2 * count - 1},
            model=ModelSettings(),
            methods={"refit": 2 * count - 1},
        )

    return make


def shared_grid(path: Path, members: tuple[str, ...]) -> SharedGrid:
    directions = ("left", "right", "back", "front", "bottom", "top")
    ends = ((-60, 60), (-72, 72), (-64, 64))
    reaches = [
        Reach(direction, 0.75 * ends[index // 2][index % 2], ends[index // 2][index % 2], who, gain)
        for index, (direction, who, gain) in enumerate(
            zip(directions, ("sub-2", "sub-4") * 3, (1.5, 2.5) * 3, strict=True)
        )
    ]
    settings = GridSettingsRecord(
        fov="brain",
        template="MNI152NLin2009cAsym",
        align="rigid",
        voxel_size=(4.0, 4.0, 4.0),
        grid_margin=5.0,
        grid_policy="pow23",
        grid_multiple=16,
    )
    return SharedGrid(path, GRID, 2, settings, members, tuple(reaches))


@pytest.fixture
def visit(tmp_path: Path) -> Visitor:
    """Let a reader, a script, loose on a page: what it found, and the browser's own messages."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")

    def let_loose(page: Path, reader: str) -> tuple[dict[str, Any], str]:
        text = page.read_text("utf-8")
        probed = page.with_name("probed.html")
        probed.write_text(
            text.replace("<title>", PROBE + "<title>", 1).replace("</body>", reader + "</body>"),
            "utf-8",
        )
        flags = (
            "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
            "--disable-background-networking --disable-component-update --disable-sync "
            "--host-resolver-rules=MAP*~NOTFOUND --window-size=1200,900 --dump-dom "
            "--enable-logging=stderr --timeout=60000 --virtual-time-budget=12000"
        ).replace("MAP*~", "MAP * ~")
        arguments = re.split(r" (?=--)", flags)
        done = subprocess.run(
            [str(CHROMIUM), *arguments, f"--user-data-dir={tmp_path / 'profile'}", probed.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        match = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
        assert match, done.stderr[-2000:]
        return json.loads(unescape(match[1])), done.stderr

    return let_loose
