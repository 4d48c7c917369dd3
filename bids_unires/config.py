"""The configuration of a run.

Its classes cannot be changed once made, check their values when made, and can be written to JSON
or TOML.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from .errors import UsageError

MRI_SUFFIXES = ("T1w", "T2w", "PDw", "FLAIR", "T2starw")
CT_SUFFIX = "ct"
# Suffixes of anatomical images in BIDS, with those of maps and of former versions. A name that is
# none of them, and that no image of the dataset has, is taken for a spelling mistake.
ANATOMICAL_SUFFIXES = (
    *MRI_SUFFIXES,
    *("FLASH", "IRT1", "MEGRE", "MESE", "MP2RAGE", "MPM", "MTR", "MTS", "VFA"),
    *("PD", "PDT2", "T2star", "UNIT1", "angio", "inplaneT1", "inplaneT2", "swi"),
    *("Chimap", "M0map", "MTRmap", "MTVmap", "MTsat", "MWFmap", "PDmap", "PDT2map", "R1map"),
    *("R2map", "R2starmap", "S0map", "T1map", "T1rho", "T2map", "T2starmap"),
)
LEVELS = ("participant", "group")
NO_TEMPLATE = "none"
# Number of posterior samples for --uncertainty: default and limits.
DEFAULT_SAMPLES = 8
LEAST_SAMPLES, MOST_SAMPLES = 2, 256

Modality: TypeAlias = Literal["MR", "CT"]
Method: TypeAlias = Literal["super-resolution", "denoise", "linear"]
FieldOfView: TypeAlias = Literal["brain", "head"]
Alignment: TypeAlias = Literal["none", "rigid", "similarity"]
GroupMode: TypeAlias = Literal["auto", "refit", "reslice"]
AnatomicalReference: TypeAlias = Literal["sessionwise", "first-lex", "unbiased"]
LearningEffort: TypeAlias = Literal["full", "brief"]
RegScale: TypeAlias = float | Literal["auto"]
GridPolicy: TypeAlias = Literal["pow23", "pow2", "multiple"]


@dataclass(frozen=True)
class ModelSettings:
    """Settings of the model, the same for every scan of a run.

    Parameters
    ----------
    voxel_size
        Voxel size in mm of the reconstructed images along x, y and z. Three zeros mean
        isotropic voxels of the finest voxel size of the scans; only ``denoise`` allows this.
    reg_scale
        Strength of the prior, without unit. The weight of contrast c is
        ``reg_scale * sqrt(C) / mean(mu_c)`` (Brudfors et al. 2018, with ``sqrt(1 / C)``).
        ``auto`` chooses the weights from the scans; see `model.strength`.
    tolerance
        The fit stops when an outer iteration lowers the objective by less than this fraction
        of its value. A fit of contrasts that all start from learned detail stops at five times
        the tolerance.
    max_iter
        Upper bound on the number of solver iterations. Iterations are counted from when the
        poses and the weights of the repeats no longer change. Groups of contrasts that are
        solved one after the other are counted separately.
    coregister
        Align all scans rigidly to each other before the fit. Without this, the poses in the
        headers are used.
    method
        ``super-resolution`` inverts the slice profiles under the prior. ``denoise`` uses the
        prior but treats the scans as point samples. ``linear`` interpolates the scans without
        any prior.
    unified_rigid
        Refine the poses of the scans within the fit.
    interleave_correction
        Estimate, for every scan, the ratio of intensity between its odd and even slices.
    uncertainty
        Number of posterior samples from which the standard deviation of every voxel is
        estimated; None for no map of standard deviations.
    slice_motion
        Estimate a separate pose for each group of slices of a 2-D scan.
    robust
        Weight every slice by how well all other data predict it, and leave out bad slices.
    learned_detail
        Where a contrast has a single scan of thick slices, learn the detail within the slices
        from the planes of this scan and from the other contrasts.
    learning_effort
        ``full``, or ``brief`` for a quick try: it takes a few seconds and learns less.

    Raises
    ------
    UsageError
        If a value is outside its range, or two values contradict each other; the message names
        the option.
    """

    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    reg_scale: RegScale = "auto"
    tolerance: float = 2e-5
    max_iter: int = 200
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
    """The space and grid of the images of a participant.

    Parameters
    ----------
    common_output
        Put the images of all participants on one grid: the box of the template, with numbers of
        voxels that a neural network can halve several times. Needs an alignment and a voxel
        size.
    fov
        The region that the common grid has to contain: the brain or the head.
    template
        Name of the template in TemplateFlow, or ``none``: the group level then aligns the
        participants to their own mean.
    align
        Transformation by which the scans are aligned to the template before the fit. At the
        group level, that by which the participants are aligned to the template or to their mean.
        ``similarity`` is a rigid transformation with one scale for all axes.

    Raises
    ------
    UsageError
        If a value is not one of those allowed, or another setting needs a template and
        ``template`` is ``none``.
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
    """How the group level brings the images of all participants to one grid.

    Parameters
    ----------
    mode
        ``refit`` reconstructs every participant again on the shared grid, ``reslice``
        interpolates the images of the participant level, and ``auto`` reconstructs the
        participants whose scans are available and interpolates the images of the others.
    grid_policy
        Numbers of voxels allowed along the sides of the grid: ``pow23`` allows 2^k and 3*2^k,
        ``pow2`` 2^k, and ``multiple`` the multiples of ``grid_multiple``.
    grid_multiple
        Number of voxels for the policy ``multiple``.
    grid_margin
        Margin in mm around every brain or head.

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
    """The options of one call of the command line; ``bids_unires --help`` explains each field.

    Participant and session labels have no ``sub-`` or ``ses-`` prefix. An empty tuple selects
    everything. ``modalities`` holds BIDS suffixes, such as ``T1w``.
    ``subject_anatomical_reference`` says whether each session has a space of its own, or all
    sessions of a participant share that of the first or that of their mean position.
    With ``looks_for_damage`` a participant of whom slices seem damaged is fitted robustly, unless
    the model is robust anyway or cannot be; see `may_become_robust`. With
    ``looks_for_uneven_slices`` slices are made as bright as each other where odd and even ones
    differ. With ``detectability`` small lesions are put into the scans of each participant, to say
    what would become of them. With ``measured_map`` there is a file beside each image with the
    share of its detail that the scans measured, which the page shows anyway.

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
    subject_anatomical_reference: AnatomicalReference = "sessionwise"
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
    json: bool = False
    resume: bool = True
    reports_only: bool = False
    stop_on_first_crash: bool = False
    verbosity: int = 0
    looks_for_damage: bool = True
    looks_for_uneven_slices: bool = True
    detectability: bool = False
    measured_map: bool = False
    model: ModelSettings = field(default_factory=ModelSettings)
    space: SpaceSettings = field(default_factory=SpaceSettings)
    group: GroupSettings = field(default_factory=GroupSettings)

    def __post_init__(self) -> None:
        option = "subject-anatomical-reference"
        _check_choice(option, self.subject_anatomical_reference, AnatomicalReference)
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
        if self.has_shared_visits and self.model.voxel_size == (0, 0, 0):
            raise UsageError(
                f"--{option} {self.subject_anatomical_reference} needs one voxel size for all "
                "visits, and --denoise takes that of the scans: name one by --voxel-size"
            )

    @property
    def may_become_robust(self) -> bool:
        """Whether a look at the slices decides if the fit of a participant is robust."""
        decided = self.model.robust or self.model.slice_motion or self.model.method == "linear"
        return self.looks_for_damage and not decided and self.level == "participant"

    @property
    def may_even_slices(self) -> bool:
        """Whether a look at the slices decides if odd and even ones are made as bright."""
        decided = self.model.interleave_correction or self.model.method == "linear"
        return self.looks_for_uneven_slices and not decided and self.level == "participant"

    @property
    def has_shared_visits(self) -> bool:
        """Whether all sessions of a participant share one space and grid."""
        return self.subject_anatomical_reference != "sessionwise"

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
        """The configuration in the types of JSON and TOML: paths as strings, tuples as lists."""
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
