"""Results of a run, written by the functions that runs write them with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bids_unires.config import RunConfig
from bids_unires.dataset.description import write_dataset_files
from bids_unires.dataset.naming import derivative_path, fov_mask_path, sidecar_path
from bids_unires.dataset.query import ParticipantPlan, plan_participants
from bids_unires.dataset.sidecar import derivative_uri, image_sidecar
from bids_unires.dataset.writing import write_image, write_json, write_mask
from bids_unires.records.image import ImageRecord

DatasetMaker = Callable[..., Path]
ResultsMaker = Callable[..., Path]

SHAPE = (6, 7, 8)


def write_results(
    out: Path,
    plan: ParticipantPlan,
    *,
    voxel_size: Sequence[float] = (1, 1, 1),
    space: str = "individual",
    descs: Sequence[str] = ("sr",),
    shift: float = 0.0,
) -> None:
    """Write images of one unit: T1w of noise around 100, each other contrast 100 more."""
    affine = np.diag([*voxel_size, 1.0])
    affine[0, 3] = shift
    mask = fov_mask_path(out, plan, voxel_size=voxel_size, space=space)
    write_mask(mask, np.ones(SHAPE), affine)
    for number, contrast in enumerate(plan.contrasts):
        for desc in descs:
            path = derivative_path(
                out, plan, contrast, desc=desc, voxel_size=voxel_size, space=space
            )
            values = np.random.default_rng(number).normal(100 * (number + 1), 5, SHAPE)
            values[0] = 0
            write_image(path, values, affine)
            content: Mapping[str, Any] = image_sidecar(
                plan,
                contrast,
                description="Made by a test.",
                voxel_size=voxel_size,
                spatial_reference=derivative_uri(out, mask),
            )
            record = ImageRecord(version="0.1.0", settings={"reg_scale": 4.0}, device="cpu")
            write_json(sidecar_path(path), record.in_sidecar(content))


@pytest.fixture
def plans(make_dataset: DatasetMaker, tmp_path: Path) -> dict[str, ParticipantPlan]:
    """Units of work: one whole, one with sessions, one that lacks a contrast."""
    bids_dir = make_dataset(
        "sub-01_T1w",
        "sub-01_rec-norm_T2w",
        "sub-01_FLAIR",
        "sub-02_ses-a_T1w",
        "sub-02_ses-a_FLAIR",
        "sub-02_ses-b_T1w",
        "sub-03_T1w",
        T1w={"EchoTime": 0.004, "RepetitionTime": 2.3, "SliceThickness": 4},
    )
    (bids_dir / "participants.tsv").write_text(
        "participant_id\tage\nsub-01\t40\nsub-02\t41\nsub-09\t70\n"
    )
    (bids_dir / "participants.json").write_text('{"age": {"Units": "years"}}')
    config = RunConfig(bids_dir, tmp_path / "out", "participant")
    return {plan.label: plan for plan in plan_participants(config)}


@pytest.fixture
def results(plans: dict[str, ParticipantPlan], tmp_path: Path) -> Path:
    """The results of all units."""
    out = tmp_path / "out"
    write_dataset_files(out, tmp_path / "raw")
    for plan in plans.values():
        write_results(out, plan)
    return out
