"""Reports: pages that open from disk, with the figures they show beside them."""

from .citation import group_methods_text, methods_text, write_citation
from .content import FitHistory, ParticipantReport, ReportedContrast, ReportedScan, ScanFit
from .group import PAGE_NAME, label_of, write_group_report
from .group_content import GroupReport, MeanPicture, MemberPicture, Reach, SharedGrid
from .outliers import Outlier, find_outliers
from .participant import page_path, write_participant_report

__all__ = [
    "PAGE_NAME",
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
    "find_outliers",
    "group_methods_text",
    "label_of",
    "methods_text",
    "page_path",
    "write_citation",
    "write_group_report",
    "write_participant_report",
]
