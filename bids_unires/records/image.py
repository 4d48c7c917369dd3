"""The record of how an image was made, in its sidecar."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self

from ..config import ModelSettings, SpaceSettings
from ..errors import UsageError
from ..model.assess.residuals import ResidualStatement
from ..model.detail.term import DetailStatement
from ..space.affines import Affine
from .detectability import DetectabilityRecord
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
from .template import TemplateRecord

_OF_ANY_METHOD = ("voxel_size", "coregister", "method")
_OF_SUPER_RESOLUTION = ("learned_detail", "learning_effort")


@dataclass(frozen=True, eq=False)
class SliceProfileRecord(Record):
    """The slice profile and slice gap of a scan.

    Parameters
    ----------
    in_plane, through_plane
        Slice profile in the plane of the slices, and along the slice axis.
    source
        How the profile was determined.
    slice_axis
        The slice axis: voxel axis 0, 1 or 2.
    gap
        Fraction of the slice spacing that was not measured; negative for overlapping slices.
    gap_source
        How the gap was determined.
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
    """Statistics of the residuals of a scan, in units of the standard deviation of its noise.

    Parameters
    ----------
    mean, sd
        Mean and standard deviation over the voxels of the head. They are 0 and 1 if the image
        explains the scan up to its noise.
    robust_sd
        Standard deviation from the median of the absolute values, which is robust to outliers.
    autocorrelation
        Correlation between neighbouring voxels along each voxel axis of the scan; 0 for white
        noise.
    share_beyond_4_sd
        Share of the voxels beyond four standard deviations of the noise, 0 to 1.
    voxels
        Number of voxels.
    deviations
        The ways, in words, in which the residuals differ from noise.
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
        """Make the record of the residuals of a scan."""
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
    # It is written as null if motion of the slices was allowed but they were kept together.
    return SliceMotionRecord(groups=()) if value is None else SliceMotionRecord.nested(value)


@dataclass(frozen=True, eq=False)
class ScanRecord(Record):
    """The values that were estimated for one scan of the contrast of the image.

    Parameters
    ----------
    source
        BIDS URI of the scan.
    noise_sd
        Standard deviation of its noise, in the units of its intensities.
    tau
        Precision of its noise, ``1 / noise_sd^2``; in CT over the number of voxels that show the
        same noise.
    mu
        Mean of the head minus mean of the background, in the units of its intensities.
    noise_method
        How the noise was estimated: ``rice-mixture``, ``gaussian-mixture``, ``high-pass-mad``.
    noise_kernel
        Standard deviation in voxels along each axis of the kernel that colours its noise; None if
        it is white.
    residual_scale
        Scale of its residuals in the units of its intensities: that of its noise, or larger if
        repeats of the contrast disagree.
    interleave_log_scale
        Logarithm of the intensity factor of its even slices, where the mean of even and odd slices
        has factor 1; 0 if it was not estimated.
    slice_profile
        Its slice profile and slice gap.
    residual
        Statistics of its residuals.
    verdict
        Rejected, repaired and weighted slices; None if the fit was not robust.
    origin_shift
        Shift of CT when its origin was reset, in mm along x, y and z; None if the origin was not
        reset.
    pose
        ``(4, 4)``, world mm of the scan -> world mm of the image. For CT whose origin was reset,
        it applies to the shifted scan.
    pose_parameters
        The pose as three translations (mm) and three rotations (rad); None if the scan was
        scaled, as to a template.
    pose_uncertainty
        Standard deviation of the pose against that of the first scan, from the alignment: root
        mean square displacement in mm at 70 mm from the middle of a human head; None if it is not
        known.
    slice_motion
        Motion of its slices, without groups if they were kept together; None if motion was not
        estimated.
    """

    source: str | None = entry("Source", text)
    noise_sd: float | None = entry("NoiseSD", number)
    tau: float | None = entry("Tau", number)
    mu: float | None = entry("Mu", number)
    noise_method: str | None = entry("NoiseMethod", text)
    noise_kernel: tuple[float, ...] | None = entry("NoiseKernel", vector)
    residual_scale: float | None = entry("ResidualScale", number)
    interleave_log_scale: float | None = entry("InterleaveLogScale", number)
    slice_profile: SliceProfileRecord | None = entry("SliceProfile", SliceProfileRecord.nested)
    residual: ResidualRecord | None = entry("Residual", ResidualRecord.nested)
    verdict: SliceVerdictRecord | None = entries(SliceVerdictRecord.from_json)
    origin_shift: tuple[float, ...] | None = entry("OriginShift", vector)
    pose: Affine | None = entry("Pose", affine)
    pose_parameters: tuple[float, ...] | None = entry("PoseParameters", vector)
    pose_uncertainty: float | None = entry("PoseUncertainty", positive)
    slice_motion: SliceMotionRecord | None = entry("SliceMotion", _slice_motion)

    def to_json(self) -> dict[str, Any]:
        """The record in the types of JSON."""
        content = super().to_json()
        if self.slice_motion is not None and self.slice_motion.groups == ():
            content["SliceMotion"] = None
        return content


@dataclass(frozen=True, eq=False)
class DetailRecord(Record):
    """Quality of the detail that was learned within the thick slices of a single scan.

    Parameters
    ----------
    error_sd
        Root mean square error of the learned detail where the truth is known, in the units of
        the scan.
    explained_share
        Share of the variance of the detail that was predicted there, at most 1.
    other_contrast
        Whether another contrast was used for learning, too.
    """

    has_all_keys: ClassVar[bool] = True

    error_sd: float | None = entry("ErrorSD", positive)
    explained_share: float | None = entry("ExplainedShare", number)
    other_contrast: bool | None = entry("OtherContrast", flag)

    @classmethod
    def of_statement(cls, statement: DetailStatement) -> Self:
        """Make the record of the quality of learned detail."""
        return cls(statement.error_sd, statement.explained, statement.used_other_contrast)

    @property
    def statement(self) -> DetailStatement | None:
        """The quality of learned detail; None if the record is incomplete."""
        if self.error_sd is None or self.explained_share is None or self.explained_share > 1:
            return None
        return DetailStatement(self.error_sd, self.explained_share, self.other_contrast is True)


@dataclass(frozen=True, eq=False)
class PriorRecord(Record):
    """The prior of a contrast.

    Parameters
    ----------
    weight
        Weight of the total variation of the contrast, in mm / intensity.
    learned_detail
        Quality of the detail learned within its thick slices; None if none was learned.
    """

    has_all_keys: ClassVar[bool] = True

    weight: float | None = entry("Lambda", positive)
    learned_detail: DetailRecord | None = entry("LearnedDetail", DetailRecord.nested)


def _prior(image: object) -> PriorRecord | None:
    has_any = isinstance(image, Mapping) and ("Lambda" in image or "LearnedDetail" in image)
    return PriorRecord.from_json(image) if has_any else None


@dataclass(frozen=True, eq=False)
class RegriddingRecord(Record):
    """How an image on the grid of the study was made.

    Parameters
    ----------
    mode
        ``refit`` if it was reconstructed on this grid from the scans, ``reslice`` if it was
        interpolated.
    image
        BIDS URI of the image of the participant level.
    transform
        BIDS URI of the transform of that image to the space of the study.
    study_from_image
        ``(4, 4)``, that transform: world mm of the image -> world mm of the study.
    """

    has_all_keys: ClassVar[bool] = True

    mode: str | None = entry("Mode", text)
    image: str | None = entry("Image", text)
    transform: str | None = entry("Transform", text)
    study_from_image: Affine | None = entry("StudyFromImage", affine)


@dataclass(frozen=True)
class QualityRecord(Record):
    """Measures of the quality of an image that need no reference image.

    Parameters
    ----------
    region
        Region in which they were computed: ``brain`` or ``head``.
    voxels
        Number of voxels of the region.
    mean_intensity
        Mean intensity in the region, in the units of the image; None if the region is empty.
    sharpness
        Mean length of the gradient in the region, divided by the range of intensities (5th to
        95th percentile), in 1/mm; None if the region is empty or constant.
    """

    has_all_keys: ClassVar[bool] = True

    region: str | None = entry("Region", text)
    voxels: int | None = entry("Voxels", whole)
    mean_intensity: float | None = entry("MeanIntensity", number)
    sharpness: float | None = entry("Sharpness", number)


@dataclass(frozen=True, eq=False)
class ImageRecord(SidecarRecord):
    """How an image was made from its scans.

    Parameters
    ----------
    version
        Version of the program.
    settings
        Settings by name: those of the model that the image depends on, and those of its space.
    device
        Device of the computation: ``cpu`` or the name of the GPU.
    iterations
        Number of iterations of the solver, over all contrasts.
    converged
        Whether the fit reached its tolerance before its largest number of iterations.
    objective
        Value of the objective at the end.
    runtime_seconds
        Wall time in s from the start of the participant (and session) until the image was
        written.
    peak_memory_bytes
        Largest resident set size of the process until then, in bytes.
    head_share
        Share of the head that the scans of its contrast measured, 0 to 1. The head is the region
        that any image of the participant shows. None if it was not determined.
    template
        The head that the images were aligned to; None if they were aligned to none.
    prior
        The prior of the contrast; None if the image was interpolated without a fit.
    scans
        The scans of the contrast of the image.
    detectability
        What small lesions would become; None if that is not known.
    regridding
        How it was brought to the grid of the study; None at the participant level.
    quality
        Measures of its quality; None at the participant level.
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
    template: TemplateRecord | None = entry("TemplateSource", TemplateRecord.nested)
    prior: PriorRecord | None = entries(_prior)
    scans: tuple[ScanRecord, ...] | None = entry("Scans", list_of(ScanRecord))
    detectability: DetectabilityRecord | None = entry("Detectability", DetectabilityRecord.nested)
    regridding: RegriddingRecord | None = entry("Group", RegriddingRecord.nested)
    quality: QualityRecord | None = entry("Quality", QualityRecord.nested)

    @property
    def weight(self) -> float | None:
        """Weight of the prior in mm / intensity; None if it is not known."""
        return None if self.prior is None else self.prior.weight

    @property
    def detail(self) -> DetailStatement | None:
        """Quality of the detail learned within thick slices; None if it is not known."""
        learned = None if self.prior is None else self.prior.learned_detail
        return None if learned is None else learned.statement

    @property
    def scan_by_uri(self) -> dict[str, ScanRecord]:
        """Records of the scans, by their BIDS URIs."""
        return {scan.source: scan for scan in self.scans or () if scan.source is not None}

    @property
    def poses(self) -> dict[str, Affine]:
        """Poses of the scans, ``(4, 4)``, by their BIDS URIs; see `ScanRecord`."""
        known = self.scan_by_uri.items()
        return {uri: scan.pose for uri, scan in known if scan.pose is not None}

    @property
    def model(self) -> ModelSettings:
        """Settings of the model; defaults for those not recorded, and for all if one is invalid."""
        names = {own.name for own in fields(ModelSettings)}
        stated = {name: own for name, own in (self.settings or {}).items() if name in names}
        try:
            if "voxel_size" in stated:
                stated["voxel_size"] = tuple(stated["voxel_size"])
            return ModelSettings(**stated)
        except (UsageError, TypeError, ValueError):
            return ModelSettings()


