"""Record of where the visits of a participant lie in the space that they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..space.affines import Affine
from ..space.grid import Grid
from .entries import Record, affine, entry, list_of, positive, text, whole_numbers
from .sidecar import SidecarRecord
from .template import TemplateRecord


def _ratios(value: object) -> Mapping[str, float] | None:
    if not isinstance(value, Mapping):
        return None
    found = {str(name): ratio for name, each in value.items() if (ratio := positive(each))}
    return found or None


@dataclass(frozen=True, eq=False)
class PlacedScanRecord(Record):
    """Where a scan lies in the shared space before the fit.

    Parameters
    ----------
    source
        BIDS URI of the scan.
    pose
        ``(4, 4)``, world mm of the scan -> world mm of the shared space. For CT whose origin was
        reset, it applies to the shifted scan.
    pose_uncertainty
        Standard deviation of the pose within its visit, in mm; None if it is not known.
    """

    source: str | None = entry("Source", text)
    pose: Affine | None = entry("Pose", affine)
    pose_uncertainty: float | None = entry("PoseUncertainty", positive)


@dataclass(frozen=True, eq=False)
class VisitRecord(Record):
    """One visit.

    Parameters
    ----------
    session
        Label, without ``ses-``.
    scans
        Its scans.
    brightness
        Median ratio of its intensities to those of the first visit that has the contrast, by
        contrast. The images are not scaled by it.
    """

    session: str | None = entry("Session", text)
    scans: tuple[PlacedScanRecord, ...] | None = entry("Scans", list_of(PlacedScanRecord))
    brightness: Mapping[str, float] | None = entry("Brightness", _ratios)


@dataclass(frozen=True, eq=False)
class VisitsRecord(SidecarRecord):
    """The space that all visits of a participant share, in the sidecar of the mask on its grid.

    Parameters
    ----------
    reference
        Where the space lies: ``first-lex`` or ``unbiased``.
    space
        Label of the space.
    shape
        Number of voxels of the grid along each axis.
    affine
        ``(4, 4)``, voxel indices of the grid -> world mm of the space.
    template
        The head that the space was aligned to; None if it was aligned to none.
    visits
        The visits, in natural order of their sessions.
    """

    reference: str | None = entry("AnatomicalReference", text)
    space: str | None = entry("Space", text)
    shape: tuple[int, ...] | None = entry("Shape", whole_numbers)
    affine: Affine | None = entry("Affine", affine)
    template: TemplateRecord | None = entry("TemplateSource", TemplateRecord.nested)
    visits: tuple[VisitRecord, ...] | None = entry("Visits", list_of(VisitRecord))

    @property
    def grid(self) -> Grid | None:
        """The grid; None if the record does not hold one."""
        if self.shape is None or self.affine is None or len(self.shape) != 3:
            return None
        x, y, z = self.shape
        return Grid((x, y, z), self.affine)

    @property
    def poses(self) -> dict[str, Affine]:
        """Poses ``(4, 4)`` of the scans of all visits, by their URIs."""
        return {
            scan.source: scan.pose
            for visit in self.visits or ()
            for scan in visit.scans or ()
            if scan.source is not None and scan.pose is not None
        }

    @property
    def uncertainties(self) -> dict[str, float]:
        """Uncertainties of the poses in mm, of the scans for which they are known, by URI."""
        return {
            scan.source: scan.pose_uncertainty
            for visit in self.visits or ()
            for scan in visit.scans or ()
            if scan.source is not None and scan.pose_uncertainty is not None
        }

    @property
    def brightness(self) -> dict[str, Mapping[str, float]]:
        """Ratios of intensities to those of the first visit, by session and contrast."""
        return {
            visit.session: visit.brightness or {}
            for visit in self.visits or ()
            if visit.session is not None
        }
