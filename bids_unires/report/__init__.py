"""Reports: pages that open from disk, and their figures.

- `participant`, `visits`, `group`: write the page of a participant, of the visits of one, and of a
  cohort.
- `content`, `group_content`: the content of these pages, without its layout.
- `figure_folder`: the folder of the figures of a participant.
- `page`: fills in the templates of pages.
- `planes`: planes through the head, in which images are shown.
- `mosaic`: pictures from intensities in these planes.
- `flicker`: pictures of which the reader sees one at a time.
- `figures`: charts.
- `motion`, `slice_motion`: motion of scans and of slices, in mm and degrees.
- `quality_table`, `outliers`: the cohort's table of quality, and its outliers.
- `citation`: the text for a methods section, and its references.
"""

from .citation import group_methods_text, methods_text, write_citation
from .content import FitHistory, ParticipantReport, ReportedContrast, ReportedScan, ScanFit
from .group import PAGE_NAME, label_of, write_group_report
from .group_content import GroupReport, MeanPicture, MemberPicture, Reach, SharedGrid
from .outliers import Outlier, find_outliers
from .participant import page_path, write_participant_report
from .visits import (
    ComparedContrast,
    VisitImage,
    VisitRow,
    VisitsReport,
    visits_page_path,
    write_visits_report,
)

__all__ = [
    "PAGE_NAME",
    "ComparedContrast",
    "FitHistory",
    "GroupReport",
    "MeanPicture",
    "MemberPicture",
    "Outlier",
    "ParticipantReport",
    "Reach",
    "ReportedContrast",
    "ReportedScan",
    "ScanFit",
    "SharedGrid",
    "VisitImage",
    "VisitRow",
    "VisitsReport",
    "find_outliers",
    "group_methods_text",
    "label_of",
    "methods_text",
    "page_path",
    "visits_page_path",
    "write_citation",
    "write_group_report",
    "write_participant_report",
    "write_visits_report",
]
