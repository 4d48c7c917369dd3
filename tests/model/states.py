"""Contrasts, problems and motions that tests make up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from bids_unires.config import Modality
from bids_unires.model import NoiseEstimate, Observation
from bids_unires.model.intensity.preprocessing import PreparedContrast, PreparedScan
from bids_unires.model.intensity.scan_state import ScanState
from bids_unires.model.scanner.slice_groups import MovedGroup, SliceGroup, SliceMotion
from bids_unires.model.solve.problem import Problem
from bids_unires.model.state import ContrastState
from bids_unires.space.affines import Affine
from bids_unires.space.grid import Grid
from bids_unires.space.volume import Volume

CPU = torch.device("cpu")
UNIT_NOISE = NoiseEstimate(1.0, 0.0, 100.0, "rice-mixture")


def contrast_of(
    scans: Sequence[Observation],
    weight: float,
    noise: NoiseEstimate = UNIT_NOISE,
    modality: Modality = "MR",
    **known: Any,
) -> ContrastState:
    """A contrast of scans that share their noise."""
    states = tuple(ScanState.as_acquired(scan, noise) for scan in scans)
    return ContrastState(modality, states, weight=weight, **known)


def problem_of(*contrasts: ContrastState, grid: Grid, **known: Any) -> Problem:
    """Contrasts to be solved for together on the CPU."""
    return Problem(contrasts, grid, CPU, **known)


def prepared_of(
    scans: Sequence[Observation], noise: NoiseEstimate = UNIT_NOISE
) -> PreparedContrast:
    """A contrast of MR as it is before the fit."""
    return PreparedContrast(
        "MR",
        tuple(
            PreparedScan(Volume(scan.data, scan.affine), noise, ScanState.as_acquired(scan, noise))
            for scan in scans
        ),
    )


def motion_of(
    groups: Iterable[SliceGroup], motions: Iterable[Affine], source: str = "test"
) -> SliceMotion:
    """How groups of slices moved."""
    pairs = zip(groups, motions, strict=True)
    return SliceMotion(tuple(MovedGroup(group, motion) for group, motion in pairs), source)
