"""What a run was asked to do: frozen, checked when made, and serialisable."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .errors import UsageError

MRI_SUFFIXES = ("T1w", "T2w", "PDw", "FLAIR", "T2starw")
LEVELS = ("participant",)


@dataclass(frozen=True)
class ModelSettings:
    """Settings of the model, the same for every scan of a run.

    Parameters
    ----------
    voxel_size
        Voxel size in mm of the reconstructed images along x, y and z.
    reg_scale
        Strength of the prior, without unit; the weight of contrast c is
        ``reg_scale * sqrt(1 / C) / mean(mu_c)`` (Brudfors et al. 2018).
    tolerance
        The fit stops when an outer iteration lowers the objective by less than
        this fraction of it.
    max_iter
        Upper bound on outer iterations.
    coregister
        Align all scans rigidly to the first one before the fit.

    Raises
    ------
    UsageError
        If a value is outside its range; the message names it.
    """

    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    reg_scale: float = 4.0
    tolerance: float = 1e-4
    max_iter: int = 100
    coregister: bool = True

    def __post_init__(self) -> None:
        if len(self.voxel_size) != 3 or not all(
            math.isfinite(size) and 0.1 <= size <= 20 for size in self.voxel_size
        ):
            raise UsageError(f"voxel size must be 0.1 to 20 mm on each axis, got {self.voxel_size}")
        if not (math.isfinite(self.reg_scale) and self.reg_scale > 0):
            raise UsageError(f"reg-scale must be above 0, got {self.reg_scale}")
        if not 0 < self.tolerance < 1:
            raise UsageError(f"tolerance must lie between 0 and 1, got {self.tolerance}")
        if self.max_iter < 1:
            raise UsageError(f"max-iter must be at least 1, got {self.max_iter}")


@dataclass(frozen=True)
class RunConfig:
    """One call of the command line; see ``bids_unires --help`` for each field.

    Participant and session labels are kept without their ``sub-``/``ses-``
    prefix. An empty tuple selects everything; ``modalities`` holds suffixes.
    """

    bids_dir: Path
    output_dir: Path
    level: str
    participant_label: tuple[str, ...] = ()
    session_label: tuple[str, ...] = ()
    bids_filter_file: Path | None = None
    modalities: tuple[str, ...] = MRI_SUFFIXES
    skip_bids_validation: bool = False
    bids_database_dir: Path | None = None
    device: str = "auto"
    nprocs: int = 1
    omp_nthreads: int | None = None
    mem_mb: int | None = None
    dry_run: bool = False
    stop_on_first_crash: bool = False
    verbosity: int = 0
    model: ModelSettings = field(default_factory=ModelSettings)

    def as_dict(self) -> dict[str, Any]:
        """Plain types only (paths as strings, tuples as lists), ready for JSON or TOML."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
