"""What the sidecar of an image says of how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self

from ..config import ModelSettings, SpaceSettings
from ..errors import UsageError
from ..model.assess.residuals import ResidualStatement
from ..model.detail.term import DetailStatement
from ..space.affines import Affine
from .entries import (
    Record,
    affine,
    entries,
    entry,
    flag,
    list_of,
    number,
    numbers,
    positive,
    settings,
    text,
    texts,
    vector,
    whole,
)
from .sidecar import SidecarRecord
from .slice_motion import SliceMotionRecord
from .slice_verdicts import SliceVerdictRecord

_OF_ANY_METHOD = ("voxel_size", "coregister", "method")
_OF_SUPER_RESOLUTION = ("learned_detail", "learning_effort")


@dataclass(frozen=True, eq=False)
class SliceProfileRecord(Record):
    """Which part of the head a slice of a scan shows.

    Parameters
    ----------
    in_plane, through_plane
        Shape of a voxel in the plane of the slices, and across them.
    source
        Where that comes from.
    slice_axis
        Voxel axis across the slices: 0, 1 or 2.
    gap
        Share of the slice spacing that was not measured; negative where slices overlap.
    gap_source
        Where that comes from.
    """

    has_all_keys: ClassVar[bool] = True

    in_plane: str | None = entry("InPlane", text)
    through_plane: str | None = entry("ThroughPlane", text)
    source: str | None = entry("Source", text)
    slice_axis: int | None = entry("SliceAxis", whole)
    gap: float | None = entry("Gap", number)
    gap_source: str | None = entry("GapSource", text)


@dataclass(frozen=True, eq=False)
class ResidualRecord(Record):
    """What the image leaves unexplained of a scan, in units of the scan's noise.

    Parameters
    ----------
    mean, sd
        Of all voxels of the head; 0 and 1 for an image that explains the scan, no more and no
        less.
    robust_sd
        From the median of the absolute values; a few outliers do not change it.
    autocorrelation
        Between neighbours along each voxel axis of the scan; 0 for white noise.
    share_beyond_4_sd
        Share of the voxels beyond four standard deviations of the noise, 0 to 1.
    voxels
        How many voxels this is based on.
    deviations
        In words, what does not look like noise.
    """

    has_all_keys: ClassVar[bool] = True

    mean: float | None = entry("Mean", number)
    sd: float | None = entry("SD", number)
    robust_sd: float | None = entry("RobustSD", number)
    autocorrelation: tuple[float | None, ...] | None = entry("Autocorrelation", numbers)
    share_beyond_4_sd: float | None = entry("ShareBeyond4SD", number)
    voxels: int | None = entry("Voxels", whole)
    deviations: tuple[str, ...] | None = entry("Deviations", texts)

    @classmethod
    def of_statement(cls, statement: ResidualStatement) -> Self:
        """Take down what is left unexplained of a scan."""
        return cls(
            statement.mean,
            statement.sd,
            statement.robust_sd,
            statement.autocorrelation,
            statement.far_share,
            statement.voxels,
            statement.deviations,
        )


def _slice_motion(value: object) -> SliceMotionRecord | None:
    # Written as null where slices might have moved, and were kept together.
    return SliceMotionRecord(groups=()) if value is None else SliceMotionRecord.nested(value)


@dataclass(frozen=True, eq=False)
class ScanRecord(Record):
    """What was found out about one scan of the image's contrast.

    Parameters
    ----------
    source
        BIDS URI of the scan.
    noise_sd
        Standard deviation of its noise, in the units of its intensities.
    tau
        Precision of its noise, ``1 / noise_sd^2``.
    mu
        Mean of the head minus mean of the background, in the units of its intensities.
    noise_method
        How the noise was estimated: ``rice-mixture``, ``gaussian-mixture``, ``high-pass-mad``.
    residual_scale
        Scale of its residuals in the units of its intensities: its noise, or more where repeats
        of one contrast disagree.
    interleave_log_scale
        Logarithm of the factor between its even slices and the mean; 0 where it was not
        estimated.
    slice_profile
        Which part of the head each of its slices shows.
    residual
        What the image leaves unexplained of it.
    verdict
        How far its slices are believed; None where the fit was not robust.
    origin_shift
        How far CT was moved before it got its pose, in mm along x, y and z; None where the
        origin was not reset.
    pose
        ``(4, 4)``, world mm of the scan (of CT whose origin was reset: of the shifted scan) ->
        world mm of the image.
    pose_parameters
        The same as three shifts (mm) and three rotations (rad); None where the scan was scaled,
        as to a template.
    slice_motion
        How its slices moved, without any group where they were kept together; None where that was
        not asked for.
    """

    source: str | None = entry("Source", text)
    noise_sd: float | None = entry("NoiseSD", number)
    tau: float | None = entry("Tau", number)
    mu: float | None = entry("Mu", number)
    noise_method: str | None = entry("NoiseMethod", text)
    residual_scale: float | None = entry("ResidualScale", number)
    interleave_log_scale: float | None = entry("InterleaveLogScale", number)
    slice_profile: SliceProfileRecord | None = entry("SliceProfile", SliceProfileRecord.nested)
    residual: ResidualRecord | None = entry("Residual", ResidualRecord.nested)
    verdict: SliceVerdictRecord | None = entries(SliceVerdictRecord.from_json)
    origin_shift: tuple[float, ...] | None = entry("OriginShift", vector)
    pose: Affine | None = entry("Pose", affine)
    pose_parameters: tuple[float, ...] | None = entry("PoseParameters", vector)
    slice_motion: SliceMotionRecord | None = entry("SliceMotion", _slice_motion)

    def to_json(self) -> dict[str, Any]:
        """The record in the types of JSON."""
        content = super().to_json()
        if self.slice_motion is not None and self.slice_motion.groups == ():
            content["SliceMotion"] = None
        return content


@dataclass(frozen=True, eq=False)
class DetailRecord(Record):
    """How good the detail is that was learned within the slices of a contrast's only scan.

    Parameters
    ----------
    error_sd
        Root mean square of its errors where the truth is known, in the units of the scan.
    explained_share
        Share of the detail's variance that was found there, at most 1.
    other_contrast
        Whether another contrast was looked at, too.
    """

    has_all_keys: ClassVar[bool] = True

    error_sd: float | None = entry("ErrorSD", positive)
    explained_share: float | None = entry("ExplainedShare", number)
    other_contrast: bool | None = entry("OtherContrast", flag)

    @classmethod
    def of_statement(cls, statement: DetailStatement) -> Self:
        """Take down how good learned detail is."""
        return cls(statement.error_sd, statement.explained, statement.used_other_contrast)

    @property
    def statement(self) -> DetailStatement | None:
        """How good learned detail is, where this tells."""
        if self.error_sd is None or self.explained_share is None or self.explained_share > 1:
            return None
        return DetailStatement(self.error_sd, self.explained_share, self.other_contrast is True)


@dataclass(frozen=True, eq=False)
class PriorRecord(Record):
    """What the fit believed of a contrast before it saw the scans.

    Parameters
    ----------
    weight
        Of the total variation of the contrast, in mm / intensity.
    learned_detail
        How good what was learned of the inside of its slices is; None where nothing was.
    """

    has_all_keys: ClassVar[bool] = True

    weight: float | None = entry("Lambda", positive)
    learned_detail: DetailRecord | None = entry("LearnedDetail", DetailRecord.nested)


def _prior(image: object) -> PriorRecord | None:
    has_any = isinstance(image, Mapping) and ("Lambda" in image or "LearnedDetail" in image)
    return PriorRecord.from_json(image) if has_any else None


@dataclass(frozen=True, eq=False)
class RegriddingRecord(Record):
    """How an image came to the grid of the study.

    Parameters
    ----------
    mode
        ``refit``, reconstructed on it from the scans, or ``reslice``, interpolated.
    image
        BIDS URI of the participant level's image.
    transform
        BIDS URI of the transform of that image into the space of the study.
    study_from_image
        ``(4, 4)``, the same: world mm of that image -> world mm of the study.
    """

    has_all_keys: ClassVar[bool] = True

    mode: str | None = entry("Mode", text)
    image: str | None = entry("Image", text)
    transform: str | None = entry("Transform", text)
    study_from_image: Affine | None = entry("StudyFromImage", affine)


@dataclass(frozen=True)
class QualityRecord(Record):
    """Numbers about a finished image that need no truth.

    Parameters
    ----------
    region
        Where was looked: ``brain`` or ``head``.
    voxels
        How many that are.
    mean_intensity
        Mean of the image there, in its units; None where there is no voxel.
    sharpness
        Mean length of the gradient there over the range of intensities (5th to 95th percentile),
        in 1/mm; None where there is no voxel, or one intensity.
    """

    has_all_keys: ClassVar[bool] = True

    region: str | None = entry("Region", text)
    voxels: int | None = entry("Voxels", whole)
    mean_intensity: float | None = entry("MeanIntensity", number)
    sharpness: float | None = entry("Sharpness", number)


@dataclass(frozen=True, eq=False)
class ImageRecord(SidecarRecord):
    """How an image was made of its scans.

    Parameters
    ----------
    version
        Of the program.
    settings
        By name: those of the model that the image depends on, and those of its space.
    device
        Where it was computed: ``cpu`` or the name of the GPU.
    iterations
        Of the solver, over all contrasts.
    converged
        Whether the fit met its tolerance, rather than its bound on iterations.
    objective
        The value of the objective at the end.
    runtime_seconds
        Wall time in s that the participant (and session) had taken when the image was written.
    peak_memory_bytes
        Largest resident size of the process until then.
    head_share
        Share of the head that the scans of its contrast measured, 0 to 1, where the head is what
        any image of the participant shows of one; None where that was not found out.
    prior
        What the fit believed before it saw the scans; None where images were interpolated
        without one.
    scans
        The scans of the image's contrast.
    regridding
        How it came to the grid of the study; None at the participant level.
    quality
        Numbers about it; None at the participant level.
    """

    version: str | None = entry("Version", text)
    settings: Mapping[str, Any] | None = entry("Settings", settings)
    device: str | None = entry("Device", text)
    iterations: int | None = entry("Iterations", whole)
    converged: bool | None = entry("Converged", flag)
    objective: float | None = entry("Objective", number)
    runtime_seconds: float | None = entry("RuntimeSeconds", number)
    peak_memory_bytes: int | None = entry("PeakMemoryBytes", whole)
    head_share: float | None = entry("HeadShare", number)
    prior: PriorRecord | None = entries(_prior)
    scans: tuple[ScanRecord, ...] | None = entry("Scans", list_of(ScanRecord))
    regridding: RegriddingRecord | None = entry("Group", RegriddingRecord.nested)
    quality: QualityRecord | None = entry("Quality", QualityRecord.nested)

    @property
    def weight(self) -> float | None:
        """Weight of the prior in mm / intensity."""
        return None if self.prior is None else self.prior.weight

    @property
    def detail(self) -> DetailStatement | None:
        """How good what was learned of the inside of slices is."""
        learned = None if self.prior is None else self.prior.learned_detail
        return None if learned is None else learned.statement

    @property
    def scan_by_uri(self) -> dict[str, ScanRecord]:
        """What is said of the scans, by their URIs."""
        return {scan.source: scan for scan in self.scans or () if scan.source is not None}

    @property
    def poses(self) -> dict[str, Affine]:
        """Poses of the scans, by their URIs; see `ScanRecord`."""
        known = self.scan_by_uri.items()
        return {uri: scan.pose for uri, scan in known if scan.pose is not None}

    @property
    def model(self) -> ModelSettings:
        """Settings of the model, as far as stated; all defaults where one of them is unusable."""
        names = {own.name for own in fields(ModelSettings)}
        stated = {name: own for name, own in (self.settings or {}).items() if name in names}
        try:
            if "voxel_size" in stated:
                stated["voxel_size"] = tuple(stated["voxel_size"])
            return ModelSettings(**stated)
        except (UsageError, TypeError, ValueError):
            return ModelSettings()


def stated_settings(model: ModelSettings, space: SpaceSettings) -> dict[str, Any]:
    """The settings that images depend on, by name: all in a fit, few in an interpolation."""
    own = asdict(model)
    if model.method == "linear":
        own = {name: own[name] for name in _OF_ANY_METHOD}
    elif model.method == "denoise":
        own = {name: own[name] for name in own if name not in _OF_SUPER_RESOLUTION}
    return {**own, **asdict(space)}


@dataclass(frozen=True)
class UncertaintyRecord(SidecarRecord):
    """How the standard deviations of an image came about.

    Parameters
    ----------
    version
        Of the program.
    statistic
        What the map shows.
    samples
        Of the posterior that it was estimated from.
    calibration_scale
        Factor on them, from the calibration.
    units
        Of the map, in words.
    """

    version: str | None = entry("Version", text)
    statistic: str | None = entry("Statistic", text)
    samples: int | None = entry("Samples", whole)
    calibration_scale: float | None = entry("CalibrationScale", number)
    units: str | None = entry("Units", text)