def stated_settings(model: ModelSettings, space: SpaceSettings) -> dict[str, Any]:
    """The settings that images depend on, by name: all for a fit, few for an interpolation."""
    own = asdict(model)
    if model.method == "linear":
        own = {name: own[name] for name in _OF_ANY_METHOD}
    elif model.method == "denoise":
        own = {name: own[name] for name in own if name not in _OF_SUPER_RESOLUTION}
    return {**own, **asdict(space)}


@dataclass(frozen=True)
class UncertaintyRecord(SidecarRecord):
    """How the map of standard deviations of an image was made.

    Parameters
    ----------
    version
        Version of the program.
    statistic
        The statistic that the map shows.
    samples
        Number of posterior samples from which it was estimated.
    calibration_scale
        Factor from the calibration by which the standard deviations of samples were multiplied.
    extremes_scale
        Factor of what was added to them: the distance of a voxel from the nearer extreme around it.
    units
        Units of the map, in words.
    """

    version: str | None = entry("Version", text)
    statistic: str | None = entry("Statistic", text)
    samples: int | None = entry("Samples", whole)
    calibration_scale: float | None = entry("CalibrationScale", number)
    extremes_scale: float | None = entry("ExtremesScale", number)
    units: str | None = entry("Units", text)


@dataclass(frozen=True)
class MeasuredRecord(SidecarRecord):
    """What the map of how much of the detail of an image was measured shows.

    Parameters
    ----------
    version
        Version of the program.
    statistic
        The statistic that the map shows.
    units
        Units of the map.
    median
        Median share where the image is above 0; None where it is nowhere.
    """

    version: str | None = entry("Version", text)
    statistic: str | None = entry("Statistic", text)
    units: str | None = entry("Units", text)
    median: float | None = entry("Median", number)
