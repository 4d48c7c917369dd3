"""What a run was asked to do: frozen, checked when made, and serialisable."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from .errors import UsageError

MRI_SUFFIXES = ("T1w", "T2w", "PDw", "FLAIR", "T2starw")
CT_SUFFIX = "ct"
LEVELS = ("participant", "group")
NO_TEMPLATE = "none"
# Of the posterior, for --uncertainty.
DEFAULT_SAMPLES = 8
LEAST_SAMPLES, MOST_SAMPLES = 2, 256

Modality: TypeAlias = Literal["MR", "CT"]
Method: TypeAlias = Literal["super-resolution", "denoise", "linear"]
FieldOfView: TypeAlias = Literal["brain", "head"]
Alignment: TypeAlias = Literal["none", "rigid", "similarity"]
GroupMode: TypeAlias = Literal["auto", "refit", "reslice"]
LearningEffort: TypeAlias = Literal["full", "brief"]
RegScale: TypeAlias = float | Literal["auto"]
GridPolicy: TypeAlias = Literal["pow23", "pow2", "multiple"]


@dataclass(frozen=True)
class ModelSettings:
    """Settings of the model, the same for every scan of a run.

    Parameters
    ----------
    voxel_size
        Voxel size in mm of the reconstructed images along x, y and z. Three zeros stand for
        the finest voxel size of the scans, isotropic, and go with ``denoise`` only.
    reg_scale
        Strength of the prior, without unit; the weight of contrast c is
        ``reg_scale * sqrt(C) / mean(mu_c)`` (Brudfors et al. 2018, with ``sqrt(1 / C)``).
        ``auto`` chooses the weights from the scans; see `model.strength`.
    tolerance
        The fit stops when an outer iteration lowers the objective by less than
        this fraction of it.
    max_iter
        Upper bound on the solver's iterations, counted once poses and weights of repeats have
        settled, and for each of the groups of contrasts that are solved for one after the other.
    coregister
        Align all scans rigidly to each other before the fit; without it headers are believed.
    method
        ``super-resolution`` inverts slice profiles under the prior, ``denoise`` keeps the
        prior but takes the scans as point samples, and ``linear`` interpolates the scans
        without any prior.
    unified_rigid
        Refine the poses of the scans within the fit.
    interleave_correction
        Estimate, for every scan, the ratio of intensity between its odd and even slices.
    uncertainty
        Number of samples that a standard deviation of every voxel is estimated from; None
        for no such map.
    slice_motion
        Let groups of slices of 2-D scans have poses of their own.
    robust
        Weigh every slice by how well all others predict it, and leave out bad ones.
    learned_detail
        Where a contrast has a single scan of thick slices, learn from its planes, and from
        other contrasts, what lies within them.
    learning_effort
        ``full``, or ``brief`` to try things out: a few seconds, and less is learned.

    Raises
    ------
    UsageError
        If a value is outside its range, or two contradict each other; the message names it.
    """

    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    reg_scale: RegScale = "auto"
    tolerance: float = 2e-5
    max_iter: int = 100
    coregister: bool = True
    method: Method = "super-resolution"
    unified_rigid: bool = True
    interleave_correction: bool = False
    uncertainty: int | None = None
    slice_motion: bool = False
    robust: bool = False
    learned_detail: bool = True
    learning_effort: LearningEffort = "full"

    def __post_init__(self) -> None:
        _check_choice("method", self.method, Method)
        _check_choice("learning-effort", self.learning_effort, LearningEffort)
        self._check_voxel_size()
        if self.reg_scale != "auto" and not _is_positive(self.reg_scale):
            raise UsageError(f"--reg-scale must be above 0 or 'auto', got {self.reg_scale!r}")
        if self.robust and self.method == "linear":
            raise UsageError(
                "--robust weighs the slices in the fit, and --linear does not fit: drop one of them"
            )
        if not 0 < self.tolerance < 1:
            raise UsageError(f"--tolerance must lie between 0 and 1, got {self.tolerance}")
        if self.max_iter < 1:
            raise UsageError(f"--max-iter must be at least 1, got {self.max_iter}")
        self._check_uncertainty()
        if self.slice_motion and self.method != "super-resolution":
            raise UsageError(f"--slice-motion is for super-resolution, not for {self.method}")
        if self.slice_motion and self.robust:
            raise UsageError(
                "--robust judges slices where their stack lies, and --slice-motion moves them: "
                "drop one of them"
            )
        if self.slice_motion and not self.unified_rigid:
            raise UsageError("--slice-motion refines poses and --no-unified-rigid forbids it")

    def _check_uncertainty(self) -> None:
        if self.uncertainty is None:
            return
        if not LEAST_SAMPLES <= self.uncertainty <= MOST_SAMPLES:
            raise UsageError(
                f"--uncertainty takes {LEAST_SAMPLES} to {MOST_SAMPLES} samples, "
                f"got {self.uncertainty}"
            )
        if self.method == "linear":
            raise UsageError(
                "--uncertainty needs a model of the scans, and --linear has none: leave one of "
                "the two out"
            )

    def _check_voxel_size(self) -> None:
        if tuple(self.voxel_size) == (0, 0, 0):
            if self.method != "denoise":
                raise UsageError(
                    "--voxel-size 0 (the finest of the scans) is for --denoise, "
                    f"not for {self.method}"
                )
        elif len(self.voxel_size) != 3 or not all(
            math.isfinite(size) and 0.1 <= size <= 20 for size in self.voxel_size
        ):
            raise UsageError(
                "--voxel-size must be 0.1 to 20 mm on each axis, or 0 for the finest of the "
                f"scans, got {self.voxel_size}"
            )


@dataclass(frozen=True)
class SpaceSettings:
    """Where the images of a participant lie.

    Parameters
    ----------
    common_output
        Put the images of every participant on one grid, the box of the template, with
        sides that a network can halve again and again. Needs an alignment and a voxel size.
    fov
        What the common grid has to hold.
    template
        TemplateFlow's name of the template, or ``none``: the group level then aligns the
        participants to their own mean.
    align
        How the scans are aligned to the template before the fit, at the group level the
        participants to what they share; ``similarity`` is rigid with one scale for all axes.

    Raises
    ------
    UsageError
        If a value is not one of these, or something needs a template and there is none.
    """

    common_output: bool = False
    fov: FieldOfView = "brain"
    template: str = "MNI152NLin2009cAsym"
    align: Alignment = "none"

    def __post_init__(self) -> None:
        _check_choice("fov", self.fov, FieldOfView)
        _check_choice("align", self.align, Alignment)
        if not (self.template.isascii() and self.template.isalnum()):
            raise UsageError(
                f"--template must be a name of TemplateFlow's, such as MNI152NLin2009cAsym, "
                f"got {self.template!r}"
            )
        if self.template == NO_TEMPLATE and (self.common_output or self.align == "similarity"):
            what = "--common-output" if self.common_output else f"--align {self.align}"
            raise UsageError(f"{what} needs a template, got --template {NO_TEMPLATE}")


@dataclass(frozen=True)
class GroupSettings:
    """How the group level brings the participants onto one grid.

    Parameters
    ----------
    mode
        ``refit`` reconstructs every participant again on the shared grid, ``reslice``
        interpolates the participant level's images, and ``auto`` reconstructs those whose
        scans are there and interpolates the others.
    grid_policy
        Which sides the grid may have: ``pow23`` 2^k or 3*2^k, ``pow2`` 2^k, ``multiple``
        multiples of ``grid_multiple``.
    grid_multiple
        In voxels, for the policy ``multiple``.
    grid_margin
        Space in mm kept around every brain, or head.

    Raises
    ------
    UsageError
        If a value is outside its range; the message names it.
    """

    mode: GroupMode = "auto"
    grid_policy: GridPolicy = "pow23"
    grid_multiple: int = 16
    grid_margin: float = 5.0

    def __post_init__(self) -> None:
        _check_choice("group-mode", self.mode, GroupMode)
        _check_choice("grid-policy", self.grid_policy, GridPolicy)
        if self.grid_multiple < 1:
            raise UsageError(f"--grid-multiple must be at least 1, got {self.grid_multiple}")
        if not 0 <= self.grid_margin <= 100:
            raise UsageError(f"--grid-margin must be 0 to 100 mm, got {self.grid_margin}")


@dataclass(frozen=True)
class RunConfig:
    """One call of the command line; see ``bids_unires --help`` for each field.

    Participant and session labels are kept without their ``sub-``/``ses-``
    prefix. An empty tuple selects everything; ``modalities`` holds suffixes.

    Raises
    ------
    UsageError
        If options contradict each other.
    """

    bids_dir: Path
    output_dir: Path
    level: str
    participant_label: tuple[str, ...] = ()
    session_label: tuple[str, ...] = ()
    bids_filter_file: Path | None = None
    modalities: tuple[str, ...] = MRI_SUFFIXES
    labels: Path | None = None
    reset_origin: bool = False
    skip_bids_validation: bool = False
    bids_database_dir: Path | None = None
    work_dir: Path | None = None
    cluster: str | None = None
    cluster_args: str = ""
    scheduler: str | None = None
    device: str = "auto"
    nprocs: int = 1
    omp_nthreads: int | None = None
    mem_mb: int | None = None
    dry_run: bool = False
    resume: bool = True
    reports_only: bool = False
    stop_on_first_crash: bool = False
    verbosity: int = 0
    model: ModelSettings = field(default_factory=ModelSettings)
    space: SpaceSettings = field(default_factory=SpaceSettings)
    group: GroupSettings = field(default_factory=GroupSettings)

    def __post_init__(self) -> None:
        if self.space.template == NO_TEMPLATE and self.level != "group":
            raise UsageError(
                f"--template {NO_TEMPLATE} is for the group level, got level {self.level}"
            )
        if self.level == "group":
            self._check_shared_space()
            if self.model.uncertainty is not None:
                raise UsageError(
                    "--uncertainty is for the participant level: the group level makes no such maps"
                )
        if self.level == "participant" and self.space.common_output:
            self._check_common_grid()

    def _check_common_grid(self) -> None:
        if self.space.align == "none":
            raise UsageError(
                "--common-output is a box of the template, and with --align none nobody is aligned "
                "to it: use --align rigid or similarity, or leave --common-output out"
            )
        if self.model.voxel_size == (0, 0, 0):
            raise UsageError(
                "--common-output needs one voxel size for everybody, and --denoise takes that of "
                "the scans: name one by --voxel-size"
            )

    def _check_shared_space(self) -> None:
        if self.model.voxel_size == (0, 0, 0):
            raise UsageError("--voxel-size 0 has no meaning at the group level: name a size in mm")
        if self.space.fov == "brain" and self.space.template == NO_TEMPLATE:
            raise UsageError(
                f"--fov brain needs a template, which knows where the brain is, got --template "
                f"{NO_TEMPLATE}: use --fov head"
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain types only (paths as strings, tuples as lists), ready for JSON or TOML."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > 0


def _check_choice(option: str, value: str, choices: object) -> None:
    allowed = get_args(choices)
    if value not in allowed:
        raise UsageError(f"--{option} must be one of {', '.join(allowed)}, got {value!r}")


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
