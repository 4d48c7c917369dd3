"""The time and memory that the fit of a participant will take, estimated before it starts."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ...config import RunConfig
from ...dataset.scans import ParticipantPlan
from ...errors import BadDataError
from ...model import LesionLook
from ...model.fit.memory import MemoryNeed
from ...model.fit.scans import GivenContrast, GivenScan
from ...model.fit.super_resolution import need_of_fit
from .measures import MeasuredScan

# Processor time is counted in the time of a trilinear interpolation of a million voxels on one
# thread. The figures are those of three axial contrasts of a clinical session, part by part.
_PER_IMAGE_MEGAVOXEL = 75.0
_PER_SOLVED_MEGAVOXEL = 90.0
_PER_LEARNED_MEGAVOXEL = 20.0
_PER_LEARNER = 360.0
_PER_ALIGNED_SCAN = 310.0
# Small lesions that are put into the scans take this factor.
_WITH_LESIONS = 1.26
# Interpreter and libraries, in s.
_START_SECONDS = 4.0
# Share of the processor time during which one thread alone works.
_SERIAL_SHARE = 0.25
_UNIT_SIDE, _UNIT_RUNS = 100, 3


@dataclass(frozen=True)
class Expense:
    """What the fit of one participant will take, within a factor of about two.

    Parameters
    ----------
    memory
        Bytes of the process at its peak, on the CPU.
    processor
        Processor time in s; None where it cannot be told: on a GPU, or with options that make the
        fit go on for long in some scans only.
    """

    memory: int
    processor: float | None

    def seconds(self, threads: int) -> float | None:
        """Wall time in s with a number of threads."""
        if self.processor is None:
            return None
        return self.processor * (_SERIAL_SHARE + (1 - _SERIAL_SHARE) / threads)


def expense(
    plan: ParticipantPlan,
    scans: Sequence[MeasuredScan],
    config: RunConfig,
    unit: float | None,
) -> Expense | None:
    """Estimate what the fit of a participant will take.

    Parameters
    ----------
    plan
        The scans, grouped into contrasts.
    scans
        Those that can be used, as measured.
    config
        The configuration of the run.
    unit
        As from `unit_seconds`; None on a GPU.

    Returns
    -------
    Expense
        None if the fit could not start.
    """
    usable = {id(scan.scan): GivenScan(scan.volume, acquisition=scan.acquisition) for scan in scans}
    given = [
        (
            tuple(usable[id(scan)] for scan in contrast.scans if id(scan) in usable),
            contrast.modality,
        )
        for contrast in plan.contrasts
    ]
    settings = config.model
    # How lesions look does not change what they cost.
    look: LesionLook | None = "bright" if config.detectability else None
    contrasts = [
        GivenContrast(own, modality, lesions=look, measured=True) for own, modality in given if own
    ]
    if not contrasts or settings.method == "linear":
        return None
    try:
        need = need_of_fit(contrasts, settings)
    except BadDataError:
        return None
    foreseeable = not (settings.robust or settings.slice_motion or settings.uncertainty)
    processor = _processor(need, contrasts, unit) if unit and foreseeable else None
    return Expense(need.of_process, processor)


def unit_seconds() -> float:
    """Time in s of a trilinear interpolation of a million voxels on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        shape = (1, 1, _UNIT_SIDE, _UNIT_SIDE, _UNIT_SIDE)
        image = torch.ones(shape)
        turned = torch.tensor([[[1.0, 0.02, 0, 0], [-0.02, 1, 0, 0], [0, 0, 1, 0.01]]])
        points = torch.nn.functional.affine_grid(turned, list(shape), align_corners=True)
        times = []
        for _ in range(_UNIT_RUNS):
            began = time.perf_counter()
            torch.nn.functional.grid_sample(image, points, align_corners=True)
            times.append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    return min(times) * 1e6 / math.prod(shape)


def _processor(need: MemoryNeed, contrasts: Sequence[GivenContrast], unit: float) -> float:
    """Processor time in s."""
    count = len(contrasts)
    learners = sum(len(contrast.scans) == 1 for contrast in contrasts) if need.thin_voxels else 0
    solved = count * math.prod(need.grid.shape) / 1e6
    units = (
        (_PER_IMAGE_MEGAVOXEL + _PER_SOLVED_MEGAVOXEL) * solved
        + _PER_LEARNED_MEGAVOXEL * need.thin_voxels / 1e6
        + _PER_LEARNER * learners
        + _PER_ALIGNED_SCAN * (sum(len(contrast.scans) for contrast in contrasts) - 1)
    )
    return _START_SECONDS + unit * units * (_WITH_LESIONS if need.puts_lesions else 1.0)
